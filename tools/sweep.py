#!/usr/bin/env python
"""Configs and commands that distil a student from each of several snapshots of a teacher, over seeds.

    python tools/sweep.py CONFIG --work-dir W --epochs 50 100 150 200 --seeds 0 1 2   # CheckpointKD, Figure 2
    python tools/sweep.py CONFIG --work-dir W --ensembles snapshot full --sizes 1 2 4   # Figure 3
    python tools/sweep.py CONFIG --work-dir W --search distill.tau=1,2,4,8 distill.kd_weight=0.5,0.9
    python tools/sweep.py --collect W

Nothing is trained: each training gets an ordinary config in W, and each that is not finished a command in
W/teachers.txt (first) or W/students.txt (then). xargs, GNU parallel or a slurm array runs them; a command
that is repeated resumes where it stopped. --collect gathers what is finished. The same call again lists what
is left; with more epochs, seeds or sizes it adds to what is there (docs/sweeps.md).
"""

import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from ckd_mm.cli import KeyValues
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', help='config file')
    parser.add_argument('--collect', metavar='W', type=Path, help='gather the results of the sweep in W')
    parser.add_argument('--work-dir', help='folder of the sweep; default: work_dirs/<name of the config>')
    parser.add_argument('--epochs', nargs='+', type=int,
                        help='teacher epochs; default: all snapshots, in a search the last')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2],
                        help='of the students; default: 0 1 2')
    parser.add_argument('--no-alone', action='store_true', help='leave out the student without a teacher')
    parser.add_argument('--trajectory', nargs='+',
                        help='folders of snapshots that exist, instead of training a teacher')
    parser.add_argument('--ensembles', nargs='+', choices=['snapshot', 'full', 'mixed'], default=[],
                        help='kinds of ensembles; without --epochs nothing else')
    parser.add_argument('--sizes', nargs='+', type=int, default=[1, 2, 4, 7, 10],
                        help='of the ensembles; default: 1 2 4 7 10')
    parser.add_argument('--search', nargs='+', action=KeyValues,
                        help='key=value,value,...: try every combination; "key+key=[(value,value),...]": '
                             'keys that change together')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision, in every training')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate by the batch size actually used')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, help='override settings: key=value')
    args = parser.parse_args()
    if (args.config is None) == (args.collect is None):
        parser.error('give a CONFIG to make a sweep of, or --collect W')
    return args


def build(args: argparse.Namespace):
    from ckd_mm.cli import load_config, use_amp, use_auto_scale_lr
    from ckd_mm.errors import ConfigError
    from ckd_mm.registry import use_scope
    from ckd_mm.sweep import Sweep, make_search, plan_trials
    from ckd_mm.sweep.teachers import snapshot_epochs
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
    if args.search and args.ensembles:
        raise ConfigError('--search and --ensembles cannot be given together: search first, then give the '
                          'best settings as --cfg-options')
    if args.search:
        return make_search(config, args.search, args.seeds, args.epochs or [None])
    epochs = args.epochs or ([] if args.ensembles else snapshot_epochs(config))
    return Sweep(config, plan_trials(args.seeds, epochs, args.ensembles, args.sizes, not args.no_alone))


def train_command() -> list[str]:
    """This interpreter, by a short name where that means the same, and tools/train.py."""
    short = shutil.which('python') == sys.executable
    return ['python' if short else sys.executable, os.path.relpath(Path(__file__).with_name('train.py'))]


def how_to_run(lists: dict[Path, list[str]], work_dir: Path) -> str:
    import torch
    gpus = torch.cuda.device_count()
    slots = ' --process-slot-var=CUDA_VISIBLE_DEVICES' if gpus > 1 else ''
    todo = {shlex.quote(str(file)): commands for file, commands in lists.items() if commands}
    lines = [f'{file}: {len(commands)} to run' for file, commands in lists.items()]
    if todo:
        run = [f"xargs -d '\\n' -P {gpus or 2}{slots} -I {{}} sh -c '{{}}' < {file}" for file in todo]
        lines += ['Run them here', '  ' + ' && '.join(run), 'or in slurm, students after teachers']
        lines += [f'  sbatch --array=0-{len(commands) - 1} --gres=gpu:1 tools/slurm_sweep.sh {file}'
                  for file, commands in todo.items()]
    return '\n'.join([*lines, 'Then', f'  python tools/sweep.py --collect {shlex.quote(str(work_dir))}'])


def main() -> None:
    args = parse_args()
    from ckd_mm.sweep import collect
    if args.collect is not None:
        print(collect(args.collect))
        return
    sweep = build(args)
    print(how_to_run(sweep.write(train_command()), sweep.work_dir))


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
