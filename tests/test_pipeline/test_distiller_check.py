"""A distiller that cannot work is one clear message, before anything is trained."""

import copy

import pytest
import torch
from mmpretrain.registry import MODELS as CLASSIFIERS

from ckd_mm.errors import ConfigError
from ckd_mm.pipeline.preflight import Preflight
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.stages.distiller_check import check_distiller
from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import resnet
from ..helpers import assert_same_weights, batch, network, trajectory, with_statistics

STUDENT, TEACHER = with_statistics(resnet(2, channels=4)), with_statistics(resnet(2, channels=8))


def distiller(student='backbone.layer1', teacher='networks.0.backbone.layer1', loss=None, connector=None,
              names=('s_feature', 't_feature'), **records) -> dict:
    mapping = {
        names[0]: dict(recorder='own', from_student=True), names[1]: dict(recorder='hint', from_student=False)
    }
    if connector is not None:
        mapping[names[0]]['connector'] = 'adapt'
    for argument, more in records.items():
        mapping[argument].update(more)
    return dict(
        type='mmrazor.ConfigurableDistiller',
        student_recorders=dict(own=dict(type='ModuleOutputs', source=student)),
        teacher_recorders=dict(hint=dict(type='ModuleOutputs', source=teacher)),
        connectors={} if connector is None else dict(adapt=connector),
        distill_losses=dict(loss_at_1=loss or dict(type='ATLoss', loss_weight=1000.0)),
        loss_forward_mappings=dict(loss_at_1=mapping))


def convolution(channels, out=8):
    return dict(type='ConvModuleConnector', in_channel=channels, out_channel=out)


L2 = dict(type='L2Loss', normalize=False)


def inputs_of(images=2):
    return CLASSIFIERS.build(copy.deepcopy(STUDENT)).data_preprocessor(batch(images))['inputs']


def check(config, teacher=TEACHER, **settings):
    return check_distiller(network(STUDENT, 1), network(teacher, 2), config, inputs_of(), **settings)


@pytest.mark.parametrize('config, expected', [
    (distiller(), 'loss_at_1 (ATLoss)'), (distiller(loss=L2, connector=convolution(4)), 'loss_at_1 (L2Loss)'),
    (distiller(loss=L2, connector=[convolution(4, 16), convolution(16)]), 'loss_at_1 (L2Loss)'),
    (distiller('backbone', 'networks.0.backbone', s_feature=dict(data_idx=0),
               t_feature=dict(data_idx=0)), 'loss_at_1 (ATLoss)'),
    (distiller('head', 'logits', dict(type='ckd_mm.CohortKDLoss'),
               names=('student_logits', 'teacher_logits')), 'loss_at_1 (CohortKDLoss)'),
    (distiller('head.loss_module', 'networks.0.head', dict(type='ckd_mm.CohortKDLoss')), None)
])
def test_what_works_passes(config, expected):
    if expected is None:  # the logits as they come into the student's own loss: it is run as in training
        config['student_recorders']['own']['type'] = 'ModuleInputs'
        mapping = config['loss_forward_mappings']['loss_at_1']
        config['loss_forward_mappings']['loss_at_1'] = dict(student_logits=dict(mapping['s_feature'],
                                                                                data_idx=0),
                                                            teacher_logits=mapping['t_feature'])
        expected = 'loss_at_1 (CohortKDLoss)'
    assert check(config) == expected


@pytest.mark.parametrize('config, message', [
    # attention transfer between stages of different sizes
    (distiller(teacher='networks.0.backbone.layer2'),
     "loss_at_1: 'backbone.layer1' of the student gives 8x8 maps, 'networks.0.backbone.layer2' of the "
     "teacher gives 4x4 maps: attention "
     'transfer compares maps of one size; choose stages of one size'),
    (distiller('neck', 'networks.0.neck', s_feature=dict(data_idx=0), t_feature=dict(data_idx=0)),
     "loss_at_1: 'neck' of the student, data_idx=0, gives (2, 8), 'networks.0.neck' of the teacher, "
     "data_idx=0, gives (2, 16): attention "
     'transfer needs feature maps (N, C, H, W)'),
    (distiller('backbone'),
     "loss_at_1: 'backbone' of the student gives a tuple of (2, 8, 4, 4); data_idx chooses one of them, "
     "'networks.0.backbone.layer1' of "
     'the teacher gives (2, 8, 8, 8): attention transfer needs feature maps'),
    # sources
    (distiller('backbone.layer3'), "student_recorders.own: source='backbone.layer3' is no layer of the "
                                   "student; did you mean "),
    (distiller(teacher='backbone.layer1'), "teacher_recorders.hint: source='backbone.layer1' is no layer of "
                                           "the teacher; did you mean "
     'networks.0.backbone.layer1'),
    (distiller(teacher='networks.0.backbone.layer1', t_feature=dict(record_idx=1)),
     "'networks.0.backbone.layer1' of the teacher ran 1 times in a step, so there is no record_idx=1"),
    (distiller(s_feature=dict(data_idx=1)), "'backbone.layer1' of the student gives (2, 4, 8, 8), so there "
                                            "is no data_idx=1"),
    # connectors and shapes
    (distiller(loss=L2, connector=convolution(16)), "loss_at_1: 'backbone.layer1' of the student gives (2, "
                                                    "4, 8, 8), which the connector 'adapt' cannot take: "
                                                    "RuntimeError: "),
    (distiller(loss=L2),
     "loss_at_1: 'backbone.layer1' of the student gives (2, 4, 8, 8), 'networks.0.backbone.layer1' of the "
     "teacher gives "
     '(2, 8, 8, 8): L2Loss compares features of one shape; choose other layers, or a connector that makes '
     'the one out of the other'),
    (distiller(loss=L2, connector=convolution(4, 1)), "'backbone.layer1' of the student through 'adapt' "
                                                      "gives (2, 1, 8, 8), "),
    (distiller(loss=dict(type='ChannelWiseDivergence'), names=('preds_S', 'preds_T')),
     'gives (2, 8, 8, 8), which ChannelWiseDivergence cannot compare: '),
    # types
    (distiller(loss=dict(type='ATLos')), "distill_losses.loss_at_1: {'type': 'ATLos'} has no type that "
                                         "mmrazor knows; did you mean ATLoss"),
    (distiller(loss=dict(type='ATLoss', beta=1)), 'distill_losses.loss_at_1: ATLoss cannot be built: '),
    (distiller(loss=L2, connector=dict(type='ConvConnector')), 'connectors.adapt: '),
    (distiller(loss=L2, connector=dict(type='ConvModuleConnector')), 'connectors.adapt: ConvModuleConnector '
                                                                     'cannot be built: '),
])
def test_what_cannot_work_is_named(config, message):
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert message in str(caught.value) and str(caught.value).startswith('distill.distiller')


def test_recorders_and_mappings_that_do_not_fit_each_other():
    config = distiller()
    config['student_recorders']['own']['type'] = 'ModuleOutput'
    with pytest.raises(ConfigError, match=r'student_recorders\.own: .* no type that mmrazor knows; did you '
                                          r'mean ModuleOutputs'):
        check(config)
    config = distiller()
    config['loss_forward_mappings']['loss_at_1']['s_feature']['recorder'] = 'other'
    with pytest.raises(ConfigError, match='hint.distiller cannot be built: AssertionError: For s_feature, '
                                          '"other" must be in'):
        check(config, key='hint.distiller')


def test_a_distiller_that_would_do_nothing():
    config = distiller()
    with pytest.raises(ConfigError, match=r"distill\.distiller='at' should be a dict, "
                                          r"type='mmrazor\.ConfigurableDistiller'"):
        check('at')
    with pytest.raises(ConfigError, match='loss_at_1 is never computed: say in loss_forward_mappings what '
                                          'each loss compares'):
        check({key: value for key, value in config.items() if key != 'loss_forward_mappings'})
    with pytest.raises(ConfigError, match='distill_losses is never computed'):
        check(dict(type='mmrazor.ConfigurableDistiller'))


def test_the_check_leaves_no_trace():
    student, teacher = network(STUDENT, 1).train(), network(TEACHER, 2).train()
    before, config = [copy.deepcopy(net.state_dict()) for net in (student, teacher)], distiller(
        loss=L2, connector=convolution(4))
    given, inputs, random = copy.deepcopy(config), inputs_of(), torch.get_rng_state()
    check_distiller(student, teacher, config, inputs)
    for net, weights in zip((student, teacher), before):
        assert_same_weights(net.state_dict(), weights)
        assert net.training and all(parameter.requires_grad for parameter in net.parameters())
        assert not any(module._forward_hooks for module in net.modules())
    assert config == given and torch.equal(torch.get_rng_state(), random)


def test_a_cohort_is_checked_as_it_will_be_recorded(tmp_path):
    run = trajectory(tmp_path, model=TEACHER)
    teachers = SnapshotEnsemble([dict(trajectory=str(run.folder), epoch=epoch) for epoch in (1, 3)])
    config = distiller(teacher='networks.1.backbone.layer1')
    assert check_distiller(network(STUDENT, 1), teachers, config, inputs_of()) == 'loss_at_1 (ATLoss)'
    model = CheckpointDistill(STUDENT, teachers, distiller=config)
    assert 'loss_at_1' in model.loss(**model.data_preprocessor(batch(), training=True))
    with pytest.raises(ConfigError, match=r"source='networks\.1\.backbone\.layer1' is no layer of the "
                                          r"teacher"):
        check(config)


def test_of_given_trajectories_too_the_epochs_tell_how_many_teach(distil_run, tmp_path):
    run = trajectory(tmp_path / 'given', epochs=(2, 4), model=with_statistics(TEACHER))
    config = distil_run(model=resnet(2, channels=4),
                        distill=dict(distiller=distiller(teacher='networks.1.backbone.layer1')))
    config.teacher, config.probe, config.selector = dict(trajectory=str(run.folder)), None, dict(type='even',
                                                                                                 k=2)
    said = []
    CheckpointDistillRunner(config).prepare(Preflight(said.append))
    assert '[ ok ] student: features: loss_at_1 (ATLoss)' in said
    config.selector = 'last'
    with pytest.raises(ConfigError, match=r"source='networks\.1\.backbone\.layer1' is no layer of the "
                                          r"teacher"):
        CheckpointDistillRunner(config).prepare(Preflight(said.append))
