"""All that differs between the two supported stacks, ``requirements/current.txt`` and ``classic.txt``."""

from .environment import EnvironmentConflict, check_environment, versions, versions_in_a_line
from .mmrazor import mend_mmrazor_when_imported, require_mmrazor
from .torch import (
    accelerator_available,
    compile_in_place,
    compiled_networks_run_hooks,
    full_precision,
    prepare_distributed,
    stop_workers,
)

__all__ = ['EnvironmentConflict', 'accelerator_available', 'check_environment', 'compile_in_place',
           'compiled_networks_run_hooks', 'full_precision', 'mend_mmrazor_when_imported',
           'prepare_distributed', 'require_mmrazor', 'stop_workers', 'versions', 'versions_in_a_line']
