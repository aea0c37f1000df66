"""What differs between versions of torch, and what mmengine leaves to do on machines without an
accelerator."""

import contextlib
import os


def accelerator_available() -> bool:
    from mmengine.device import get_device
    return get_device() != 'cpu'


def prepare_distributed(cfg) -> None:
    """Start the process group on machines without an accelerator, where mmengine cannot.

    mmengine calls ``torch.cuda.set_device`` for every launcher and gives DDP a ``device_ids`` that CPU
    modules refuse. On a GPU machine nothing is changed: mmengine does its own.

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
        nodes = subprocess.run(['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']], check=True,
                               text=True, capture_output=True).stdout
        os.environ['MASTER_ADDR'] = nodes.split()[0]


@contextlib.contextmanager
def full_precision(device_type: str):
    """No autocast inside, on any device type."""
    import torch
    with torch.autocast(device_type=device_type, enabled=False):
        yield


def stop_workers(loader) -> None:
    """End a data loader's persistent workers, if it has any. The garbage collector may take their queues
    before the loader, which then waits 5 seconds for each of them (torch 2.1 to 2.15)."""
    iterator = getattr(loader, '_iterator', None)
    if iterator is not None:
        iterator._shutdown_workers()
        loader._iterator = None


def compile_in_place(modules: list, options: dict) -> None:
    """Compile the forward of each module without renaming its parameters (no ``_orig_mod`` in state
    dicts)."""
    import torch
    for module in modules:
        if hasattr(module, 'compile'):  # torch 2.2 and newer
            module.compile(**options)
        else:
            module.forward = torch.compile(module.forward, **options)


def compiled_networks_run_hooks() -> bool:
    """Whether forward hooks of the modules inside a compiled network see every call: seen with torch 2.15,
    not with 2.1."""
    import torch
    return tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 4)
