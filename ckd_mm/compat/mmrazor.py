"""mmrazor 1.0.0 on a torch and mmcv that are newer than it."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

from .environment import EnvironmentConflict, installed_version, versions_in_a_line

QUANTIZATION = 'mmrazor.structures.quantization'


def mend_mmrazor_when_imported() -> None:
    """Let mmrazor 1.0.0 import on a torch and mmcv that are newer than it.

    Nothing is imported here: a finder waits for somebody to import mmrazor. It then hides mmcv's version from
    mmrazor's assertion (its distillation code runs with mmcv 2.3) and puts a stand-in where
    ``mmrazor.structures.quantization`` would build tables from torch functions that were renamed after torch
    1.13.
    """
    if not any(isinstance(finder, MMRazorFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MMRazorFinder())


def require_mmrazor(wanted_by: str) -> ModuleType:
    """Import mmrazor with its models registered.

    Raises:
        EnvironmentConflict: mmrazor is missing or cannot be imported; the message is one line and names
            ``wanted_by``.
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
        raise EnvironmentConflict(
            f'{wanted_by} needs mmrazor, and mmrazor {installed_version("mmrazor")} cannot be imported with '
            f'{versions_in_a_line()}: {type(error).__name__}: {error}') from error
    return sys.modules['mmrazor']


class MMRazorFinder(importlib.abc.MetaPathFinder):

    def find_spec(self, fullname, path=None, target=None):
        if fullname == 'mmrazor':
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            if spec is not None and spec.loader is not None:
                spec.loader = _NewerMMCVAllowed(spec.loader)
            return spec
        if fullname == QUANTIZATION or fullname.startswith(QUANTIZATION + '.'):
            return importlib.machinery.ModuleSpec(fullname, _StandIn(), is_package=True)
        return None


class _NewerMMCVAllowed(importlib.abc.Loader):
    """Runs mmrazor's ``__init__`` with an mmcv version that its assertion accepts."""

    def __init__(self, loader) -> None:
        self.loader = loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module) -> None:
        import mmcv
        real = mmcv.__version__
        mmcv.__version__ = min(real, '2.1.0',
                               key=lambda version: [int(part) for part in version.split('.')[:2]])
        try:
            self.loader.exec_module(module)
        finally:
            mmcv.__version__ = real


class _StandIn(importlib.abc.Loader):
    """An importable module whose names exist and say, when used, why they do nothing."""

    def create_module(self, spec):
        return None

    def exec_module(self, module) -> None:

        def missing(name: str):
            if name.startswith('__'):
                raise AttributeError(name)

            def refuse(*args, **kwargs):
                raise NotImplementedError(
                    f"{module.__name__}.{name}: mmrazor 1.0.0's quantization needs torch 1.13 and was left "
                    "out by ckd_mm")

            refuse.__name__ = name
            return refuse

        module.__getattr__ = missing
        module.__all__ = []
