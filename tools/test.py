#!/usr/bin/env python
"""Evaluate a checkpoint with a config: of a checkpoint-distillation config the student, with --teacher a
snapshot."""

import argparse
import os


def parse_args() -> argparse.Namespace:
    from ckd_mm.cli import add_config_arguments
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='write the metrics to this JSON file')
    parser.add_argument('--teacher', action='store_true',
                        help="the checkpoint is of the config's teacher.model")
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    from pathlib import Path

    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from ckd_mm.cli import load_config
    from ckd_mm.compat import prepare_distributed
    from ckd_mm.errors import ConfigError, reading
    from ckd_mm.files import write_json
    from ckd_mm.pipeline.build import RunSettings
    from ckd_mm.pipeline.run import Run
    from ckd_mm.stages.teacher import teacher_training
    from ckd_mm.trajectory import Snapshot
    from ckd_mm.trajectory.safe_loading import safe_loading
    config = load_config(args)
    config.launcher, config.load_from, config.resume = args.launcher, args.checkpoint, False
    if not Path(args.checkpoint).is_file() and '://' not in args.checkpoint:
        raise ConfigError(f'checkpoint {args.checkpoint} does not exist')
    if args.teacher:
        if (config.get('teacher') or {}).get('model') is None:
            raise ConfigError(f'--teacher: {args.config} has no teacher.model')
        run = Run(config, RunSettings.of(config))
        config.data_preprocessor = teacher_training(run, run.settings.teacher).get('data_preprocessor')
        config.model = config.teacher.model
    if config.get('runner_type', 'Runner') != 'Runner':
        # mmengine would evaluate whatever fits: weights of another network are an error here
        Snapshot(Path(args.checkpoint), model=config.model).build()
        with reading(f'the runner of {args.config} cannot be built'):
            runner = RUNNERS.build(config)
    else:
        prepare_distributed(config)
        with reading(f'the runner of {args.config} cannot be built'):
            runner = Runner.from_cfg(config)
        with reading(f'checkpoint {args.checkpoint} cannot be loaded'), safe_loading(config):
            runner.load_or_resume()
    metrics = runner.test()
    if args.out:
        write_json(Path(args.out), metrics)


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
