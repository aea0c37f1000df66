"""What the command line tools share."""

import argparse
import difflib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from .errors import CkdError, ConfigError, in_a_line


def run(main: Callable[[], None]) -> None:
    """Show errors that the user can act on as one line, with exit status 1; others keep their traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='backslashreplace')  # where the locale lacks a letter
    try:
        main()
    except CkdError as error:
        _fail(str(error))
    except BaseException as error:
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
    if 'base_batch_size' not in (config.get('auto_scale_lr') or {}):
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


class KeyValues(DictAction):
    """``key=value`` arguments as mmengine reads them."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for value in values:
            try:
                super().__call__(parser, namespace, [value], option_string)
            except (ValueError, AssertionError) as error:  # no '=', brackets that do not close
                raise ConfigError(f'{option_string} {value}: should be KEY=VALUE, say '
                                  'distill.tau=2 or selector.epochs=[10,20]') from error


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder of the run; default: work_dirs/<name of the config>')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, help='override settings: key=value')


def read_config(file: str) -> Config:
    """Raises ConfigError naming the file, of its bases too, and the line that is wrong."""
    if not Path(file).is_file():
        raise ConfigError(f'config {file} does not exist')
    try:
        return Config.fromfile(file)
    except Exception as error:
        raise ConfigError(f'config {file} cannot be read{_place(error)}: {in_a_line(error)}') from error


def _place(error: Exception) -> str:
    """File and line of an error in a config or in a base of it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    files = [frame.f_locals['filename'] for frame, _ in frames
             if frame.f_code.co_name in ('_file2dict', '_is_lazy_import')]
    if not files:
        return ''
    lines = [line for frame, line in frames if frame.f_code.co_filename == files[-1]]
    return f' ({files[-1]}, line {lines[-1]})' if lines else f' ({files[-1]})'


def merge_options(config: Config, options: dict[str, Any] | None) -> None:
    """Merge those of a command line, in place. Raises ConfigError where one does not fit over the config, or
    is new and looks like a misspelled key."""
    from mmengine.runner import Runner

    from .pipeline.build import RunSettings
    known = {*config, *inspect.signature(Runner).parameters, *RunSettings.names()}
    for key in {key.split('.')[0] for key in options or {}} - known:
        if meant := difflib.get_close_matches(key, known, n=1, cutoff=0.8):
            raise ConfigError(f'--cfg-options {key}: the config has no {key!r}; did you mean {meant[0]!r}?')
    try:
        config.merge_from_dict(options or {})
    except Exception as error:
        given = ' '.join(f'{key}={value}' for key, value in options.items())
        # mmengine merges no dict over another value, say probe=dict(...) over an inherited probe=None
        hint = ' On a command line: --cfg-options KEY._delete_=True KEY.<setting>=...' if isinstance(
            error, TypeError) else ''
        raise ConfigError(f'--cfg-options {given}: {in_a_line(error)}{hint}') from error


def load_config(args: argparse.Namespace) -> Config:
    """The config of :func:`add_config_arguments`, with its ``work_dir``."""
    from .pipeline.build import require_dicts
    from .pipeline.model_files import resolve_model_files
    config = read_config(args.config)
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    merge_options(config, args.cfg_options)
    require_dicts(config)
    resolve_model_files(config)
    return config
