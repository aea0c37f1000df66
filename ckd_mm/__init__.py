"""Checkpoint distillation for OpenMMLab. Importing the package registers its parts and does nothing else."""

from .compat import check_environment, mend_mmrazor_when_imported

# before anything of OpenMMLab is imported, so that a broken environment is named
check_environment()
mend_mmrazor_when_imported()

from . import backbones, classifier_heads, data, evaluation, hooks, losses, selection, students, teachers  # noqa: E402
from .pipeline import resumable_loop, runner  # noqa: E402, F401
from .version import __version__  # noqa: E402

__all__ = ['__version__', 'backbones', 'classifier_heads', 'data', 'hooks', 'evaluation', 'losses',
           'selection', 'students', 'teachers']
