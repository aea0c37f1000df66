#!/usr/bin/env python
"""Distil a student from each of several snapshots of a teacher, over seeds, and draw what comes out.

    python tools/sweep.py CONFIG --work-dir W --epochs 20 40 60 80 100 --seeds 0 1 2     Figure 2 of
    CheckpointKD
    python tools/sweep.py CONFIG --work-dir W --ensembles snapshot full --sizes 1 2 4    Figure 3
    python tools/sweep.py CONFIG --work-dir W --search distill.tau=1,2,4,8 distill.kd_weight=0.5,0.9

The teacher is trained first, in W/teacher_run (further trainings of an ensemble in W/teacher_run_2, ...);
each trial is an ordinary run in W/trials. The same command again goes on where it was stopped, and with more
epochs, seeds or sizes does what is new. Several processes share trainings and trials:

    torchrun --nproc_per_node=8 tools/sweep.py ...      srun --ntasks=8 --gpus-per-task=1 python
    tools/sweep.py ... sbatch --array=0-7 ...        or by hand:           python tools/sweep.py ... --shard
    0/2 & python tools/sweep.py ... --shard 1/2

A search trains on the training images without their held-out part (probe.held_out, probe.seed), which chooses
the settings; the test set is not looked at.

The first command in a W settles after which epochs its teacher keeps snapshots: give --epochs and --ensembles
together, or begin with the ensembles. Where probe.probe_split is test, a search needs a W of its own, for its
teacher must not see the held-out images. Each training is done by one process, so a teacher that takes
several GPUs is trained by tools/dist_train.sh, then --trajectory.
"""

import argparse
import os


def parse_args() -> argparse.Namespace:
    from mmengine.config import DictAction

    from ckd_mm.cli import add_config_arguments
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    parser.add_argument('--epochs', nargs='+', type=int, help='teacher epochs; default: all snapshots, in a '
                                                              'search the last')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='of the students; default: '
                                                                                '0 1 2')
    parser.add_argument('--no-alone', action='store_true', help='leave out the student without a teacher')
    parser.add_argument('--trajectory', nargs='+', help='folders of snapshots that exist, instead of '
                                                        'training a teacher')
    parser.add_argument('--ensembles', nargs='+', choices=['snapshot', 'full', 'mixed'], default=[],
                        help='kinds of ensembles; without --epochs nothing else')
    parser.add_argument('--sizes', nargs='+', type=int, default=[1, 2, 4, 7, 10], help='of the ensembles; '
                                                                                       'default: 1 2 4 7 10')
    parser.add_argument('--search', nargs='+', action=DictAction,
                        help='key=value,value,...: try every combination; "key+key=[(value,value),...]": '
                        'keys that change together')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision, in every training')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate by the batch '
                                                                     'size actually used')
    parser.add_argument('--shard', help='i/n: do every n-th trial, beginning with the i-th from 0; default: '
                                        'as torchrun or slurm say')
    parser.add_argument('--collect', action='store_true', help='train nothing, only gather the results')
    # torch.distributed.launch passes --local-rank, older versions --local_rank
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def build(args: argparse.Namespace):
    from ckd_mm.cli import load_config, use_amp, use_auto_scale_lr
    from ckd_mm.errors import ConfigError
    from ckd_mm.registry import use_scope
    from ckd_mm.sweep import Search, Sweep, plan_trials, shard_of, snapshot_epochs_of
    config = load_config(args)
    if args.trajectory:
        config.setdefault('teacher', {})['trajectory'] = args.trajectory
    if not config.get('teacher'):
        raise ConfigError(f'{args.config} has no `teacher`: a sweep needs a checkpoint-distillation config')
    if args.amp:
        use_amp(config)
    if args.auto_scale_lr:
        use_auto_scale_lr(config, args.config)
    use_scope(config)
    shard = shard_of(args.shard, os.environ)
    if args.search and args.ensembles:
        raise ConfigError('--search and --ensembles cannot be given together: search first, then give the '
                          'best settings as --cfg-options')
    if args.search:
        return Search(config, args.search, args.seeds, args.epochs or [None], shard)
    epochs = args.epochs or ([] if args.ensembles else snapshot_epochs_of(config))
    trials = plan_trials(args.seeds, epochs, args.ensembles, args.sizes, not args.no_alone)
    return Sweep(config, trials, shard)


def use_own_gpu(local: int) -> None:
    import torch
    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())


def main() -> None:
    args = parse_args()
    from ckd_mm.errors import CkdError
    sweep = build(args)
    use_own_gpu(sweep.shard.local)
    failed = {} if args.collect else sweep.run()
    if failed and 'TORCHELASTIC_RUN_ID' in os.environ:
        sweep.wait_for_others()  # torchrun ends all its processes when one ends with an error
    print(sweep.collect())
    if args.collect:
        failed = {row['name']: row['error'] for row in sweep.rows() if row['status'] == 'failed'}
    if failed:
        raise CkdError(f'{len(failed)} trial(s) failed: ' +
                       '; '.join(f'{name} ({error})' for name, error in failed.items()) +
                       f'. Their tracebacks are in {sweep.folder}/NAME/failed.json; the same command tries '
                       'them again')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
