"""What a step costs beside mmrazor's."""

import copy

from measure import Pair
from steps import CE_WEIGHT, KD_WEIGHT, TAU, compare, distilling, mmengine_contender
from torch import nn
from workload import Workload, build, confident_teachers, snapshots

from ckd_mm.compat import require_mmrazor


def kd_step_vs_mmrazor(work: Workload) -> list[float]:
    """``CheckpointDistill.train_step`` with one snapshot as teacher / ``train_step`` of mmrazor's
    ``SingleTeacherDistill`` with its ``KLDivergence``: same networks, same weights of the losses."""
    (teacher, ), student = confident_teachers(work), build(work.student)
    with snapshots(work, [teacher]) as files:

        def make_pair() -> Pair:
            theirs = single_teacher_distill(copy.deepcopy(teacher), copy.deepcopy(student), work)
            ours = distilling(copy.deepcopy(student), files)
            return mmengine_contender(ours, work), mmengine_contender(theirs, work)

        return compare(make_pair, work)


def single_teacher_distill(teacher: nn.Module, student: nn.Module, work: Workload) -> nn.Module:
    """As mmrazor's own configs of logits distillation put it together (``configs/distill/mmcls/kd``)."""
    require_mmrazor('kd_step_vs_mmrazor')
    from mmrazor.models import SingleTeacherDistill
    student.head.loss_module.loss_weight = CE_WEIGHT
    logits = dict(fc=dict(type='ModuleOutputs', source='head.fc'))
    distiller = dict(
        type='mmrazor.ConfigurableDistiller', _scope_='mmrazor',
        student_recorders=logits, teacher_recorders=logits,
        distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=TAU, loss_weight=KD_WEIGHT)),
        loss_forward_mappings=dict(loss_kl=dict(preds_S=dict(from_student=True, recorder='fc'),
                                                preds_T=dict(from_student=False, recorder='fc'))))
    preprocessor = dict(work.student['data_preprocessor'], type='mmpretrain.ClsDataPreprocessor')
    return SingleTeacherDistill(architecture=student, teacher=teacher, data_preprocessor=preprocessor,
                                distiller=distiller)
