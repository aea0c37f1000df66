#!/usr/bin/env python
"""Follow students on the information plane while they learn, beside their teacher (CheckpointKD, Fig. 4, 6).

    python tools/student_planes.py CONFIG --work-dir work_dirs/planes

The teacher is trained once, in WORK_DIR/teacher; each student is a run of its own in WORK_DIR/ARM:

    alone    no teacher
    full     distilled from the last snapshot
    inter    distilled from the snapshot of --inter-selector
    smooth   no teacher, labels smoothed by 0.1

All are trained on the same images and probed with the same decoder on the same others (`probe` of the
config). `student_snapshots` of the config sets when a student's snapshots are written; default: at the ends
of 10 equal phases. Written: WORK_DIR/planes.json and student_planes.png. --resume repeats nothing that is
finished.
"""

import argparse
import copy
from dataclasses import asdict
from pathlib import Path

ARMS = ('alone', 'full', 'inter', 'smooth')
PHASES = 10


def parse_args() -> argparse.Namespace:
    from ckd_mm.cli import add_config_arguments
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    parser.add_argument('--arms', nargs='+', choices=ARMS, default=ARMS,
                        help='students to follow; default: all')
    parser.add_argument('--inter-selector', default='half_way',
                        help="of the intermediate teacher; 'config': the config's own; default: half_way")
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision, in every training')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate by the batch size actually used')
    parser.add_argument('--resume', action='store_true', help='go on with the runs in the work_dir')
    return parser.parse_args()


def teacher_config(config, work_dir: Path, inter_selector: str):
    teacher = copy.deepcopy(config)
    teacher.work_dir = str(work_dir / 'teacher')
    teacher.probe = dict(config.get('probe') or {})
    teacher.pop('student_snapshots', None)
    if inter_selector != 'config':
        teacher.selector = inter_selector
    return teacher


def arm_config(config, work_dir: Path, arm: str, teacher: dict, epochs: list, probe):
    """The run of one student; ``epochs`` of the ``teacher``'s trajectory teach."""
    from ckd_mm.counting import length_of
    from ckd_mm.infoplane import held_out_part
    from ckd_mm.pipeline.build import METHOD_KEYS, open_run, stage_of
    run = copy.deepcopy(config)
    run.work_dir = str(work_dir / arm)
    run.teacher, run.probe, run.student_alone = teacher, None, False
    length = length_of(run.train_cfg)
    run.selector = {'type': length.unit, f'{length.unit}s': epochs}
    run.setdefault('student_snapshots', dict(phases=min(PHASES, int(length))))
    if probe.probe_split == 'held_out':  # I(Y;F) is measured on images that no student was trained on
        run.train_dataloader.dataset = held_out_part(run.train_dataloader.dataset, probe.held_out, probe.seed,
                                                     'rest')
    if arm in ('alone', 'smooth'):
        baseline = copy.deepcopy(run)
        baseline.student_alone = 1
        opened, stages = open_run(baseline)  # the images of those that are taught
        run.train_dataloader = stage_of(stages, 'student_alone').config(opened).train_dataloader
        run.distill = dict(ce_weight=1.0, kd_weight=0.0)
        for key in METHOD_KEYS:
            run.pop(key, None)
    if arm == 'smooth':
        run.model.head.loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
    return run


def main() -> None:
    args = parse_args()
    from ckd_mm.cli import load_config, use_amp, use_auto_scale_lr
    from ckd_mm.errors import ConfigError
    from ckd_mm.files import write_json
    from ckd_mm.hooks.schedule_hook import schedule_class
    from ckd_mm.infoplane import PLANE
    from ckd_mm.infoplane.probe import probe_trajectory
    from ckd_mm.pipeline.build import open_run, stage_of
    from ckd_mm.pipeline.runner import CheckpointDistillRunner
    from ckd_mm.pipeline.store import read_records
    from ckd_mm.report import draw_planes
    from ckd_mm.sweep import check_batch
    from ckd_mm.sweep.trials import training_of
    from ckd_mm.trajectory import Trajectory
    config = load_config(args)
    if args.amp:
        use_amp(config)
    if args.auto_scale_lr:
        use_auto_scale_lr(config, args.config)
    check_batch(config)
    config.resume = 'auto' if args.resume else False
    schedule = (config.get('distill') or {}).get('schedule') or []
    if any(schedule_class(item).needs_one_teacher
           for item in (schedule if isinstance(schedule, (list, tuple)) else [schedule])):
        raise ConfigError('distill.schedule: StopWhenOvertakenHook compares on images that neither learns '
                          'from, and here the probe has them: take it out, say with --cfg-options '
                          'distill.schedule=None')
    work_dir = Path(config.work_dir)
    runner = CheckpointDistillRunner(teacher_config(config, work_dir, args.inter_selector))
    runner.train(until='select')
    run, stages = open_run(runner.cfg)
    select = stage_of(stages, 'select')
    trajectories, probe = select.trajectories(run), select.probe
    selected = read_records(runner.work_dir)['select']['result']
    if len(trajectories) != 1:
        raise ConfigError(f'teacher.trajectory names {len(trajectories)} runs; the information plane is of '
                          'one teacher, give one')
    trajectory = trajectories[0]
    teacher = config.teacher
    if run.settings.teacher.is_trained:
        teacher = dict(training_of(config.teacher) if config.get('heads') is not None else {},
                       trajectory=str(trajectory.folder))
    last, inter = [trajectory.last.time], selected['epochs']
    teaches = {arm: epochs for arm, epochs in dict(full=last, inter=inter).items() if arm in args.arms}

    path = work_dir / 'teacher' / PLANE
    planes = dict(teacher=probe_trajectory(trajectory, probe, path, runner.logger.info))
    accuracy = dict(teacher=selected['teacher_metrics'].get('accuracy/top1'))
    for arm in args.arms:
        student = CheckpointDistillRunner(
            arm_config(config, work_dir, arm, teacher, teaches.get(arm, last), probe))
        accuracy[arm] = student.train()['student']['accuracy_top1']
        folder = work_dir / arm / 'student'
        planes[arm] = probe_trajectory(Trajectory.open(folder), probe, folder / PLANE, student.logger.info)
    write_json(work_dir / 'planes.json', dict(
        notes=planes['teacher'].notes, teaches=teaches, accuracy_top1=accuracy,
        planes={role: [asdict(point) for point in plane.points] for role, plane in planes.items()}))
    draw_planes(planes, work_dir / 'student_planes.png', teaches)
    print(f'{"":<8} {"taught by":>10} {"epoch":>6} {"I(X;F) nats":>12} {"I(Y;F)":>7} {"test top-1 %":>13}')
    for role, plane in planes.items():
        point, taught = plane.points[-1], ', '.join(map(str, teaches.get(role, ())))
        top1 = 'n/a' if accuracy[role] is None else f'{accuracy[role]:.2f}'
        print(f'{role:<8} {taught:>10} {point.epoch:>6} {point.information_x:>12.5f} '
              f'{point.information_y:>7.4f} {top1:>13}')
    print(f'Written: {work_dir / "planes.json"} and {work_dir / "student_planes.png"}')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
