#!/usr/bin/env python
"""Print which snapshots of a trajectory a selector chooses, and why; writes selection.json.

    python tools/select_teacher.py work_dirs/run information_plane
    python tools/select_teacher.py work_dirs/run even --options k=4
    python tools/select_teacher.py work_dirs/run cmi --config configs/ckd/demo_digits.py
"""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from ckd_mm.cli import KeyValues
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('trajectory', help='a trajectory.json, a folder with one, or one of checkpoints')
    parser.add_argument('selector', help='last, epoch, iter, half_way, fraction, even, ensemble, '
                                         'information_plane, cmi, calibration or short_probe')
    parser.add_argument('--options', nargs='+', action=KeyValues, default={},
                        help='settings of the selector: key=value')
    parser.add_argument('--plane', help='information_plane.json; default: the one beside the trajectory')
    parser.add_argument('--config', help='config of the student, for selectors that need images')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, default={},
                        help='override settings of the config: key=value')
    parser.add_argument('--out', help='file to write; default: selection.json beside the trajectory')
    return parser.parse_args()


def open_select(config_file: str, options: dict, selector: dict, path: Path) -> tuple:
    """A run and its select stage: the config's own images and student, with this trajectory and selector."""
    from ckd_mm.cli import merge_options, read_config, set_loader_defaults
    from ckd_mm.pipeline.build import open_run, require_dicts, stage_of
    from ckd_mm.registry import use_scope
    config = read_config(config_file)
    merge_options(config, options)
    require_dicts(config)
    set_loader_defaults(config)
    config.work_dir = str(path.parent if path.is_file() else path)
    config.teacher = dict(trajectory=str(path), model=(config.get('teacher') or {}).get('model'))
    config.selector = selector
    use_scope(config)
    run, stages = open_run(config)
    return run, stage_of(stages, 'select')


def main() -> None:
    args = parse_args()
    from ckd_mm.counting import WORDS
    from ckd_mm.errors import ConfigError
    from ckd_mm.files import write_json
    from ckd_mm.infoplane import PLANE, InformationPlane
    from ckd_mm.selection import SelectionContext, build_selector
    from ckd_mm.trajectory import Trajectory
    selector = build_selector(dict(args.options, type=args.selector))
    if selector.needs_images:
        if args.config is None:
            raise ConfigError(f'{args.selector} needs images, which a config names: give --config')
        run, select = open_select(args.config, args.cfg_options, dict(args.options, type=args.selector),
                                  Path(args.trajectory))
        trajectory = select.trajectories(run)[0]
        # scores are stored beside the selection, and apart from those of a run and of other settings
        name = '_'.join([args.selector, *(f'{key}-{value}' for key, value in sorted(args.options.items()))])
        folder = Path(args.out).parent if args.out else trajectory.folder
        context = select.context(run, folder / 'select_teacher' / name)
    else:
        trajectory, context = Trajectory.open(args.trajectory), SelectionContext()
    if selector.needs_plane:
        path = Path(args.plane or trajectory.folder / PLANE)
        if not path.exists():
            raise ConfigError(f'{args.selector} needs {path}, which does not exist: run tools/probe.py '
                              'first, or give --plane')
        context.plane = InformationPlane.load(path)
    selection = selector.select(trajectory, context)
    times = [snapshot.time for snapshot in selection.snapshots]
    print(f'{trajectory.length.words} {times}: {selection.reason}')
    for snapshot in selection.snapshots:
        print(snapshot.file)
    if selection.scores:
        print(f'{WORDS[trajectory.unit]:>6}  score, {selection.score_unit}')
    for row in selection.scores:
        print(f'{row["epoch"]:>6}  {row["score"]:.6g}')
    out = Path(args.out or trajectory.folder / 'selection.json')
    if args.out is None and (trajectory.folder / 'stages.json').exists():
        print(f"{out} is the run's own and stays as it is; --out writes this selection to another file")
        return
    write_json(out, dict(
        epochs=times,
        selector=dict(args.options, type=args.selector),
        files=[str(snapshot.file) for snapshot in selection.snapshots],
        trajectory=str(trajectory.folder), candidates=trajectory.times, reason=selection.reason,
        scores=selection.scores, score_unit=selection.score_unit, cost=selection.cost))
    print(f'Written: {out}')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
