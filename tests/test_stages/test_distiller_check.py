"""A distiller that cannot work is one clear message, before anything is trained."""

import copy
from pathlib import Path

import pytest
import torch

from ckd_mm.errors import ConfigError
from ckd_mm.stages.distiller_check import check_distiller
from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import SnapshotEnsemble
from ckd_mm.trajectory import Snapshot

from ..conftest import resnet
from ..helpers import assert_same_weights, batch, network, prepared, trajectory, with_statistics

STUDENT, TEACHER = with_statistics(resnet(2, channels=4)), with_statistics(resnet(2, channels=8))
L2, KD = dict(type='L2Loss', normalize=False), dict(type='ckd_mm.CohortKDLoss')


def distiller(student='backbone.layer1', teacher='networks.0.backbone.layer1', loss=None, connector=None,
              names=('s_feature', 't_feature'), own='ModuleOutputs', **records) -> dict:
    mapping = {names[0]: dict(recorder='own', from_student=True),
               names[1]: dict(recorder='hint', from_student=False)}
    if connector is not None:
        mapping[names[0]]['connector'] = 'adapt'
    for argument, more in records.items():
        mapping[argument].update(more)
    return dict(type='mmrazor.ConfigurableDistiller',
                student_recorders=dict(own=dict(type=own, source=student)),
                teacher_recorders=dict(hint=dict(type='ModuleOutputs', source=teacher)),
                connectors={} if connector is None else dict(adapt=connector),
                distill_losses=dict(loss_at_1=loss or dict(type='ATLoss', loss_weight=1000.0)),
                loss_forward_mappings=dict(loss_at_1=mapping))


def ours(student='backbone.layer1', teacher='networks.0.backbone.layer1', name='loss_at', **loss) -> dict:
    loss = dict(dict(type='ckd_mm.AttentionTransferLoss'), **loss)
    return dict(type='ckd_mm.FeatureDistiller', losses={name: dict(loss, student=student, teacher=teacher)})


def hint(**settings) -> dict:
    return dict(dict(type='ckd_mm.HintLoss', student_channels=4, teacher_channels=8), **settings)


def convolution(channels, out=8):
    return dict(type='ConvModuleConnector', in_channel=channels, out_channel=out)


class UntrainedSnapshot(Snapshot):
    def build(self):
        return network(self.model, 0).requires_grad_(False)


def teachers_of(*snapshots) -> SnapshotEnsemble:
    return SnapshotEnsemble(snapshots or [UntrainedSnapshot(Path('none'), model=TEACHER)])


def check(config, student=None, teachers=None, **settings):
    student = student or network(STUDENT, 1)
    inputs = student.data_preprocessor(batch(2))['inputs']
    return check_distiller(student, teachers or teachers_of(), config, inputs, **settings)


LOGITS, FIRST = ('student_logits', 'teacher_logits'), dict(data_idx=0)


@pytest.mark.parametrize('config, expected', [
    (distiller(), 'ATLoss'), (distiller(loss=L2, connector=convolution(4)), 'L2Loss'),
    (distiller(loss=L2, connector=[convolution(4, 16), convolution(16)]), 'L2Loss'),
    (distiller('backbone', 'networks.0.backbone', s_feature=FIRST, t_feature=FIRST), 'ATLoss'),
    (distiller('head', 'logits', KD, names=LOGITS), 'CohortKDLoss'),
    # the logits as they come into the student's own loss: it is run as in training
    (distiller('head.loss_module', 'networks.0.head', KD, names=LOGITS, own='ModuleInputs',
               student_logits=FIRST), 'CohortKDLoss'),
])
def test_what_works_passes(config, expected):
    assert check(config) == f'loss_at_1 ({expected})'


@pytest.mark.parametrize('config, expected', [
    (ours(), 'AttentionTransferLoss'), (ours(**hint()), 'HintLoss'),
    (ours('head', 'logits', type='ckd_mm.CohortKDLoss'), 'CohortKDLoss')])
def test_what_works_of_ours_passes(config, expected):
    assert check(config) == f'loss_at ({expected})'


LOSS = '.distill_losses.loss_at_1'
OWN, HINT = "'backbone.layer1' of the student", "'networks.0.backbone.layer1' of the teacher"
OTHER_RECORDER = distiller(s_feature=dict(recorder='other'))


@pytest.mark.parametrize('config, message', [
    # attention transfer between stages of different sizes, or of no maps
    (distiller(teacher='networks.0.backbone.layer2'),
     f"{LOSS}: {OWN} gives (2, 4, 8, 8), 'networks.0.backbone.layer2' of the teacher gives "
     '(2, 16, 4, 4): ATLoss compares maps (N, C, H, W) of one height and width; choose other layers'),
    (distiller('neck', 'networks.0.neck', s_feature=FIRST, t_feature=FIRST),
     f"{LOSS}: 'neck' of the student gives (2, 8), 'networks.0.neck' of the teacher gives (2, 16): "
     'ATLoss compares maps (N, C, H, W)'),
    (distiller('backbone'),
     f"{LOSS}: 'backbone' of the student gives a tuple of (2, 8, 4, 4), "
     f'{HINT} gives (2, 8, 8, 8), which ATLoss cannot compare: '),
    # sources
    (distiller('backbone.layer3'),
     ".student_recorders.own: source='backbone.layer3' is no layer of the network; did you mean "),
    (distiller(teacher='backbone.layer1'),
     ".teacher_recorders.hint: source='backbone.layer1' is no layer of the network; did you mean "
     'networks.0.backbone.layer1'),
    (distiller(t_feature=dict(record_idx=1)),
     f'{LOSS}: {HINT} gives (2, 8, 8, 8), which does not fit '
     "{'recorder': 'hint', 'from_student': False, 'record_idx': 1} (data_idx chooses of several): Asser"),
    (distiller(s_feature=dict(data_idx=1)),
     f'{LOSS}: {OWN} gives (2, 4, 8, 8), which does not fit '),
    # connectors and shapes
    (distiller(loss=L2, connector=convolution(16)),
     f'{LOSS}: {OWN} gives (2, 4, 8, 8), which does not fit '
     "{'recorder': 'own', 'from_student': True, 'connector': 'adapt'} (data_idx chooses of several): Runti"),
    (distiller(loss=L2),
     f'{LOSS}: {OWN} gives (2, 4, 8, 8), {HINT} gives (2, 8, 8, 8): L2Loss compares features of one '
     'shape; choose other layers, or a connector that makes the one out of the other'),
    (distiller(loss=L2, connector=convolution(4, 1)),
     f"{LOSS}: {OWN} through 'adapt' gives (2, 1, 8, 8), "),
    (distiller(loss=dict(type='ChannelWiseDivergence'), names=('preds_S', 'preds_T')),
     f'{LOSS}: {OWN} gives (2, 4, 8, 8), {HINT} gives (2, 8, 8, 8), which '
     'ChannelWiseDivergence cannot compare: '),
    # ours
    (ours(teacher='networks.0.backbone.layer2'),
     f".losses.loss_at: {OWN} gives (2, 4, 8, 8), 'networks.0.backbone.layer2' of the teacher gives "
     '(2, 16, 4, 4), which AttentionTransferLoss cannot compare: ValueError: attention is compared of maps'),
    (ours('backbone'), ".losses.loss_at: 'backbone' of the student gives a tuple of (2, 8, 4, 4), "),
    (ours('backbone.layer3'),
     ".losses.loss_at: student='backbone.layer3' is no layer of the network; did you mean "),
    (ours(['backbone.layer1']), ".losses.loss_at={"),
    (ours(teacher='backbone.layer1'),
     ".losses.loss_at: teacher='backbone.layer1' is no layer of the network; did you mean "
     'networks.0.backbone.layer1'),
    (ours(**hint(student_channels=16)),
     f'.losses.loss_at: {OWN} gives (2, 4, 8, 8), {HINT} gives (2, 8, 8, 8), which HintLoss cannot compare: '
     'RuntimeError: '),
    (ours(**hint(reduction='none')), ".losses.loss_at cannot be built: ConfigError: reduction='none'"),
    (ours(**hint(stages=3)), '.losses.loss_at cannot be built: TypeError: '),
    (ours(type='ckd_mm.AttentionLoss'), '.losses.loss_at cannot be built: '),
    (ours(name='at'), ".losses.at: the name should have 'loss' in it"),
    (dict(type='ckd_mm.FeatureDistiller', losses=dict(loss_at=dict(type='ckd_mm.AttentionTransferLoss'))),
     ".losses.loss_at={'type': 'ckd_mm.AttentionTransferLoss'} should be a dict with type, the layers stu"),
    (dict(type='ckd_mm.FeatureDistiller', losses={}), '.losses={} should be a dict of losses by name'),
    (dict(type='ckd_mm.FeatureDistiler', losses={}), '.ckd_mm.FeatureDistiler '),
    # types and settings
    (distiller(own='ModuleOutput'),
     ".student_recorders.own: {'type': 'ModuleOutput', 'source': 'backbone.layer1'} has no type that mmrazor "
     'knows; did you mean ModuleOutputs'),
    (distiller(loss=dict(type='ATLos')),
     ".distill_losses.loss_at_1: {'type': 'ATLos'} has no type that mmrazor knows; did you mean ATLoss"),
    (distiller(loss=dict(type='ATLoss', beta=1)), '.distill_losses.loss_at_1: ATLoss cannot be built: '),
    (distiller(loss=L2, connector=dict(type='ConvConnector')), '.connectors.adapt: '),
    (distiller(loss=L2, connector=dict(type='ConvModuleConnector')),
     '.connectors.adapt: ConvModuleConnector cannot be built: '),
    (OTHER_RECORDER, '.mmrazor.ConfigurableDistiller cannot be built: AssertionError: For s_feature, '),
    # a distiller that would do nothing
    ('at', "='at' should be a dict, type='ckd_mm.FeatureDistiller' and losses"),
    (dict(distiller(), loss_forward_mappings=None),
     '.distill_losses.loss_at_1 is never computed: say in loss_forward_mappings what each loss compares'),
    (dict(type='mmrazor.ConfigurableDistiller'), '.distill_losses is never computed'),
])
def test_what_cannot_work_is_named(config, message):
    with pytest.raises(ConfigError) as caught:
        check(config, key='hint.distiller')
    assert str(caught.value).startswith(f'hint.distiller{message}')


@pytest.mark.parametrize('config', [distiller(loss=L2, connector=convolution(4)), ours(**hint())])
def test_the_check_leaves_no_trace(config):
    student, teachers = network(STUDENT, 1).train(), teachers_of()
    before = [copy.deepcopy(net.state_dict()) for net in (student, teachers)]
    given, random = copy.deepcopy(config), torch.get_rng_state()
    check(config, student, teachers)
    for net, weights in zip((student, teachers), before):
        assert_same_weights(net.state_dict(), weights)
        assert not any(module._forward_hooks for module in net.modules())
    assert student.training and all(parameter.requires_grad for parameter in student.parameters())
    assert config == given and torch.equal(torch.get_rng_state(), random)


def test_a_cohort_is_checked_as_it_will_be_recorded(tmp_path):
    run = trajectory(tmp_path, model=TEACHER)
    teachers = teachers_of(*(dict(trajectory=str(run.folder), epoch=epoch) for epoch in (1, 3)))
    config = distiller(teacher='networks.1.backbone.layer1')
    assert check(config, teachers=teachers) == 'loss_at_1 (ATLoss)'
    model = CheckpointDistill(STUDENT, teachers, distiller=config)
    assert 'loss_at_1' in model.loss(**model.data_preprocessor(batch(), training=True))


def test_of_given_trajectories_too_the_epochs_tell_how_many_teach(distil_run, tmp_path):
    run = trajectory(tmp_path / 'given', epochs=(2, 4), model=TEACHER)
    config = distil_run(model=resnet(2, channels=4), probe=None,
                        distill=dict(distiller=distiller(teacher='networks.1.backbone.layer1')))
    config.teacher, config.selector = dict(trajectory=str(run.folder)), dict(type='even', k=2)
    lines, _ = prepared(config)
    assert any(line.startswith('[ ok ] student: rehearsal: loss_at_1 (ATLoss); 2 steps') for line in lines)
    config.selector = 'last'
    with pytest.raises(ConfigError, match=r"source='networks\.1\.backbone\.layer1' is no layer"):
        prepared(config)
