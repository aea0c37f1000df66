"""What the page says of a selection: who teaches, by which scores, at what cost."""

from collections.abc import Sequence
from typing import Any

from ..counting import EPOCH, WORDS
from ..evaluation import top1
from ..report.section import Accuracy, Section, Table
from ..trajectory import Snapshot


def selection_section(result: Any, in_turn: bool, unit: str = EPOCH) -> Section:
    """
    Args:
        result: a :class:`ckd_mm.stages.select.SelectResult`.
        in_turn: whether the snapshots teach one after the other.
        unit: what the trainings of the run count; costs in another one are left out.
    """
    parts, selector = result.by_trajectory, selector_text(result.selector)
    teacher, cohort = top1(result.teacher_metrics), top1(result.cohort_metrics)
    reason, hours = '; '.join(part['reason'] for part in parts), [part['training']['hours'] for part in parts]
    candidates = [f'{part["reason"]}; candidates: {word_of(part)}s {", ".join(map(str, part["candidates"]))}.'
                  for part in parts]
    alike = all(part.get('unit', EPOCH) == unit for part in parts)
    return Section(
        title='Who teaches, and why',
        accuracies=[Accuracy.of('teacher', f'after its last {word_of(parts[0])}, {result.teacher_epoch}'
                                if result.teacher_epoch else 'as given', result.teacher_metrics, 'teacher'),
                    Accuracy.of('who teaches', who_teaches(result, in_turn), result.cohort_metrics,
                                'teacher')],
        paragraphs=[f'Selector: {selector}.', *candidates, *selection_cost([part['cost'] for part in parts])],
        lines=[f'selected by {selector}: {reason}'],
        starred={'teacher': result.epochs} if len(parts) == 1 and alike else {},
        tables=score_tables(parts),
        cost=dict(teacher_epochs=sum(part['training']['epochs'] for part in parts),
                  teacher_hours=None if None in hours else sum(hours)) if alike else {},
        summary=dict(
            teacher=dict(accuracy_top1=teacher, epoch=result.teacher_epoch, metrics=result.teacher_metrics),
            cohort=dict(accuracy_top1=cohort, size=len(result.epochs), metrics=result.cohort_metrics),
            selection=dict(epochs=result.epochs, by_training=[part['epochs'] for part in parts],
                           in_turn=in_turn, selector=result.selector, reason=reason)))


def who_teaches(result: Any, in_turn: bool = False, members: Sequence[str] = ()) -> str:
    """
    Args:
        members: names of the heads and of the teacher itself, where it has heads.
    """
    trainings = [(word_of(part), part['epochs']) for part in result.by_trajectory if part['epochs']]
    word = trainings[0][0] if trainings else WORDS[EPOCH]
    if len(result.epochs) == 1:
        one = f'{word} {result.epochs[0]}' if result.epochs[0] else 'the checkpoint'
        return one + (f': {", ".join(members)}' if members else '')
    if len(trainings) > 1:
        return 'ensemble of ' + ', '.join(f'{word} {time} of training {number}' for number, (word, times)
                                          in enumerate(trainings, 1) for time in times)
    return f'{"in turn" if in_turn else "ensemble of"} {word}s ' + ', '.join(map(str, result.epochs))


def word_of(part: dict[str, Any]) -> str:
    """What the training of a trajectory counts."""
    return WORDS[part.get('unit', EPOCH)]


def training_cost(snapshots: Sequence[Snapshot]) -> dict[str, float | None]:
    """``epochs`` (or iterations) and ``hours`` (None: not measured) of a training up to the last of its
    snapshots that teach: a half-way teacher costs half a training (CheckpointKD, Figure 3)."""
    if not snapshots:
        return dict(epochs=0, hours=0.0)
    last = max(snapshots, key=lambda snapshot: snapshot.time)
    return dict(epochs=last.time, hours=None if last.seconds is None else last.seconds / 3600)


def selection_cost(costs: Sequence[dict]) -> list[str]:
    """A sentence, where selecting took measurable time."""
    forwards, seconds = (sum(cost.get(key) or 0 for cost in costs) for key in ('teacher_forwards', 'seconds'))
    return [f'Selecting took {forwards:,.0f} forward passes of one image through the teacher, or as many '
            f'operations, and {seconds:.1f} s.'] if seconds else []


def score_tables(parts: Sequence[dict]) -> list[Table]:
    """Of scores that were measured; those of the information plane have a table of their own."""
    tables = []
    for part in parts:
        rows = [row for row in part['scores'] if 'teacher_forwards' in row]
        columns = {word_of(part): 'd', f'score, {part["score_unit"]}': '.6g', 'forward passes': ',.0f',
                   'seconds': '.1f'}
        cells = [[row[key] for key in ('epoch', 'score', 'teacher_forwards', 'seconds')] for row in rows]
        chosen = [index for index, row in enumerate(rows) if row['epoch'] in part['epochs']]
        tables += [Table(columns, cells, chosen)] if rows else []
    return tables


def selector_text(selector: str | dict) -> str:
    if isinstance(selector, str):
        return selector
    settings = ', '.join(f'{key}={value}' for key, value in selector.items() if key != 'type')
    return selector['type'] + (f'({settings})' if settings else '')


def percent(value: float | None) -> str:
    return 'not measured' if value is None else f'{value:.2f} %'
