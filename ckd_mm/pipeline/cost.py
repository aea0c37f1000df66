"""The cost of training the teachers and of distilling from them, as in Figure 3 of CheckpointKD."""

from collections.abc import Mapping
from typing import Any

from ..counting import EPOCH, WORDS
from ..report.section import Section


def cost_section(sections: Mapping[str, Section], unit: str = EPOCH) -> Section:
    """The costs of all sections together; empty where no teacher was trained.

    ``unit`` is what the trainings count. A section's ``cost`` has some of ``teacher_epochs``,
    ``teacher_hours`` (None: not measured), ``head_epochs``, ``head_hours``, ``student_epochs``,
    ``student_hours`` and ``students``.
    """
    parts = [section.cost for section in sections.values()]
    if not any('teacher_epochs' in part for part in parts):
        return Section()

    def total(key: str) -> Any:
        values = [part[key] for part in parts if key in part]
        return None if None in values else sum(values)

    hours = total('teacher_hours')
    cost = dict(teacher_epochs=total('teacher_epochs'),
                teacher_hours=None if hours is None else hours + total('head_hours'),
                student_epochs=total('student_epochs'), student_hours=total('student_hours'))
    cost['total_epochs'] = cost['teacher_epochs'] + total('head_epochs') + cost['student_epochs']
    cost['total_hours'] = None if hours is None else cost['teacher_hours'] + cost['student_hours']
    if total('students') > 1:
        cost['students'] = total('students')
    if total('head_epochs'):
        cost['head_epochs'] = total('head_epochs')
    return Section(title='Cost', paragraphs=[cost_text(cost, unit)], lines=[cost_text(cost, unit)],
                   summary=dict(cost=cost))


def cost_text(cost: dict[str, Any], unit: str = EPOCH) -> str:
    hours = '' if cost['total_hours'] is None else \
        f' ({cost["teacher_hours"]:.3g} + {cost["student_hours"]:.3g} = {cost["total_hours"]:.3g} hours)'
    heads = f' + {cost["head_epochs"]} of their heads' if 'head_epochs' in cost else ''
    students = f'the {cost["students"]} students' if 'students' in cost else 'the student'
    return (f'training cost: {cost["teacher_epochs"]} {WORDS[unit]}s of teachers, up to the last that '
            f'teaches,{heads} + {cost["student_epochs"]} of {students} = {cost["total_epochs"]}{hours}')
