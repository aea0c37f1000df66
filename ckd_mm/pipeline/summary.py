"""What a finished run says in ``summary.json``."""

from typing import Any

from ..compat import versions
from ..evaluation import top1
from .cost import run_cost
from .distillation_plan import DistillationPlan
from .links import STUDENT
from .mutual_plan import MutualPlan
from .stage_log import StageLog
from .student_plan import StudentPlan


def summarize(plan: StudentPlan, stages: StageLog) -> dict[str, Any]:
    """Accuracies (percent, on the test set, weights after the last epoch), who taught and why, cost, config
    and versions."""
    summary: dict[str, Any] = dict(student=_network(stages.result(STUDENT)))
    if isinstance(plan, DistillationPlan):
        summary.update(_teachers(plan, stages))
    if isinstance(plan, MutualPlan):
        summary['peer'] = _network(stages.result(STUDENT)['peer'])
    if plan.students_alone:
        alone = [_network(stages.result(plan.alone_stage(run))) for run in range(plan.students_alone)]
        summary['student_alone'] = alone[0]
        if len(alone) > 1:
            summary['students_alone'] = alone
    if stages.is_done('ensembles'):
        summary['ensembles'] = {name: dict(accuracy_top1=top1(found['metrics']), **found)
                                for name, found in stages.result('ensembles').items()}
    summary.update(
        seconds=stages.seconds, processes=stages.processes(STUDENT),
        images_a_step=plan.config.train_dataloader.get('batch_size', 1) * stages.processes(STUDENT),
        config=dict(name=plan.name, text=plan.config.pretty_text), versions=versions())
    return summary


def _network(result: dict[str, Any]) -> dict[str, Any]:
    found = dict(accuracy_top1=top1(result['metrics']), epoch=result['epochs'], metrics=result['metrics'])
    return dict(found, checkpoint=result['checkpoint']) if 'checkpoint' in result else found


def _teachers(plan: DistillationPlan, stages: StageLog) -> dict[str, Any]:
    select = stages.result('select')
    found: dict[str, Any] = dict(teacher=dict(accuracy_top1=top1(select['teacher_metrics']),
                                              epoch=select['teacher_epoch'],
                                              metrics=select['teacher_metrics']),
                                 cohort=dict(accuracy_top1=top1(select['cohort_metrics']),
                                             size=len(select['epochs']), metrics=select['cohort_metrics']))
    between = [link for link in plan.links if link.stage != STUDENT]
    if between:
        found['links'] = [dict(_network(stages.result(link.stage)), name=link.what) for link in between]
    if plan.heads is not None:
        heads = stages.result('heads')
        found['heads'] = dict(members=[
            dict(name=name, accuracy_top1=top1(metrics), metrics=metrics)
            for name, metrics in heads['members'].items()
        ], ensemble=dict(accuracy_top1=top1(heads['ensemble']), metrics=heads['ensemble']),
                              file=heads['file'], epochs=heads['epochs'])
        found['cohort'] = dict(found['heads']['ensemble'], size=len(heads['members']))
    # a selection of an earlier version knows no hours
    trainings = [
        part.get('training') or dict(epochs=max(part['epochs']), hours=None)
        for part in select['by_trajectory']
    ]
    students = [link.stage for link in plan.links] + (['hint'] if plan.hint is not None else [])
    distilling = students + ([] if plan.cache is None else [plan.targets_stage(link) for link in plan.links])
    found.update(schedule=plan.schedule.configs, selection=dict(epochs=select['epochs'],
                                by_training=[part['epochs'] for part in select['by_trajectory']],
                                in_turn=plan.schedule.progressive, selector=select['selector'],
                                reason='; '.join(part['reason'] for part in select['by_trajectory'])),
                 cost=run_cost(trainings, sum(stages.result(stage)['epochs'] for stage in students),
                               sum(stages.seconds[stage] for stage in distilling), len(plan.links),
                               head_epochs=found['heads']['epochs'] if 'heads' in found else 0,
                               head_seconds=stages.seconds['heads'] if 'heads' in found else 0.0))
    return found
