"""Versions of torch, and what mmengine leaves to do on machines without an accelerator."""

import os
import subprocess

import torch

# the launchers' names of torch's variables
LAUNCHERS = dict(
    slurm=dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID'),
    mpi=dict(RANK='OMPI_COMM_WORLD_RANK', WORLD_SIZE='OMPI_COMM_WORLD_SIZE',
             LOCAL_RANK='OMPI_COMM_WORLD_LOCAL_RANK'))


def accelerator_available() -> bool:
    from mmengine.device import get_device
    return get_device() != 'cpu'


def prepare_distributed(cfg) -> None:
    """Start the process group on machines without an accelerator, where mmengine cannot: it calls
    ``torch.cuda.set_device`` for every launcher, and gives DDP a ``device_ids`` that CPU modules refuse.

    Args:
        cfg (Config): changed in place: ``env_cfg.dist_cfg.backend`` and ``model_wrapper_cfg``.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or accelerator_available():
        return
    cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})['backend'] = 'gloo'
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    if torch.distributed.is_initialized():
        return
    os.environ.update({name: os.environ[theirs] for name, theirs in LAUNCHERS.get(launcher, {}).items()})
    if launcher == 'slurm':
        os.environ.setdefault('MASTER_PORT', '29500')
        if 'MASTER_ADDR' not in os.environ:
            command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
            hosts = subprocess.run(command, check=True, text=True, capture_output=True).stdout
            os.environ['MASTER_ADDR'] = hosts.split()[0]
    torch.distributed.init_process_group(backend='gloo')


def full_precision(device_type: str) -> torch.autocast:
    """No autocast inside, on any device type."""
    return torch.autocast(device_type, enabled=False)


def stop_workers(loader) -> None:
    """End a data loader's persistent workers, if it has any. The garbage collector may take their queues
    before the loader, which then waits 5 seconds for each of them (torch 2.1 to 2.15)."""
    iterator = getattr(loader, '_iterator', None)
    if iterator is not None:
        iterator._shutdown_workers()
        loader._iterator = None


def compile_in_place(modules: list, options: dict) -> None:
    """Compile the forward of each module; names in state dicts stay (no ``_orig_mod``)."""
    for module in modules:
        if hasattr(module, 'compile'):  # torch 2.2 and newer
            module.compile(**options)
        else:
            module.forward = torch.compile(module.forward, **options)


def compiled_networks_run_hooks() -> bool:
    """Whether forward hooks of the modules inside a compiled network see every call: seen with torch 2.15,
    not with 2.1."""
    return tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 4)
