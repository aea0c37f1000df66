#!/usr/bin/env python
"""Train with a config, as OpenMMLab's tools/train.py does: a checkpoint-distillation config runs all its
stages."""

import argparse
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """At once, with the status of :mod:`ckd_mm.signals`: while packages are imported, which may take a
    minute, there is nothing to be finished."""

    def end(number: int, frame: object) -> None:
        name = signal.Signals(number).name
        line = f'{name} ended the run before its start; the same command starts it again (exit status 75)\n'
        os.write(2, line.encode())
        os._exit(75)

    numbers = [getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1') if hasattr(signal, name)]
    own = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in own:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def parse_args() -> argparse.Namespace:
    from ckd_mm.cli import KeyValues
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir',
                        help='folder for everything the run writes; default: work_dirs/<name of the config>')
    parser.add_argument('--resume', nargs='?', const='auto',
                        help='go on with the run in the work_dir; with a path: the student goes on from that '
                             'checkpoint')
    parser.add_argument('--until', metavar='STAGE', help='stop after this stage, say teacher')
    parser.add_argument('--amp', action='store_true',
                        help='automatic mixed precision, in every stage that trains')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate by the batch size actually used')
    parser.add_argument('--no-pin-memory', action='store_true', help='dataloaders without pin_memory')
    parser.add_argument('--no-persistent-workers', action='store_true',
                        help='dataloaders without persistent_workers')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues,
                        help='override settings: key=value, say teacher.train_cfg.max_epochs=60 '
                             'selector=half_way')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='job launcher')
    # torch.distributed.launch passes --local-rank, older versions --local_rank
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def merge_args(cfg, args: argparse.Namespace):
    """The flags into the config; they mean what they mean in mmpretrain."""
    from ckd_mm.cli import merge_options, set_loader_defaults, use_amp, use_auto_scale_lr
    from ckd_mm.pipeline.build import require_dicts
    from ckd_mm.training import overrides_of
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        for name in ('val_cfg', 'val_dataloader', 'val_evaluator'):
            for own in overrides_of(cfg).values():
                own.pop(name, None)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.amp:
        use_amp(cfg)
    if args.resume is not None:
        cfg.resume = args.resume
    if args.auto_scale_lr:
        use_auto_scale_lr(cfg, args.config)
    # before the defaults below, which depend on num_workers
    merge_options(cfg, args.cfg_options)
    if args.resume is not None and not has_stages(cfg):  # mmengine's own runner knows one file
        cfg.resume, cfg.load_from = True, None if args.resume == 'auto' else args.resume
    require_dicts(cfg)
    set_loader_defaults(cfg)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if args.no_pin_memory and cfg.get(name) is not None:
            cfg[name].pin_memory = False
        if args.no_persistent_workers and cfg.get(name) is not None:
            cfg[name].persistent_workers = False
    return cfg


def has_stages(cfg) -> bool:
    return cfg.get('runner_type', 'Runner') != 'Runner'


def build(args: argparse.Namespace):
    """The runner of a config, and the config."""
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from ckd_mm.cli import read_config
    from ckd_mm.compat import prepare_distributed
    from ckd_mm.errors import ConfigError, reading
    cfg = read_config(args.config)
    with reading(f'config {args.config} cannot be used'):
        cfg = merge_args(cfg, args)
    if args.until is not None and not has_stages(cfg):
        raise ConfigError(f'--until {args.until}: {args.config} has no runner_type and so no stages; leave '
                          '--until out')
    with reading(f'the runner of {args.config} cannot be built'):
        if has_stages(cfg):
            return RUNNERS.build(cfg), cfg
        prepare_distributed(cfg)
        return Runner.from_cfg(cfg), cfg


def main() -> None:
    with ended_by_signals():
        args = parse_args()
        from ckd_mm.trajectory.safe_loading import safe_loading
        runner, cfg = build(args)
    with safe_loading(cfg):
        runner.train(**({} if args.until is None else dict(until=args.until)))


if __name__ == '__main__':
    with ended_by_signals():
        from ckd_mm.cli import run
    run(main)
