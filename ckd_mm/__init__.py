"""Checkpoint distillation for OpenMMLab. Importing the package registers its parts and does nothing else."""

from .compat import check_environment, mend_mmrazor_when_imported

# before anything of OpenMMLab is imported, so that a broken environment is named and not stumbled over
check_environment()
mend_mmrazor_when_imported()

from . import backbones, data, hooks, losses, pipeline, selection, students, teachers  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = [
    '__version__', 'backbones', 'data', 'hooks', 'losses', 'pipeline', 'selection', 'students', 'teachers'
]
