#!/usr/bin/env python
"""Find what would stop a run, or spoil its result, without training: environment, settings, networks, data,
teachers that exist, disk.

Every check of every stage is a line: `ok`, a `warning` of what is only suspicious, or a `problem`. All
problems are numbered at the end; exit status 1 if there is one. The line `settings` lists the stages, which
tools/train.py --until may name. tools/train.py checks the same first.
"""

import argparse


def main() -> None:
    from ckd_mm.cli import add_config_arguments, load_config
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument('--resume', action='store_true',
                        help='as if the run were resumed: results in the work_dir are no problem')
    parser.add_argument('--images', action='store_true',
                        help='also read every image of every data set, and name those that are damaged')
    parser.add_argument('--auto-scale-lr', action='store_true', help='as for tools/train.py')
    args = parser.parse_args()
    from ckd_mm.cli import use_auto_scale_lr
    from ckd_mm.errors import ConfigError
    from ckd_mm.pipeline.preflight import Preflight, numbered_lines
    from ckd_mm.registry import RUNNERS, use_scope
    config = load_config(args)
    config.resume = 'auto' if args.resume else False
    if args.auto_scale_lr:
        use_auto_scale_lr(config, args.config)
    use_scope(config)
    name = config.get('runner_type') or 'ckd_mm.CheckpointDistillRunner'
    kind = RUNNERS.get(name)
    if not hasattr(kind, 'prepare'):
        raise ConfigError(f'runner_type={name!r} has no stages that could be checked; the doctor is for '
                          'ckd_mm.CheckpointDistillRunner and its subclasses')
    preflight = Preflight(print, all_problems=True, all_images=args.images)
    try:
        kind(config).prepare(preflight, warn=preflight.warn)
    finally:
        if preflight.warnings:
            print(f'{len(preflight.warnings)} warning(s):{numbered_lines(preflight.warnings)}')
    print('Nothing stands in the way.')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
