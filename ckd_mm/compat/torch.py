"""Versions of torch, and what mmengine leaves to do on machines without an accelerator."""

import torch

from ..errors import ConfigError


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
    if launcher != 'pytorch':
        raise ConfigError(f'launcher={launcher!r} needs an accelerator; on CPUs start the processes with '
                          "torchrun, and take launcher='pytorch'")
    cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})['backend'] = 'gloo'
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    if not torch.distributed.is_initialized():
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
