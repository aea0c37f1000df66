"""The flattened config of each stage."""

from ckd_mm.files import plain
from ckd_mm.pipeline import DistillationPlan, make_plan
from ckd_mm.pipeline.links import chain_of


def flat(value, prefix=''):
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {prefix: value}
    found = {}
    for key, item in items:
        found.update(flat(item, f'{prefix}.{key}' if prefix else str(key)))
    return found


def stage_configs(config):
    plan = make_plan(config)
    found = {}
    if isinstance(plan, DistillationPlan):
        for run in range(max(plan.runs, 1)):
            found[plan.teacher_stage(run)] = plan.teacher_config(run)
        teachers = [dict(trajectory='T', epoch=index + 1) for index in range(plan.expected_teachers())]
        heads = None if plan.heads is None else 'unused/heads.pth'
        if plan.heads is not None:
            found['heads'] = plan.heads_config(teachers[0], (3, 32, 32))
        for link in plan.links:
            before = chain_of(plan.links)[link.stage]
            cohort = plan.cohort(teachers, heads) if before is None else \
                dict(type='ckd_mm.SnapshotEnsemble', snapshots=[dict(file=f'unused/{before}.pth')])
            if plan.hint is not None:
                found['hint'] = plan.hint_config(cohort)
            first = link is plan.links[0]
            if plan.cache is not None:
                found[plan.targets_stage(link)] = plan.targets_config(link, cohort, first)
            found[link.stage] = plan.link_config(link, cohort, first)
    else:
        found['student'] = plan.student_config()
    for run in range(plan.students_alone):
        found[plan.alone_stage(run)] = plan.student_alone_config(run)
    return {name: flat(plain(config.to_dict())) for name, config in found.items()}
