"""What the command line tools share."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .errors import CkdError, ConfigError


def run(main: Callable[[], None]) -> None:
    """Show errors that the user can act on as one line, with exit status 1; others keep their traceback."""
    try:
        main()
    except CkdError as error:
        _fail(str(error))
    except BaseException as error:
        if isinstance(error, TypeError) and 'cannot inherit from base' in str(error):
            # mmengine merges no dict over another value, say probe=dict(...) over an inherited probe=None
            _fail(f'{error} On a command line: --cfg-options KEY._delete_=True KEY.<setting>=...')
        # some of mmengine's handlers turn Ctrl-C into an error of their own
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        print('interrupted; a training goes on with --resume', file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> None:
    sys.stdout.flush()
    print(f'error: {message}', file=sys.stderr)
    sys.exit(1)


def use_amp(config) -> None:
    """Mixed precision in every stage that trains, as ``--amp`` of mmpretrain."""
    from .training import overrides_of
    for own in (config, *overrides_of(config).values()):
        wrapper = own.get('optim_wrapper')
        if isinstance(wrapper, dict):
            wrapper['type'] = 'AmpOptimWrapper'
            wrapper.setdefault('loss_scale', 'dynamic')


def use_auto_scale_lr(config, name: str) -> None:
    """Scale the learning rate by the batch size, as ``--auto-scale-lr`` of mmpretrain; the config ``name``
    has to say for which batch size it is."""
    if 'auto_scale_lr' not in config or 'base_batch_size' not in config.auto_scale_lr:
        raise ConfigError(f'--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in {name}')
    config.auto_scale_lr.enable = True


def set_loader_defaults(config) -> None:
    """The defaults of mmpretrain's tools/train.py for the dataloaders of a config."""
    from .compat import accelerator_available
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = config.get(name)
        if isinstance(loader, dict):
            # without an accelerator torch warns in every epoch; and it cannot pin what is there already
            pin = accelerator_available() and not is_on_device(loader.get('dataset'))
            loader.setdefault('pin_memory', pin)
            loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)
            loader.setdefault('collate_fn', dict(type='default_collate'))


def is_on_device(dataset) -> bool:
    """Whether the config of a data set, or of one inside it, has the ``device='cuda'`` of
    :class:`ckd_mm.data.InMemory`."""
    if not isinstance(dataset, dict):
        return False
    inner = [dataset.get('dataset'), *dataset.get('datasets', [])]
    return dataset.get('device') not in (None, 'cpu') or any(map(is_on_device, inner))


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    from mmengine.config import DictAction
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder of the run; default: work_dirs/<name of the config>')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key=value')


def read_config(file: str):
    from mmengine.config import Config
    if not Path(file).is_file():
        raise ConfigError(f'config {file} does not exist')
    return Config.fromfile(file)


def load_config(args: argparse.Namespace):
    """The config of :func:`add_config_arguments`, with its ``work_dir``."""
    from .pipeline.model_files import resolve_model_files
    config = read_config(args.config)
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.cfg_options is not None:
        config.merge_from_dict(args.cfg_options)
    resolve_model_files(config)
    return config
