"""The report of a run out of its summary.json and selection.json, until every stage brings its section."""

from pathlib import Path
from typing import Any

from ..errors import CkdError
from ..infoplane.plane import PLANE, InformationPlane
from ..trajectory import Trajectory
from .curves import Curve, read_curve
from .section import Accuracy, Plane, Report, Section, Table

KD_ERROR = 'KD error, images on which a student and its teacher differ'


def report_of(summary: dict[str, Any], selection: dict[str, Any], work_dir: Path) -> Report:
    """
    Args:
        selection: content of selection.json; {} where there is no teacher.
    """
    work_dir = Path(work_dir)
    sections = {}
    lead = 'A student that learns without a teacher, for comparison.'
    if 'teacher' in summary:
        lead = ("Checkpoint distillation: a teacher's trajectory, who of it teaches, and what the student "
                'learnt.')
        sections.update(teacher=teacher(summary, selection, work_dir),
                        select=select(summary, selection, work_dir))
    if 'heads' in summary:
        sections['heads'] = heads(summary)
    if 'links' in summary:
        sections['links'] = links(summary, work_dir)
    sections['student'] = student(summary, work_dir)
    if 'peer' in summary:
        lead = 'Deep mutual learning: two networks that learn from each other.'
        sections['peer'] = peer(summary, work_dir)
    if 'student_alone' in summary:
        sections['student_alone'] = student_alone(summary, work_dir)
    if 'ensembles' in summary:
        sections['ensembles'] = ensembles(summary)
    if 'cost' in summary:
        sections['cost'] = cost(summary, selection)
    return Report(summary['config']['name'], lead, sections, summary['seconds'], summary['versions'],
                  summary['config']['text'])


def teacher(summary: dict, selection: dict, work_dir: Path) -> Section:
    found = summary['teacher']
    row = Accuracy('teacher', f'after its last epoch, {found["epoch"]}', found['accuracy_top1'], 'teacher')
    starred = selection['epochs'] if len(selection['by_trajectory']) == 1 else []
    return Section([row], dict(teacher=_teacher_curve(work_dir, selection)), dict(teacher=starred),
                   summary=dict(teacher=found))


def _teacher_curve(work_dir: Path, selection: dict) -> Curve:
    curve = read_curve(work_dir / 'teacher')
    if curve:
        return curve
    try:
        trajectory = Trajectory.open(selection['by_trajectory'][0]['trajectory'])
    except CkdError:  # snapshots may have been moved away since; the page can do without their curve
        return []
    return [[snapshot.epoch, snapshot.accuracy] for snapshot in trajectory if snapshot.accuracy is not None]


def select(summary: dict, selection: dict, work_dir: Path) -> Section:
    selector, schedule = _selector(summary['selection']['selector']), _schedule(summary)
    accuracies = [] if 'heads' in summary else [_who_teaches(summary)]
    paragraphs = [f'Selector: {selector}.']
    lines = [f'selected by {selector}: {summary["selection"]["reason"]}']
    for part in selection['by_trajectory']:
        paragraphs.append(f'{part["reason"]}; candidates: epochs {", ".join(map(str, part["candidates"]))}.')
    if schedule:
        paragraphs.append(f'Schedule: {schedule}.')
        lines.append(f'schedule: {schedule}')
    tables = [score_table(part) for part in selection['by_trajectory']
              if any('teacher_forwards' in row for row in part['scores'])]
    planes = []
    for number, part in enumerate(selection['by_trajectory'], 1):
        plane = Plane(PLANE if number == 1 else PLANE.replace('.json', f'_{number}.json'), part['epochs'])
        if (work_dir / plane.file).exists():
            planes.append(plane)
            tables.append(plane_table(InformationPlane.load(work_dir / plane.file), part['epochs']))
    return Section(accuracies, title='Who teaches, and why', paragraphs=paragraphs, tables=tables,
                   planes=planes, lines=lines,
                   summary={key: summary[key] for key in ('cohort', 'selection', 'schedule')})


def _who_teaches(summary: dict) -> Accuracy:
    selection, members = summary['selection'], summary.get('heads', {}).get('members', [])
    epochs, trainings = selection['epochs'], [part for part in selection['by_training'] if part]
    if len(epochs) == 1:
        names = ', '.join(member['name'] for member in members)
        what = f'epoch {epochs[0]}' + (f': {names}' if names else '')
    elif len(trainings) > 1:
        what = 'ensemble of ' + ', '.join(f'epoch {epoch} of training {number}'
                                          for number, part in enumerate(trainings, 1) for epoch in part)
    else:
        what = ('in turn epochs ' if selection['in_turn'] else 'ensemble of epochs ') + ', '.join(
            map(str, epochs))
    return Accuracy('who teaches', what, summary['cohort']['accuracy_top1'], 'teacher')


def _selector(selector: str | dict) -> str:
    if isinstance(selector, str):
        return selector
    settings = _listed(selector, ('type', ))
    return selector['type'] + (f'({settings})' if settings else '')


def _schedule(summary: dict) -> str:
    """Empty where the student is distilled alike from the first epoch to the last."""
    hooks = [(hook['type'].split('.')[-1], _listed(hook, ('type', 'dataset')))
             for hook in summary['schedule']]
    return '; '.join(f'{name}({settings})' for name, settings in hooks)


def _listed(settings: dict, but: tuple[str, ...]) -> str:
    return ', '.join(f'{key}={value}' for key, value in settings.items() if key not in but)


def score_table(part: dict) -> Table:
    """Scores that are measured; those of the information plane stand in its own table, an epoch needs
    none."""
    rows = [row for row in part['scores'] if 'teacher_forwards' in row]
    cells = [[row['epoch'], row['score'], row['teacher_forwards'], row['seconds']] for row in rows]
    return Table({'epoch': 'd', f'score, {part["score_unit"]}': '.6g', 'forward passes': ',.0f',
                  'seconds': '.1f'}, cells,
                 [index for index, row in enumerate(rows) if row['epoch'] in part['epochs']])


def plane_table(plane: InformationPlane, chosen: list[int]) -> Table:
    notes, warnings = plane.notes, []
    where = dict(
        held_out='images held out from the training set',
        test='images of the test set, as in the papers: the choice of teacher has seen the test labels').get(
            notes.get('probe_split'), 'images')
    if notes.get('teacher_trained_on_probe_images'):
        warnings.append('Nothing says that this teacher was trained without these images: its accuracy on '
                        'them means little.')
    if plane.uninformed:
        warnings.append(f'At epochs {", ".join(map(str, plane.uninformed))} the decoder reconstructs images '
                        'no better than their mean: I(X;F) says little there. Probe longer (decoder_epochs) '
                        'or more images.')
    rows = [[point.epoch, point.information_x, 100 * point.information_y, row['x'], row['y'], row['sum']]
            for point, row in zip(plane.points, plane.normalised())]
    return Table({'epoch': 'd', 'I(X;F), nats': '.5f', 'I(Y;F), %': '.2f', 'normalised X': '.3f',
                  'normalised Y': '.3f', 'sum': '.3f'}, rows,
                 [index for index, row in enumerate(rows) if row[0] in chosen],
                 f'Probed on {notes.get("images")} {where}. I(X;F): how much better a decoder reconstructs '
                 'the image with the features than without (nats per pixel and channel). I(Y;F): accuracy.',
                 warnings)


def heads(summary: dict) -> Section:
    rows = [Accuracy(head['name'], 'on its feature maps', head['accuracy_top1'], 'teacher')
            for head in summary['heads']['members'] if head['name'].startswith('head')]
    return Section([*rows, _who_teaches(summary)],
                   summary=dict(heads=summary['heads'], cohort=summary['cohort']))


def links(summary: dict, work_dir: Path) -> Section:
    """Assistants and generations before the student."""
    return Section(
        [Accuracy(link['name'], f'distilled, after epoch {link["epoch"]}', link['accuracy_top1'],
                  also=_kd_error(link)) for link in summary['links']],
        {link['name']: read_curve(work_dir / link['name'].replace(' ', '_')) for link in summary['links']},
        summary=dict(links=summary['links']))


def _kd_error(found: dict) -> dict[str, float]:
    return {KD_ERROR: found['metrics']['kd/error']} if 'kd/error' in found['metrics'] else {}


def student(summary: dict, work_dir: Path) -> Section:
    found = summary['student']
    how = 'distilled' if 'teacher' in summary else 'with its peer' if 'peer' in summary else 'no teacher'
    generation = sum(link['name'].startswith('generation') for link in summary.get('links', [])) + 1
    which = f'generation {generation}, ' if generation > 1 else ''
    row = Accuracy('student', f'{which}{how}, after epoch {found["epoch"]}', found['accuracy_top1'],
                   also=_kd_error(found))
    return Section([row], dict(student=read_curve(work_dir / 'student')),
                   summary={key: summary[key] for key in ('student', 'processes', 'images_a_step')})


def peer(summary: dict, work_dir: Path) -> Section:
    found = summary['peer']
    row = Accuracy('peer', f'with the student, after epoch {found["epoch"]}', found['accuracy_top1'])
    return Section([row], dict(peer=read_curve(work_dir / 'student', 'peer/top1')), summary=dict(peer=found))


def student_alone(summary: dict, work_dir: Path) -> Section:
    """Baselines: students without a teacher."""
    students = summary.get('students_alone', [summary['student_alone']])
    rows = [Accuracy('student alone' + (f' {number}' if len(students) > 1 else ''),
                     f'no teacher, after epoch {found["epoch"]}', found['accuracy_top1'], 'baseline')
            for number, found in enumerate(students, 1)]
    said = {key: summary[key] for key in ('student_alone', 'students_alone') if key in summary}
    return Section(rows, {'student alone': read_curve(work_dir / 'student_alone')}, summary=said)


def ensembles(summary: dict) -> Section:
    return Section([Accuracy('ensemble', _ensemble(name, found['size']), found['accuracy_top1'])
                    for name, found in summary['ensembles'].items()],
                   summary=dict(ensembles=summary['ensembles']))


def _ensemble(name: str, size: int) -> str:
    if name == 'generations and teacher':
        return f'of the {size - 1} generations and their first teacher'
    return f'of the {size} {name}'


def cost(summary: dict, selection: dict) -> Section:
    """As in Figure 3 of CheckpointKD."""
    found = summary['cost']
    hours = '' if found['total_hours'] is None else (
        f' ({found["teacher_hours"]:.3g} + {found["student_hours"]:.3g} = {found["total_hours"]:.3g} hours)')
    of_heads = f' + {found["head_epochs"]} of their heads' if 'head_epochs' in found else ''
    students = f'the {found["students"]} students' if 'students' in found else 'the student'
    line = (f'training cost: {found["teacher_epochs"]} epochs of teachers, up to the last that teaches,'
            f'{of_heads} + {found["student_epochs"]} of {students} = {found["total_epochs"]}{hours}')
    paragraphs = [line]
    selecting = [part['cost'] for part in selection['by_trajectory'] if part.get('cost', {}).get('seconds')]
    if selecting:
        paragraphs.append(
            f'Choosing took {sum(part["teacher_forwards"] for part in selecting):,.0f} forward passes of one '
            'image through the teacher, or what equals them in operations, and '
            f'{sum(part["seconds"] for part in selecting):.1f} s.')
    return Section(title='Cost', paragraphs=paragraphs, lines=[line], summary=dict(cost=found))
