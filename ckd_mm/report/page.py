"""One self-contained page about a run."""

import html
import json
from pathlib import Path
from typing import Any

from ..errors import CkdError
from ..files import atomic_write, read_json
from ..infoplane.plane import PLANE, InformationPlane
from ..trajectory import Trajectory
from ..trajectory.snapshot import ACCURACY
from .figures import Curve, as_svg, draw_information_plane, draw_training

STYLE = '''
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin-top: 2em; }
.lead { color: #555; } .figures { display: flex; flex-wrap: wrap; gap: 1em; } .figures > div { flex: 1 1 420px; max-width: 560px; }
.figures svg { width: 100%; height: auto; }
table { border-collapse: collapse; }
td, th { padding: .3em .9em .3em 0; text-align: left; border-bottom: 1px solid #e5e5e5; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } tr.chosen td { background: #fff4d6; font-weight: 600; }
pre { background: #f6f6f6; padding: 1em; overflow-x: auto; font-size: 12px; } .warn { background: #fff4d6; padding: .6em 1em; }
'''


def read_curve(folder: Path, metric: str = ACCURACY) -> Curve:
    """Validation accuracy by epoch from mmengine's logs in ``folder``; of an epoch that was run twice the
    later counts."""
    points: dict[float, float] = {}
    for log in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a killed run
            if metric in row and 'step' in row:
                points[row['step']] = row[metric]
    return sorted(points.items())


def accuracy_rows(summary: dict[str, Any]) -> list[tuple]:
    """Name, what it is, top-1 accuracy in percent or None."""
    rows = []
    if 'teacher' in summary:
        rows.append(('teacher', f'after its last epoch, {summary["teacher"]["epoch"]}',
                     summary['teacher']['accuracy_top1']))
        heads = summary.get('heads', {}).get('members', [])
        rows += [(head['name'], 'on its feature maps', head['accuracy_top1']) for head in heads
                 if head['name'].startswith('head')]
        who = _teachers(summary['selection'], [member['name'] for member in heads])
        rows.append(('who teaches', who, summary['cohort']['accuracy_top1']))
    alone = summary.get('students_alone', [summary['student_alone']] if 'student_alone' in summary else [])
    for number, student in enumerate(alone, 1):
        rows.append(('student alone' + (f' {number}' if len(alone) > 1 else ''), 'no teacher, after epoch '
                                                                                 f'{student["epoch"]}',
                     student['accuracy_top1']))
    rows += [(link['name'], f'distilled, after epoch {link["epoch"]}', link['accuracy_top1'])
             for link in summary.get('links', [])]
    how = 'distilled' if 'teacher' in summary else 'with its peer' if 'peer' in summary else 'no teacher'
    generation = sum(link['name'].startswith('generation') for link in summary.get('links', [])) + 1
    which = f'generation {generation}, ' if generation > 1 else ''
    rows.append(('student', f'{which}{how}, after epoch {summary["student"]["epoch"]}',
                 summary['student']['accuracy_top1']))
    if 'peer' in summary:
        rows.append(('peer', f'with the student, after epoch {summary["peer"]["epoch"]}',
                     summary['peer']['accuracy_top1']))
    rows += [('ensemble', _ensemble(name, found['size']), found['accuracy_top1'])
             for name, found in summary.get('ensembles', {}).items()]
    return rows


def _ensemble(name: str, size: int) -> str:
    if name == 'generations and teacher':
        return f'of the {size - 1} generations and their first teacher'
    return f'of the {size} {name}'


def _agreement(summary: dict[str, Any]) -> str:
    """KD error of each student that has one; empty where it was not measured."""
    students = [*summary.get('links', []), dict(summary['student'], name='student')]
    found = [
        f'{student["name"]} {student["metrics"]["kd/error"]:.2f} %' for student in students
        if 'kd/error' in student['metrics']
    ]
    return f'KD error, images on which a student and its teacher differ: {", ".join(found)}' if found else ''


def _teachers(selection: dict[str, Any], members: list[str]) -> str:
    """
    Args:
        members: names of those who teach, where a teacher has heads.
    """
    epochs, trainings = selection['epochs'], [part for part in selection.get('by_training', []) if part]
    if len(epochs) == 1:
        return f'epoch {epochs[0]}' + (f': {", ".join(members)}' if members else '')
    if len(trainings) > 1:
        named = [
            f'epoch {epoch} of training {number}' for number, part in enumerate(trainings, 1)
            for epoch in part
        ]
        return 'ensemble of ' + ', '.join(named)
    return ('in turn epochs ' if selection.get('in_turn') else 'ensemble of epochs ') + ', '.join(
        map(str, epochs))


def _schedule(summary: dict[str, Any]) -> str:
    """Empty where the student is distilled alike from the first epoch to the last."""
    return '; '.join(f'{hook["type"].split(".")[-1]}(' +
                     ', '.join(f'{key}={value}'
                               for key, value in hook.items() if key not in ('type', 'dataset')) + ')'
                     for hook in summary.get('schedule', []))


def results_table(summary: dict[str, Any]) -> str:
    """The result as text."""
    rows = accuracy_rows(summary)
    first, second = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    lines = [f'{name:<{first}}  {what:<{second}}  {_number(value):>8}' for name, what, value in rows]
    total = sum(summary['seconds'].values())
    selected = [f'selected by {_selector(summary)}: {summary["selection"]["reason"]}'
                ] if 'selection' in summary else []
    schedule = [f'schedule: {_schedule(summary)}'] if _schedule(summary) else []
    cost = [_cost(summary['cost'])] if 'cost' in summary else []  # pages of older runs can be made anew, too
    return '\n'.join([
        f'{"":<{first}}  {"":<{second}}  {"top-1 %":>8}', *lines,
        *([_agreement(summary)] if _agreement(summary) else []), *selected, *schedule, *cost,
        f'{total:.0f} s in all: ' + ', '.join(f'{stage} {seconds:.0f}'
                                              for stage, seconds in summary['seconds'].items())
    ])


def write_report(work_dir: Path) -> Path:
    """Write ``report.html`` and the figures from the JSON files of a finished run.

    Raises:
        CkdError: a file of the run is missing.
    """
    work_dir = Path(work_dir)
    summary = read_json(work_dir / 'summary.json')
    selection = read_json(work_dir /
                          'selection.json') if 'selection' in summary else dict(by_trajectory=[], epochs=[])
    planes = []
    for number, part in enumerate(selection['by_trajectory']):
        file = work_dir / (PLANE if number == 0 else PLANE.replace('.json', f'_{number + 1}.json'))
        if file.exists():
            planes.append((InformationPlane.load(file), part['epochs'], file))
    figures = []
    for plane, epochs, file in planes:
        figures.append(as_svg(draw_information_plane(plane, file.with_suffix('.png'), epochs)))
    curves = {'teacher': _teacher_curve(work_dir, selection)} if selection['by_trajectory'] else {}
    curves.update({
        link['name']: read_curve(work_dir / link['name'].replace(' ', '_'))
        for link in summary.get('links', [])
    })
    curves['student'] = read_curve(work_dir / 'student')
    if 'peer' in summary:
        curves['peer'] = read_curve(work_dir / 'student', 'peer/top1')
    if 'student_alone' in summary:
        curves['student alone'] = read_curve(work_dir / 'student_alone')
    if any(curves.values()):
        figures.append(
            as_svg(
                draw_training(curves, selection['epochs'] if len(selection['by_trajectory']) == 1 else (),
                              work_dir / 'training.png')))
    page = work_dir / 'report.html'
    atomic_write(page, _page(summary, selection, planes, figures).encode())
    return page


def _teacher_curve(work_dir: Path, selection: dict) -> Curve:
    curve = read_curve(work_dir / 'teacher')
    if curve:
        return curve
    try:
        trajectory = Trajectory.open(selection['by_trajectory'][0]['trajectory'])
    except CkdError:  # snapshots may have been moved away since; the page can do without their curve
        return []
    return [(snapshot.epoch, snapshot.accuracy) for snapshot in trajectory if snapshot.accuracy is not None]


def _page(summary: dict, selection: dict, planes: list[tuple], figures: list[str]) -> str:
    name = html.escape(summary['config']['name'])
    rows = ''.join(f'<tr><td>{html.escape(who)}</td><td>{html.escape(what)}</td><td '
                   f'class="n">{_number(value)}</td></tr>'
                   for who, what, value in accuracy_rows(summary))
    lead = ('Checkpoint distillation: a teacher\'s trajectory, who of it teaches, and what the student '
            'learnt.' if 'teacher' in summary else
            'Deep mutual learning: two networks that learn from each other.' if 'peer' in summary else
            'A student that learns without a teacher, for comparison.')
    reasons = ''.join(f'<p>{html.escape(part["reason"])}; candidates: epochs '
                      f'{", ".join(map(str, part["candidates"]))}.</p>'
                      for part in selection['by_trajectory'])
    seconds = ''.join(f'<tr><td>{html.escape(stage)}</td><td class="n">{value:.1f}</td></tr>'
                      for stage, value in summary['seconds'].items())
    version = ''.join(f'<tr><td>{html.escape(key)}</td><td>{html.escape(value)}</td></tr>'
                      for key, value in summary['versions'].items())
    cost = f'<p>{html.escape(_cost(summary["cost"]))}</p>' if 'cost' in summary else ''
    selecting = [part['cost'] for part in selection['by_trajectory'] if part.get('cost', {}).get('seconds')]
    if selecting:
        cost += (f'<p>Choosing took {sum(part["teacher_forwards"] for part in selecting):,.0f} forward '
                 'passes of one image through the '
                 'teacher, or what equals them in operations, and '
                 f'{sum(part["seconds"] for part in selecting):.1f} s.</p>')
    reasons += f'<p>Schedule: {html.escape(_schedule(summary))}.</p>' if _schedule(summary) else ''
    scores = ''.join(map(_score_table, selection['by_trajectory']))
    agreement = f' {html.escape(_agreement(summary))}.' if _agreement(summary) else ''
    drawn = ''.join(f'<div>{figure}</div>' for figure in figures)
    choice = '' if 'selection' not in summary else (
        '<h2>Who teaches, and why</h2>\n<p>Selector: '
        f'<code>{html.escape(_selector(summary))}</code>.</p>{reasons}{scores}'
        f'{"".join(_plane_table(*plane) for plane in planes)}\n<h2>Cost</h2>\n{cost}')
    return f'''<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{name}: checkpoint distillation</title><style>{STYLE}</style></head><body>
<h1>{name}</h1><p class="lead">{lead}</p>
<h2>Accuracy</h2>
<table><tr><th></th><th></th><th class="n">top-1, %</th></tr>{rows}</table>
<p class="lead">Measured once, on the test set, with the weights after the last epoch (no best epoch is picked).{agreement}</p>
<div class="figures">{drawn}</div>
{choice}
<h2>Time</h2>
<table><tr><th>stage</th><th class="n">seconds</th></tr>{seconds}</table>
<h2>Made with</h2>
<table>{version}</table>
<details><summary>Config</summary><pre>{html.escape(summary['config']['text'])}</pre></details>
</body></html>
'''


def _plane_table(plane: InformationPlane, chosen: list[int], file: Path) -> str:
    lines = []
    for point, row in zip(plane.points, plane.normalised()):
        mark = ' class="chosen"' if point.epoch in chosen else ''
        lines.append(f'<tr{mark}><td class="n">{point.epoch}</td><td class="n">{point.information_x:.5f}</td>'
                     f'<td class="n">{100 * point.information_y:.2f}</td><td class="n">{row["x"]:.3f}</td>'
                     f'<td class="n">{row["y"]:.3f}</td><td class="n">{row["sum"]:.3f}</td></tr>')
    notes = plane.notes
    where = {'held_out': 'images held out from the training set', 'test': 'images of the test set, as in '
                                                                          'the papers: the choice '
             'of teacher has seen the test labels'}.get(notes.get('probe_split'), 'images')
    seen = '<p class="warn">Nothing says that this teacher was trained without these images: its accuracy on them means little.</p>' \
        if notes.get('teacher_trained_on_probe_images') else ''
    if plane.uninformed:
        seen += (f'<p class="warn">At epochs {", ".join(map(str, plane.uninformed))} the decoder '
                 'reconstructs images no better than their '
                 'mean: I(X;F) says little there. Probe longer (decoder_epochs) or more images.</p>')
    return (f'<p>Probed on {notes.get("images")} {where}. I(X;F): how much better a decoder reconstructs '
            'the image with the '
            f'features than without (nats per pixel and channel). I(Y;F): accuracy.</p>{seen}'
            '<table><tr><th class="n">epoch</th><th class="n">I(X;F), nats</th><th class="n">I(Y;F), '
            '%</th><th class="n">normalised X</th>'
            f'<th class="n">normalised Y</th><th class="n">sum</th></tr>{"".join(lines)}</table>')


def _cost(cost: dict) -> str:
    """As in Figure 3 of CheckpointKD."""
    hours = '' if cost['total_hours'] is None else \
        f' ({cost["teacher_hours"]:.3g} + {cost["student_hours"]:.3g} = {cost["total_hours"]:.3g} hours)'
    heads = f' + {cost["head_epochs"]} of their heads' if 'head_epochs' in cost else ''
    students = f'the {cost["students"]} students' if 'students' in cost else 'the student'
    return (f'training cost: {cost["teacher_epochs"]} epochs of teachers, up to the last that '
            f'teaches,{heads} + {cost["student_epochs"]} '
            f'of {students} = {cost["total_epochs"]}{hours}')


def _score_table(part: dict) -> str:
    """Scores that are measured; those of the information plane stand in its own table, an epoch needs
    none."""
    rows = [row for row in part['scores'] if 'teacher_forwards' in row]
    if not rows:
        return ''
    lines = []
    for row in rows:
        mark = ' class="chosen"' if row['epoch'] in part['epochs'] else ''
        lines.append(f'<tr{mark}><td class="n">{row["epoch"]}</td><td class="n">{row["score"]:.6g}</td>'
                     f'<td class="n">{row["teacher_forwards"]:,.0f}</td><td '
                     f'class="n">{row["seconds"]:.1f}</td></tr>')
    return (f'<table><tr><th class="n">epoch</th><th class="n">score, {html.escape(part["score_unit"])}</th>'
            f'<th class="n">forward passes</th><th class="n">seconds</th></tr>{"".join(lines)}</table>')


def _selector(summary: dict) -> str:
    selector = summary['selection']['selector']
    if isinstance(selector, str):
        return selector
    settings = ', '.join(f'{key}={value}' for key, value in selector.items() if key != 'type')
    return selector['type'] + (f'({settings})' if settings else '')


def _number(value: float | None) -> str:
    return 'n/a' if value is None else f'{value:.2f}'
