#!/usr/bin/env python
"""Compare selectors: which predicts the accuracy of the students of each snapshot, and at what cost?

    python tools/sweep.py CONFIG --work-dir work_dirs/sweep --seeds 0 1 2
    python tools/compare_selectors.py CONFIG work_dirs/sweep

The truth is a finished sweep: students taught by each snapshot. For each selector the table shows what it
chose, the rank correlation (Spearman, with a 95 % interval) of its scores with the students' accuracies, its
regret (accuracy below that of the best choice), and its cost in forward passes of one image through the
teacher and in seconds. Several sweeps, of teachers trained with other seeds, give means over them.
"""

import argparse
import ast
from dataclasses import asdict
from pathlib import Path

SELECTORS = ['last', 'half_way', 'information_plane', 'cmi', 'calibration', 'short_probe']


def parse_args() -> argparse.Namespace:
    from ckd_mm.cli import KeyValues
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the sweeps')
    parser.add_argument('sweeps', nargs='+', help='work_dirs of tools/sweep.py')
    parser.add_argument(
        '--selectors', nargs='+', default=SELECTORS, metavar='NAME[:KEY=VALUE[,KEY=VALUE]]',
        help='each chooses one snapshot; say short_probe:epochs=2,factor=3; default: ' + ' '.join(SELECTORS))
    parser.add_argument('--out', help='folder for comparison.json, .md and .png; default: `selectors` in '
                                      'each sweep, of several the first')
    parser.add_argument('--amp', action='store_true',
                        help='automatic mixed precision, in short trainings of the student')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate by the batch size actually used')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues,
                        help='as they were given to the sweeps')
    return parser.parse_args()


def selector_of(text: str) -> dict:
    """``'short_probe:epochs=2'`` as a config."""
    from ckd_mm.errors import ConfigError
    name, _, settings = text.partition(':')
    found = dict(type=name)
    for item in filter(None, settings.split(',')):
        key, equals, value = item.partition('=')
        if not equals:
            raise ConfigError(f'--selectors {text}: expected NAME:KEY=VALUE,...')
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value  # a word
    return found


def compare(config, sweep: Path, selectors: list) -> tuple:
    """Scores of all selectors on one sweep, and its truth. What was scored before is not scored again."""
    from ckd_mm.errors import CkdError, reading
    from ckd_mm.files import read_json
    from ckd_mm.infoplane import PLANE
    from ckd_mm.infoplane.probe import probe_trajectory
    from ckd_mm.pipeline.build import open_run, stage_of
    from ckd_mm.selection.comparison import selector_score
    from ckd_mm.sweep import check_batch
    file = Path(sweep, 'results.json')
    results = read_json(file)
    with reading(f'{file} holds no results of tools/sweep.py'):
        truth = {row['epoch']: row['accuracies'] for row in results['epochs']}
    if len(truth) < 3:
        raise CkdError(f'{sweep} has students of {len(truth)} snapshots; a rank correlation needs at least 3 '
                       '(tools/sweep.py --epochs)')
    folder = Path(sweep) / 'selectors'
    opened, scores = {}, []
    for text in selectors:  # all of them are checked before the first one scores
        own = config.copy()
        own.work_dir, own.selector = str(folder), selector_of(text)
        own.teacher = dict(trajectory=str(results['trajectory'][0]),
                           model=(config.get('teacher') or {}).get('model'))
        run, stages = open_run(own)
        opened[text] = run, stage_of(stages, 'select')
    if any(select.selector.needs_student for _, select in opened.values()):
        check_batch(config)
    for text, (run, select) in opened.items():
        trajectory = select.trajectories(run)[0]
        trajectory.snapshots = [snapshot for snapshot in trajectory if snapshot.time in truth]
        if not select.selector.measures:
            selector_score(text, select.selector.select(trajectory), truth)  # what costs nothing fails first
    shared = next((select.probe for _, select in opened.values() if select.probe is not None), None)
    for text, (run, select) in opened.items():
        trajectory = select.trajectories(run)[0]
        # folders of its own: the same selector with other settings has other scores
        context = select.context(run, folder / text.replace(':', '_').replace('=', '-').replace(',', '_'))
        if context.probe is not None:
            context.probe = context.student.probe = shared  # its images are read once
        if select.selector.needs_plane:
            context.plane = probe_trajectory(trajectory, shared, folder / PLANE)
        scores.append(selector_score(text, select.selector.select(trajectory, context), truth))
    return scores, truth


def main() -> None:
    args = parse_args()
    from ckd_mm.cli import merge_options, read_config, set_loader_defaults, use_amp, use_auto_scale_lr
    from ckd_mm.files import atomic_write, write_json
    from ckd_mm.pipeline.build import require_dicts
    from ckd_mm.registry import use_scope
    from ckd_mm.report.selector_figures import draw_selectors
    from ckd_mm.selection.comparison import reliability, summarise, summary_of, table_of
    config = read_config(args.config)
    merge_options(config, args.cfg_options)
    require_dicts(config)
    if args.amp:
        use_amp(config)
    if args.auto_scale_lr:
        use_auto_scale_lr(config, args.config)
    set_loader_defaults(config)
    use_scope(config)
    found, pages = [], []
    for sweep in args.sweeps:
        scores, truth = compare(config, Path(sweep), args.selectors)
        found.append(scores)
        agreement = reliability(truth)
        students = min(map(len, truth.values()))
        lines = [table_of(scores), f'{len(truth)} snapshots, {students} students of each.']
        if agreement is not None:
            lines.append('One half of the students predicts the order of the other with a rank correlation '
                         f'of {agreement:+.2f}.')
        out = Path(args.out or Path(sweep) / 'selectors')
        out = out if args.out is None or len(args.sweeps) == 1 else out / Path(sweep).name
        write_json(out / 'comparison.json', dict(sweep=str(sweep), truth=truth, reliability=agreement,
                                                 selectors=[asdict(score) for score in scores]))
        draw_selectors(scores, truth, out / 'comparison.png')
        pages.append('\n\n'.join(lines))
        atomic_write(out / 'comparison.md', (pages[-1] + '\n').encode())
        print(f'\n{sweep}\n\n{pages[-1]}\n\nWritten: {out}/comparison.json, .md, .png')
    if len(found) > 1:
        out, rows = Path(args.out or Path(args.sweeps[0]) / 'selectors'), summarise(found)
        write_json(out / 'summary.json', dict(sweeps=args.sweeps, rows=rows))
        atomic_write(out / 'summary.md', (summary_of(rows) + '\n').encode())
        print(f'\nMeans over {len(found)} teachers\n\n{summary_of(rows)}\n\nWritten: {out}/summary.json, .md')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
