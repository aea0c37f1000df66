"""FitNets' first stage: what learns, what does not, by which value."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch.testing import assert_close

from ckd_mm.compat import compiled_networks_run_hooks
from ckd_mm.errors import ConfigError
from ckd_mm.registry import MODELS
from ckd_mm.students import HintTraining
from ckd_mm.students.hint_training import reached_by

from ..conftest import resnet
from ..helpers import (
    StepLog,
    assert_same_weights,
    batch,
    cohort_of,
    feature_distiller,
    hint_distiller,
    network,
    train,
    vision_transformer,
    weights_of,
    with_statistics,
)

STUDENT, TEACHER = with_statistics(resnet(2, channels=4)), with_statistics(resnet(2, channels=8))
GUIDED = ('backbone.conv1', 'backbone.bn1', 'backbone.layer1')  # with everything in them


def hinted(folder, student=STUDENT, distiller=None, **settings) -> HintTraining:
    cohort = cohort_of(folder, 3, model=TEACHER)
    model = MODELS.build(dict(type='ckd_mm.HintTraining', student=student, cohort=cohort,
                              distiller=distiller or hint_distiller(), **settings))
    model.student.load_state_dict(network(student, 1).state_dict())
    return model.train()


def inputs_of(model) -> dict:
    return model.data_preprocessor(batch(), training=True)


BOTH = pytest.mark.parametrize('distiller', [hint_distiller(), feature_distiller()], ids=['ours', 'mmrazor'])


# ---------------------------------------------------------------- the loss
@pytest.mark.parametrize('distiller, scale', [
    (hint_distiller(), 1 / (6 * 8 * 8 * 8)), (hint_distiller(reduction='sum'), 0.5 / 6),
    (feature_distiller(), 1 / (6 * 8 * 8 * 8)),
    (feature_distiller(div_element=False, loss_weight=0.5), 0.5 / 6)],
    ids=['mean squared error', 'Eq. 3 of FitNets', "mmrazor's mean", "mmrazor's sum"])
def test_the_loss_is_the_formula(tmp_path, distiller, scale):
    """hint (6, 8, 8, 8) against relu(conv(guided)): the mean of the squares, or half their sum for each
    image."""
    model = hinted(tmp_path, distiller=distiller)
    images = inputs_of(model)['inputs']
    student, teacher = network(STUDENT, 1).train(), network(TEACHER, 3)
    regressor = copy.deepcopy(next(
        module for module in model.distiller.modules() if isinstance(module, ConvModule)))
    losses = model(**inputs_of(model), mode='loss')
    assert list(losses) == ['loss_feature']
    losses['loss_feature'].backward()

    def lower(net):
        return net.backbone.layer1(net.backbone.relu(net.backbone.norm1(net.backbone.conv1(images))))

    convolution = regressor.conv
    assert convolution.bias is not None and convolution.kernel_size == (1, 1)
    with torch.no_grad():
        hint = lower(teacher)
    expected = scale * (torch.relu(convolution(lower(student))) - hint).square().sum()
    expected.backward()
    assert_close(losses['loss_feature'], expected)
    for ours, theirs in zip([*model.student.parameters(), *model.distiller.parameters()],
                            [*student.parameters(), *regressor.parameters()]):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- what learns
@BOTH
def test_nothing_beyond_the_guided_layer_changes(tmp_path, distiller):
    model = hinted(tmp_path, distiller=distiller)
    before = copy.deepcopy(model.student.state_dict())
    connector = copy.deepcopy(model.distiller.state_dict())
    learning = {name for name, parameter in model.student.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in model.student.named_parameters() if name.startswith(GUIDED)}
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1))
    logged = []
    for _ in range(5):
        model.train()
        logged.append(model.train_step(batch(), wrapper)['loss'].item())
    assert logged[-1] < logged[0]
    after = model.student.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert changed == {key for key in after if key.startswith(GUIDED)}
    assert {f'backbone.layer1.0.bn1.{name}' for name in ('running_mean', 'num_batches_tracked')} <= changed
    assert all(not torch.equal(value, connector[key]) for key, value in model.distiller.state_dict().items())
    assert not any(module.training for module in model.eval().student.modules())
    still = {name for name, module in model.train().student.named_modules() if not module.training}
    assert still == {name for name, module in model.student.named_modules()
                     if isinstance(module, torch.nn.BatchNorm2d) and not name.startswith(GUIDED)}


@BOTH
def test_neither_network_is_computed_further_than_recorded(tmp_path, distiller):
    model = hinted(tmp_path, distiller=distiller)
    seen = []
    for role, net in (('student', model.student), ('teacher', model.cohort.networks[0])):
        for name in ('layer1', 'layer2'):
            layer = getattr(net.backbone, name)
            layer.register_forward_hook(lambda *_, what=f'{role}.{name}': seen.append(what))
    first = model.loss(**inputs_of(model))
    assert sorted(set(seen)) == ['student.layer1', 'teacher.layer1']
    hooks = [len(module._forward_hooks) for module in model.student.modules()]
    second = model.loss(**inputs_of(model))
    assert [len(module._forward_hooks) for module in model.student.modules()] == hooks  # none is left behind
    assert_close(first['loss_feature'], second['loss_feature'])


def test_losses_on_several_layers_and_unused_connectors(tmp_path):
    distiller = feature_distiller()
    distiller['connectors']['idle'] = dict(type='ConvModuleConnector', in_channel=4, out_channel=4)
    distiller['student_recorders']['deep'] = dict(type='ModuleOutputs', source='backbone.layer2')
    distiller['teacher_recorders']['deep'] = dict(type='ModuleOutputs', source='networks.0.backbone.layer2')
    distiller['distill_losses']['loss_at'] = dict(type='ATLoss', loss_weight=1000.0)
    distiller['loss_forward_mappings']['loss_at'] = dict(s_feature=dict(recorder='deep', from_student=True),
                                                         t_feature=dict(recorder='deep', from_student=False))
    model = hinted(tmp_path, distiller=distiller)
    losses = model.loss(**inputs_of(model))
    assert set(losses) == {'loss_feature', 'loss_at'}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():  # what DDP waits for is what comes
        learns = not name.startswith(('student.head', 'distiller.razor.connectors.idle'))
        assert (parameter.grad is not None) == parameter.requires_grad == learns


@pytest.mark.parametrize('source, expected', [
    ('backbone.layers.0', ('cls_token', 'pos_embed', 'patch_embed', 'layers.0')),
    ('backbone.patch_embed.projection', ('patch_embed', ))])
def test_a_transformer_says_its_own_size(source, expected):
    """Tokens are recorded; position embeddings come after the patches and before the first layer."""
    student = CLASSIFIERS.build(with_statistics(vision_transformer(dropout=0.5, drop_path=0.5)))
    expected = tuple(f'backbone.{name}' for name in expected)
    assert reached_by(student, hint_distiller(source)) == {
        name for name, _ in student.named_parameters() if name.startswith(expected)}


def test_the_trial_ends_at_the_guided_layer():
    """Further up AlexNet cannot take the 32 pixels of the trial."""
    head = dict(type='LinearClsHead', num_classes=10, in_channels=256)
    student = dict(type='ImageClassifier', backbone=dict(type='AlexNet'), head=head)
    assert reached_by(CLASSIFIERS.build(student), hint_distiller('backbone.features.3')) == {
        f'backbone.features.{layer}.{name}' for layer in (0, 3) for name in ('weight', 'bias')}


def test_the_trial_leaves_no_trace():
    student = CLASSIFIERS.build(copy.deepcopy(STUDENT)).train()
    before, random = copy.deepcopy(student.state_dict()), torch.get_rng_state()
    reached_by(student, hint_distiller())
    assert_same_weights(student.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), random) and student.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in student.parameters())
    assert not any(module._forward_hooks for module in student.modules())


# ---------------------------------------------------------------- a run
def hint_run(make, folder, distiller, **settings):
    config, cohort = make(**settings), cohort_of(folder, 3, model=TEACHER)
    config.model = dict(type='ckd_mm.HintTraining', student=resnet(2, channels=4), cohort=cohort,
                        distiller=distiller)
    config.custom_hooks = [dict(type='ckd_mm.StageStateHook')]
    config.train_cfg = dict(type='ckd_mm.ResumableEpochLoop', max_epochs=config.train_cfg.max_epochs)
    return config


@BOTH
def test_checkpoints_are_the_students_and_the_connector_resumes(digits_run, tmp_path, distiller):
    whole = train(hint_run(digits_run, tmp_path / 'teacher', distiller, work_dir=tmp_path / 'whole'))
    plain = CLASSIFIERS.build(copy.deepcopy(STUDENT))
    for epoch in (1, 2):
        plain.load_state_dict(weights_of(tmp_path / 'whole' / f'epoch_{epoch}.pth'), strict=True)
    first = hint_run(digits_run, tmp_path / 'teacher', distiller, work_dir=tmp_path / 'parts', epochs=1)
    train(first)
    second = hint_run(digits_run, tmp_path / 'teacher', distiller, work_dir=tmp_path / 'parts', resume=True)
    log = StepLog()
    resumed = train(second, log)
    assert [epoch for epoch, _ in log.steps] == [2] * 4 and set(log.steps[0][1]) == {'loss', 'loss_feature'}
    assert_same_weights(resumed.model.state_dict(), whole.model.state_dict())
    assert_same_weights(resumed.model.distiller.state_dict(), whole.model.distiller.state_dict())


@pytest.mark.skipif(not compiled_networks_run_hooks(), reason='torch 2.1: hooks miss compiled calls')
@BOTH
def test_compiled_networks_give_the_same_losses(tmp_path, distiller):
    eager, compiled = (hinted(tmp_path, distiller=distiller, compile=compile)
                       for compile in (False, dict(backend='eager')))
    compiled.distiller.load_state_dict(eager.distiller.state_dict())
    for seed in range(2):
        data = [model.data_preprocessor(batch(seed=seed), training=True) for model in (compiled, eager)]
        assert_close(compiled.loss(**data[0]), eager.loss(**data[1]))
    torch._dynamo.reset()


def test_compiling_what_recorders_could_not_see_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr('ckd_mm.students.taught_student.compiled_networks_run_hooks', lambda: False)
    with pytest.raises(ConfigError, match='compile=True and a distiller: it sees nothing of '
                                          'compiled networks with .*torch'):
        hinted(tmp_path, compile=True)


# ---------------------------------------------------------------- bad settings
def test_bad_settings_are_named(tmp_path):
    idle = feature_distiller()
    idle['loss_forward_mappings']['loss_feature']['s_feature'] = dict(recorder='feature', from_student=False)
    with pytest.raises(ConfigError, match='no loss reaches a parameter of the student that learns'):
        hinted(tmp_path, distiller=idle)
    with pytest.raises(ConfigError, match=r"student='backbone\.layer9' is no layer of the network; did you"):
        hinted(tmp_path, distiller=hint_distiller('backbone.layer9'))
