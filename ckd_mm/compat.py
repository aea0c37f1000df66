"""Everything that differs between versions of torch and the OpenMMLab packages, and nothing else.

Two stacks are supported (``requirements/current.txt``, ``requirements/classic.txt``); they provide the same modules.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
from types import ModuleType
from typing import Dict, List, Optional, Tuple

from .errors import CkdError

# distributions that provide the same importable module: at most one of each may be installed
PROVIDERS: Dict[str, Tuple[str, ...]] = {
    'mmengine': ('mmengine', 'mmengine-lite', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'mmcv-lite', 'onedl-mmcv'),
    'mmpretrain': ('mmpretrain', 'onedl-mmpretrain'),
}
INSTALL_HINT = "pip install -e '.[current]' (or '.[classic]' for torch 2.1; see README, Installation)"


class EnvironmentConflict(CkdError, ImportError):
    """Installed packages that cannot work together."""


def installed_version(distribution: str) -> Optional[str]:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def providers_of(module: str) -> Dict[str, str]:
    """Installed distributions that provide ``module``, and their versions."""
    found = {name: installed_version(name) for name in PROVIDERS[module]}
    return {name: version for name, version in found.items() if version is not None}


def check_environment() -> None:
    """
    Raises:
        EnvironmentConflict: two distributions write the same module (say ``mmengine`` and ``onedl-mmengine``), or a
            module that the package needs is missing.
    """
    for module in PROVIDERS:
        found = providers_of(module)
        if len(found) > 1:
            names = ' and '.join(f'{name} {version}' for name, version in found.items())
            raise EnvironmentConflict(
                f'{names} are both installed and both provide the module "{module}": their files overwrite each other. '
                f'Make a fresh environment with one stack: {INSTALL_HINT}')
        if not found and importlib.util.find_spec(module) is None:
            raise EnvironmentConflict(f'ckd_mm needs the module "{module}", which is not installed: {INSTALL_HINT}')


def versions() -> Dict[str, str]:
    """What a result was made with: module name to "distribution version"."""
    import torch
    result = {'python': '.'.join(map(str, sys.version_info[:3])), 'torch': torch.__version__}
    for module in PROVIDERS:
        result[module] = ', '.join(f'{name} {version}' for name, version in providers_of(module).items())
    for name in ('torchvision', 'mmrazor', 'numpy'):
        version = installed_version(name)
        if version is not None:
            result[name] = version
    from .version import __version__
    result['ckd_mm'] = __version__
    return result


# ---------------------------------------------------------------- mmrazor ------------------------------------------
QUANTIZATION = 'mmrazor.structures.quantization'


def mend_mmrazor_when_imported() -> None:
    """Let mmrazor 1.0.0 import on a torch and mmcv that are newer than it.

    Nothing is imported here: a finder waits for somebody to import mmrazor. It then hides mmcv's version from
    mmrazor's assertion (its distillation code runs with mmcv 2.3) and puts a stand-in where
    ``mmrazor.structures.quantization`` would build tables from torch functions that were renamed after torch 1.13.
    """
    if not any(isinstance(finder, MMRazorFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MMRazorFinder())


def require_mmrazor(wanted_by: str) -> ModuleType:
    """Import mmrazor with its models registered.

    Raises:
        EnvironmentConflict: mmrazor is missing or cannot be imported; the message is one line and names ``wanted_by``.
    """
    mend_mmrazor_when_imported()
    for name in ('mmrazor', 'joblib'):
        if importlib.util.find_spec(name) is None:
            raise EnvironmentConflict(f'{wanted_by} needs {name}, which is not installed: pip install mmrazor==1.0.0 joblib '
                                      '(distillation of logits does not need it)')
    try:
        importlib.import_module('mmrazor.models')
        importlib.import_module('mmrazor.engine')
    except Exception as error:  # whatever mmrazor trips over, its name and the reason are what the user needs
        raise EnvironmentConflict(
            f'{wanted_by} needs mmrazor, and mmrazor {installed_version("mmrazor")} cannot be imported with '
            f'{versions_in_a_line()}: {type(error).__name__}: {error}') from error
    return sys.modules['mmrazor']


def versions_in_a_line() -> str:
    return ', '.join(f'{name} {version}' for name, version in versions().items() if name in ('torch', 'mmengine', 'mmcv'))


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
        mmcv.__version__ = min(real, '2.1.0', key=lambda version: [int(part) for part in version.split('.')[:2]])
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
                    f"{module.__name__}.{name}: mmrazor 1.0.0's quantization needs torch 1.13 and was left out by ckd_mm")

            refuse.__name__ = name
            return refuse

        module.__getattr__ = missing
        module.__all__ = []


# ---------------------------------------------------------------- torch and mmengine -------------------------------
def accelerator_available() -> bool:
    from mmengine.device import get_device
    return get_device() != 'cpu'


def prepare_distributed(cfg) -> None:
    """Start the process group on machines without an accelerator, where mmengine cannot.

    mmengine calls ``torch.cuda.set_device`` for every launcher and gives DDP a ``device_ids`` that CPU modules refuse.
    On a GPU machine nothing is changed: mmengine does its own.

    Args:
        cfg (Config): changed in place: ``env_cfg.dist_cfg.backend`` and ``model_wrapper_cfg``.
    """
    if cfg.get('launcher', 'none') == 'none' or accelerator_available():
        return
    import torch.distributed as dist
    cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})['backend'] = 'gloo'
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    if not dist.is_initialized():
        if cfg.launcher == 'slurm':
            _slurm_environment()
        elif cfg.launcher == 'mpi':
            os.environ['RANK'] = os.environ['OMPI_COMM_WORLD_RANK']
            os.environ['LOCAL_RANK'] = os.environ['OMPI_COMM_WORLD_LOCAL_RANK']
            os.environ['WORLD_SIZE'] = os.environ['OMPI_COMM_WORLD_SIZE']
        dist.init_process_group(backend='gloo')


def _slurm_environment() -> None:
    """Translate slurm's variables into torch's, as mmengine does on GPU machines."""
    os.environ['RANK'] = os.environ['SLURM_PROCID']
    os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
    os.environ['LOCAL_RANK'] = os.environ['SLURM_LOCALID']
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        import subprocess
        nodes = subprocess.run(['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']], check=True, text=True,
                               capture_output=True).stdout
        os.environ['MASTER_ADDR'] = nodes.split()[0]


@contextlib.contextmanager
def full_precision(device_type: str):
    """No autocast inside, on any device type."""
    import torch
    with torch.autocast(device_type=device_type, enabled=False):
        yield


@contextlib.contextmanager
def exact_convolutions(device_type: str):
    """On a GPU convolutions inside are computed in float32 and not in TF32, whose mantissa has ten bits."""
    if device_type != 'cuda':
        yield
        return
    import torch
    cudnn = torch.backends.cudnn
    conv = getattr(cudnn, 'conv', None)  # of torch 2.9 and newer

    def in_tf32() -> bool:
        return conv.fp32_precision == 'tf32' if hasattr(conv, 'fp32_precision') else cudnn.allow_tf32

    if not in_tf32():
        yield
        return
    try:
        old = cudnn.allow_tf32  # an error where the newer settings say different things of convolutions and RNNs
    except RuntimeError:
        old = False
    if old:  # the older switch first: with the newer alone, cudnn.flags() inside would be such an error
        cudnn.allow_tf32 = False
    if in_tf32():  # torch.backends.fp32_precision overrules it
        conv.fp32_precision = 'ieee'
    try:
        yield
    finally:
        if hasattr(conv, 'fp32_precision'):
            conv.fp32_precision = 'tf32'
        if old:
            cudnn.allow_tf32 = True


def stop_workers(loader) -> None:
    """End a data loader's persistent workers, if it has any. The garbage collector may take their queues before the loader, which then
    waits 5 seconds for each of them (torch 2.1 to 2.15)."""
    iterator = getattr(loader, '_iterator', None)
    if iterator is not None:
        iterator._shutdown_workers()
        loader._iterator = None


def compile_in_place(modules: List, options: Dict) -> None:
    """Compile the forward of each module without renaming its parameters (no ``_orig_mod`` in state dicts)."""
    import torch
    for module in modules:
        if hasattr(module, 'compile'):  # torch 2.2 and newer
            module.compile(**options)
        else:
            module.forward = torch.compile(module.forward, **options)


def compiled_networks_run_hooks() -> bool:
    """Whether forward hooks of the modules inside a compiled network see every call: seen with torch 2.15, not with 2.1."""
    import torch
    return tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 4)
