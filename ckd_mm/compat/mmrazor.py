"""mmrazor 1.0.0 on a torch and mmcv that are newer than it."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from functools import partial
from types import ModuleType

from ..errors import in_a_line
from .environment import EnvironmentConflict, installed_versions, versions_in_a_line

QUANTIZATION = 'mmrazor.structures.quantization'
MENDED = ('mmrazor', 'mmrazor.structures.graph.channel_flow', 'mmrazor.models.task_modules.tracer.fx_tracer')


def mend_mmrazor_when_imported() -> None:
    """Nothing is imported here, see :class:`MMRazorFinder`."""
    if not any(isinstance(finder, MMRazorFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MMRazorFinder())


def require_mmrazor(wanted_by: str) -> ModuleType:
    """Import mmrazor with its models registered.

    Raises:
        EnvironmentConflict: mmrazor is missing or cannot be imported; the message names ``wanted_by``.
    """
    mend_mmrazor_when_imported()
    for name in ('mmrazor', 'joblib'):
        if importlib.util.find_spec(name) is None:
            raise EnvironmentConflict(f'{wanted_by} needs {name}, which is not installed: pip install '
                                      'mmrazor==1.0.0 joblib (distillation of logits does not need it)')
    try:
        importlib.import_module('mmrazor.models')
        importlib.import_module('mmrazor.engine')
    except Exception as error:  # whatever mmrazor trips over, its name and the reason are what the user needs
        version = installed_versions('mmrazor').get('mmrazor')
        raise EnvironmentConflict(f'{wanted_by} needs mmrazor, and mmrazor {version} cannot be imported with '
                                  f'{versions_in_a_line()}: {in_a_line(error)}') from error
    return sys.modules['mmrazor']


class MMRazorFinder(importlib.abc.MetaPathFinder):
    """Hides mmcv's version from mmrazor's assertion (its distillation code runs with mmcv 2.3), keeps the
    recursion limit, which mmrazor raises so far that deeply nested JSON overflows the stack, and puts a
    stand-in where ``mmrazor.structures.quantization`` would build tables from torch functions that were
    renamed after torch 1.13."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname in MENDED:
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            if spec is not None and spec.loader is not None:
                spec.loader.exec_module = partial(_exec_mended, spec.loader.exec_module)
            return spec
        if fullname == QUANTIZATION or fullname.startswith(f'{QUANTIZATION}.'):
            return importlib.machinery.ModuleSpec(fullname, _StandIn(), is_package=True)
        return None


def _exec_mended(exec_module, module: ModuleType) -> None:
    import mmcv
    real, limit = mmcv.__version__, sys.getrecursionlimit()
    mmcv.__version__ = min(real, '2.1.0', key=lambda version: [int(part) for part in version.split('.')[:2]])
    try:
        exec_module(module)
    finally:
        mmcv.__version__ = real
        sys.setrecursionlimit(limit)


class _StandIn(importlib.abc.Loader):
    """Loads a module whose names exist and raise an error when they are called."""

    def exec_module(self, module: ModuleType) -> None:

        def missing(name: str):
            if name.startswith('__'):
                raise AttributeError(name)

            def refuse(*args, **kwargs):
                raise NotImplementedError(f"{module.__name__}.{name}: mmrazor 1.0.0's quantization needs "
                                          'torch 1.13 and was left out by ckd_mm')
            return refuse

        module.__getattr__ = missing
        module.__all__ = []
