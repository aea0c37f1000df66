"""The promises of design.md about the student: its checkpoint, its training without weight, its teacher that
goes."""

import copy
import gc
import shutil
import weakref

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS as CLASSIFIERS
from mmpretrain.structures import MultiTaskDataSample
from torch.testing import assert_close

from ckd_mm.errors import ConfigError, SnapshotError
from ckd_mm.hooks import StopDistillationHook
from ckd_mm.registry import MODELS
from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import STATISTICS, resnet
from ..helpers import (
    StepLog,
    assert_same_weights,
    batch,
    cohort_of,
    feature_distiller,
    graphs_of_compiler,
    hint_distiller,
    labels_of,
    logged,
    network,
    train,
    trajectory,
    vision_transformer,
    weights_of,
    with_statistics,
)

STUDENT = with_statistics(resnet(1))
TEACHER = with_statistics(resnet(2))
LAYER = 'backbone.layer1.1.conv2'
FEATURES = feature_distiller(LAYER, channels=(4, 4), div_element=False, loss_weight=0.01)
OURS = hint_distiller(LAYER, channels=(4, 4))


def plain_student(model: dict = STUDENT):
    return CLASSIFIERS.build(copy.deepcopy(model))


def distill(folder, student=STUDENT, **settings) -> CheckpointDistill:
    return MODELS.build(
        dict(dict(type='ckd_mm.CheckpointDistill', student=student, cohort=cohort_of(folder, 3)), **settings))


def distill_run(make, folder, student=None, distill=None, **settings):
    """Config of a plain mmengine run whose model is a CheckpointDistill."""
    config = make(**settings)
    config.model = dict(type='ckd_mm.CheckpointDistill', student=student or resnet(),
                        cohort=cohort_of(folder, 3), **(distill or {}))
    return config


def step_inputs(model):
    return model.data_preprocessor(batch(), training=True)


# ---------------------------------------------------------------- 1. the checkpoint is the student
def test_state_dict_is_the_students(tmp_path):
    model, student = distill(tmp_path), plain_student()
    model.cohort  # noqa: B018 (built now)
    assert list(model.state_dict()) == list(student.state_dict())
    student.load_state_dict(model.state_dict(), strict=True)
    assert_same_weights(student.state_dict(), model.state_dict())
    prefixed = model.state_dict(prefix='net.', keep_vars=True)
    assert list(prefixed) == [f'net.{key}' for key in student.state_dict()]
    assert prefixed['net.head.fc.weight'] is model.student.head.fc.weight


@pytest.mark.parametrize('load', [
    lambda model, state, file: model.load_state_dict(state, strict=True),
    lambda model, state, file: load_checkpoint(model, str(file), strict=True),
    lambda model, state, file: torch.nn.Sequential(model).load_state_dict(
        {f'0.{key}': value for key, value in state.items()}, strict=True)],
    ids=['torch', 'mmengine', 'as a part'])
def test_it_loads_what_the_student_saved(tmp_path, load):
    state = network(STUDENT, 5).state_dict()
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'student.pth')
    model = distill(tmp_path)
    load(model, state, tmp_path / 'student.pth')
    assert_same_weights(model.state_dict(), state)
    with pytest.raises(RuntimeError, match='Unexpected key'):
        model.load_state_dict(network(TEACHER, 5).state_dict(), strict=True)


def test_checkpoints_of_a_run_are_the_students_and_resume(digits_run, tmp_path):
    """With averaged weights, which mmengine swaps with the own in its files, through our keys."""

    def run(name, **settings):
        config = distill_run(digits_run, tmp_path / 'teacher', work_dir=tmp_path / name,
                             custom_hooks=[dict(type='EMAHook', momentum=0.3)], **settings)
        return train(config)

    whole, student = run('whole'), plain_student()
    for epoch in (1, 2):
        file = tmp_path / 'whole' / f'epoch_{epoch}.pth'
        load_checkpoint(plain_student(), str(file), strict=True)
        student.load_state_dict(weights_of(file), strict=True)
        checkpoint = torch.load(file, weights_only=False)
        assert list(checkpoint['state_dict']) == list(student.state_dict())
        assert [key for key in checkpoint['ema_state_dict']
                if key != 'steps'] == [f'module.{key}' for key in student.state_dict()]
        # as many momenta as the student has parameters, and no part of the file with a teacher's weights
        assert len(checkpoint['optimizer']['state']) == len(list(student.parameters()))
        assert set(checkpoint) == {'meta', 'state_dict', 'message_hub', 'optimizer', 'ema_state_dict'}
    assert not torch.equal(checkpoint['state_dict']['head.fc.weight'],
                           checkpoint['ema_state_dict']['module.head.fc.weight'])
    run('parts', epochs=1)
    resumed = run('parts', resume=True)
    assert (resumed.epoch, resumed.iter) == (2, 8)
    assert_same_weights(resumed.model.state_dict(), whole.model.state_dict())
    averaged = [next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.state_dict()
                for runner in (resumed, whole)]
    assert_same_weights(*averaged)


def test_no_teacher_among_parameters_modules_or_copies(tmp_path):
    model, student = distill(tmp_path), plain_student()
    cohort = model.cohort
    assert [name for name, _ in model.named_parameters()] == [f'student.{name}'
                                                              for name, _ in student.named_parameters()]
    assert not set(map(id, cohort.modules())) & set(map(id, model.modules()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert sum(len(group['params']) for group in optimizer.param_groups) == len(list(student.parameters()))
    twin = copy.deepcopy(model)
    assert twin.cohort is cohort and twin.student is not model.student
    average = ExponentialMovingAverage(model)
    assert average.module.cohort is cohort
    assert [key for key in average.state_dict()
            if key != 'steps'] == [f'module.{key}' for key in student.state_dict()]


# ---------------------------------------------------------------- 2. kd_weight=0 is plain training
@pytest.mark.parametrize('student', [resnet(1, drop_path_rate=0.3),
                                     vision_transformer(dropout=0.2, drop_path=0.2)],
                         ids=['resnet', 'transformer'])
def test_kd_weight_0_is_plain_training_bit_for_bit(digits_run, tmp_path, student):
    settings = dict(train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1))
    plain = digits_run(work_dir=tmp_path / 'plain', **settings)
    plain.model = student
    distilled = distill_run(digits_run, tmp_path / 'teacher', student, dict(kd_weight=0),
                            work_dir=tmp_path / 'distilled', **settings)
    logs = dict(plain=StepLog(), distilled=StepLog())
    train(plain, logs['plain'])
    runner = train(distilled, logs['distilled'])
    assert logs['distilled'].steps == logs['plain'].steps
    assert len(logs['plain'].steps) == 8 and set(logs['plain'].steps[0][1]) == {'loss'}
    for epoch in (1, 2):
        assert_same_weights(*(weights_of(tmp_path / name / f'epoch_{epoch}.pth') for name in logs))
    written = [[{key: value for key, value in line.items() if 'time' not in key}
                for line in logged(tmp_path / name)] for name in logs]
    assert written[0] == written[1] and len(written[0]) == 4
    assert isinstance(runner.model.outside.cohort, dict)  # the teacher was never built


def test_the_teacher_costs_no_random_number(tmp_path):
    """Student and data are those of a run without it."""
    model, before = distill(tmp_path), torch.get_rng_state()
    model.teacher_logits(step_inputs(model)['inputs'])
    assert torch.equal(torch.get_rng_state(), before)


def test_no_cohort_is_needed_without_weight():
    model = CheckpointDistill(STUDENT, kd_weight=0)
    assert set(model.loss(**step_inputs(model))) == {'loss'}
    half = CheckpointDistill(STUDENT, kd_weight=0, ce_weight=0.5)
    half.load_state_dict(model.state_dict())
    data = step_inputs(model)
    assert_close(half.loss(**data)['loss_ce'], 0.5 * model.loss(**data)['loss'])


# ---------------------------------------------------------------- the step
@pytest.mark.parametrize('ce_weight, kd_weight, tau, epochs, aggregation, reduction', [
    (0.1, 0.9, 4.0, (3, ), 'prob', 'mean'), (1.0, 1.0, 1.0, (3, ), 'loss', 'mean'),
    (0.3, 2.0, 2.0, (1, 2, 3), 'prob', 'mean'), (0.0, 1.0, 4.0, (2, ), 'prob', 'mean'),
    (0.9, 0.1, 5.0, (1, 2, 3), 'loss', 'mean'), (0.9, 0.1, 5.0, (1, 2, 3), 'loss', 'sum'),
    (0.9, 0.1, 5.0, (1, 2, 3), 'prob', 'sum')])
def test_a_step_is_the_loop_one_would_write_by_hand(tmp_path, ce_weight, kd_weight, tau, epochs, aggregation,
                                                    reduction):
    """'mean' of 'loss' is Eq. 4 and 5 of DIH with alpha = 0.1. 'sum' is its authors' loop: a KD term for each
    teacher, each with a cross-entropy of its own."""
    loss = dict(type='ckd_mm.CohortKDLoss', tau=tau, aggregation=aggregation)
    model = distill(tmp_path, cohort=cohort_of(tmp_path, *epochs), ce_weight=ce_weight, kd_weight=kd_weight,
                    kd_loss=loss, reduction=reduction).train()
    student = plain_student().train()
    student.load_state_dict(model.state_dict())
    losses = model(**step_inputs(model), mode='loss')
    assert set(losses) == {'loss_ce', 'loss_kd'}
    (losses['loss_ce'] + losses['loss_kd']).backward()

    images, labels = torch.stack(batch()['inputs']).float().sub(77.9).div(95.9), labels_of(batch())
    logits = student(images, mode='tensor')
    with torch.no_grad():
        targets = [network(TEACHER, epoch)(images, mode='tensor').div(tau).softmax(dim=1) for epoch in epochs]
    if aggregation == 'prob':
        targets = [sum(targets) / len(epochs)] * len(epochs)
    ce = kd = 0
    for target in targets:
        ce += ce_weight * F.cross_entropy(logits, labels)
        log_q = (logits / tau).log_softmax(dim=1)
        kd += kd_weight * tau**2 * F.kl_div(log_q, target, reduction='batchmean')
    if reduction == 'mean':
        ce, kd = ce / len(epochs), kd / len(epochs)
    (ce + kd).backward()
    assert_close(losses, dict(loss_ce=ce, loss_kd=kd))
    for (name, ours), theirs in zip(model.student.named_parameters(), student.parameters()):
        assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5,
                     msg=lambda text, name=name: f'{name}: {text}')
    assert_same_weights(model.state_dict(), student.state_dict())  # BatchNorm saw the batch once
    assert all(parameter.grad is None for parameter in model.cohort.parameters())


def test_one_teacher_is_its_own_sum(tmp_path):
    summed, mean = distill(tmp_path, reduction='sum'), distill(tmp_path)
    mean.load_state_dict(summed.state_dict())
    left, right = (model.train_step(batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
                   for model in (summed, mean))
    assert set(left) == set(right) == {'loss', 'loss_ce', 'loss_kd'}
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert_close(left['loss'], left['loss_ce'] + left['loss_kd'])


def test_evaluation_is_the_students(tmp_path):
    model, student = distill(tmp_path), plain_student()
    student.load_state_dict(model.state_dict())
    model.eval(), student.eval()
    for ours, theirs in zip(model.test_step(batch()), student.test_step(batch())):
        assert torch.equal(ours.pred_score, theirs.pred_score)
    inputs = step_inputs(model)['inputs']
    assert torch.equal(model(inputs), student(inputs))
    assert isinstance(model.outside.cohort, dict)


def test_the_teacher_gets_inputs_of_its_own_statistics(tmp_path):
    statistics = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
    trajectory(tmp_path, model=with_statistics(resnet(2), **statistics))
    for cohort in (cohort_of(tmp_path, 3), SnapshotEnsemble(cohort_of(tmp_path, 3)['snapshots'])):
        model = CheckpointDistill(STUDENT, cohort)
        seen = []
        model.cohort.networks[0].backbone.register_forward_pre_hook(
            lambda module, inputs, seen=seen: seen.append(inputs[0]))
        model.loss(**step_inputs(model))
        own = model.cohort.networks[0].data_preprocessor(batch())['inputs']
        assert_close(seen[0], own, rtol=1e-5, atol=1e-4)


# ---------------------------------------------------------------- 5. stopped means gone
@pytest.mark.parametrize('distiller', [None, FEATURES, OURS], ids=['logits', "mmrazor's", 'ours'])
def test_stop_releases_the_teacher(tmp_path, distiller):
    model, student = distill(tmp_path, ce_weight=0.1, kd_weight=0.9, distiller=distiller), plain_student()
    model.train().loss(**step_inputs(model))
    teacher = weakref.ref(model.cohort)
    weight = weakref.ref(next(model.cohort.parameters()))
    model.stop_distillation()
    gc.collect()
    assert teacher() is None and weight() is None and model.cohort is None
    student.load_state_dict(model.state_dict())
    expected = student.train()(**step_inputs(student), mode='loss')
    losses = model(**step_inputs(model), mode='loss')
    assert torch.equal(losses.pop('loss'), expected['loss']) and set(expected) == {'loss'}
    if distiller is not None:  # DDP waits for a gradient of the connectors
        losses.pop('loss_distiller').backward()
        assert not any(parameter.grad.any() for parameter in model.distiller.parameters())
    assert not losses


@pytest.mark.parametrize('epochs, reduction, factor', [((3, ), 'mean', 5), ((1, 2, 3), 'sum', 5 / 3)])
def test_the_weight_after_the_stop(tmp_path, epochs, reduction, factor):
    model = distill(tmp_path, cohort=cohort_of(tmp_path, *epochs), ce_weight=0.1, ce_weight_after_stop=0.5,
                    reduction=reduction).eval()
    with torch.no_grad():
        while_distilling = model.loss(**step_inputs(model))
        model.stop_distillation()
        after = model.loss(**step_inputs(model))
    assert_close(after, dict(loss_ce=while_distilling['loss_ce'] * factor))


STOP = [dict(type='ckd_mm.StopDistillationHook', stop_epoch=1)]


def test_a_run_after_its_stop(digits_run, tmp_path, monkeypatch):
    """Epoch 1 is distilled. Epoch 2 is one of mmpretrain from the same checkpoint, bit for bit. Epoch 3, of a
    resumed run, does not need the teacher; before the stop its absence is an error."""
    calls, member_logits = [], SnapshotEnsemble.member_logits
    monkeypatch.setattr(SnapshotEnsemble, 'member_logits',
                        lambda cohort, inputs: calls.append(len(inputs)) or member_logits(cohort, inputs))
    config = distill_run(digits_run, tmp_path / 'teacher', distill=dict(ce_weight=0.1, kd_weight=0.9),
                         custom_hooks=STOP)
    config.default_hooks.logger.interval = 1
    log = StepLog()
    runner = train(config, log)
    terms = {epoch: {name for number, step in log.steps if number == epoch for name in step}
             for epoch in (1, 2)}
    assert terms == {1: {'loss', 'loss_ce', 'loss_kd'}, 2: {'loss'}}
    assert calls == [16] * 4 and runner.model.stopped
    written = {epoch: {'loss_kd' in row for row in logged(runner.work_dir, 'loss') if row['epoch'] == epoch}
               for epoch in (1, 2)}
    assert written == {1: {True}, 2: {False}}

    plain_log = StepLog()
    plain = train(digits_run(work_dir=tmp_path / 'plain', resume=True,
                             load_from=f'{runner.work_dir}/epoch_1.pth'), plain_log)
    assert plain_log.steps == log.steps[4:] and len(plain_log.steps) == 4
    assert_same_weights(runner.model.state_dict(), plain.model.state_dict())

    shutil.rmtree(tmp_path / 'teacher')
    (tmp_path / 'teacher').mkdir()
    config.update(resume=True)
    config.train_cfg.max_epochs = 3
    log = StepLog()
    assert train(config, log).epoch == 3 and [set(step) for _, step in log.steps] == [{'loss'}] * 4
    config.update(custom_hooks=[])
    config.train_cfg.max_epochs = 4
    with pytest.raises(SnapshotError, match=f'the trajectory at {tmp_path}/teacher is empty'):
        train(config)


@pytest.mark.parametrize('stop_epoch, calls', [(0, 0), (2, 8)])
def test_other_stops(digits_run, tmp_path, stop_epoch, calls):
    config = distill_run(digits_run, tmp_path / 'teacher',
                         custom_hooks=[dict(type='ckd_mm.StopDistillationHook', stop_epoch=stop_epoch)])
    log = StepLog()
    runner = train(config, log)
    assert sum('loss_kd' in step for _, step in log.steps) == calls and len(log.steps) == 8
    assert runner.model.stopped == (stop_epoch < 2)


@pytest.mark.parametrize('stop_epoch', [-1, 1.5, '1', True, None])
def test_bad_stop_epoch(stop_epoch):
    with pytest.raises(ConfigError, match=rf'stop_epoch={stop_epoch!r} should be a whole number of epochs'):
        StopDistillationHook(stop_epoch)


# ---------------------------------------------------------------- 7. AMP, 8. compile
def test_bfloat16_trains_and_the_kd_term_is_float32(tmp_path, monkeypatch):
    model = distill(tmp_path, ce_weight=0.1, kd_weight=0.9)
    seen = {}
    model.kd_loss.register_forward_hook(lambda module, inputs, output: seen.update(
        student=inputs[0].dtype, teacher=inputs[1].dtype, loss=output.dtype))
    # mmengine allows it on accelerators only; all that it does works on a CPU too
    monkeypatch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    wrapper = AmpOptimWrapper(dtype='bfloat16', optimizer=torch.optim.SGD(model.parameters(), lr=0.05,
                                                                          momentum=0.9), loss_scale=1.0)
    model.train()
    losses = [model.train_step(batch(), wrapper)['loss'].item() for _ in range(10)]
    assert seen == dict(student=torch.bfloat16, teacher=torch.bfloat16, loss=torch.float32)
    assert all(torch.isfinite(torch.tensor(losses))) and losses[-1] < losses[0]
    exact = distill(tmp_path, ce_weight=0.1, kd_weight=0.9)
    exact.load_state_dict(model.state_dict())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rough = model.loss(**step_inputs(model))
    assert_close(rough['loss_kd'], exact.loss(**step_inputs(exact))['loss_kd'], rtol=0.1, atol=0.02)


def test_compile_compiles_the_networks_and_nothing_else(tmp_path):
    graphs = []
    model = distill(tmp_path, compile=dict(backend=graphs_of_compiler(graphs)))
    eager = distill(tmp_path)
    eager.load_state_dict(model.state_dict())
    assert list(model.state_dict()) == list(plain_student().state_dict())
    assert 'train_step' not in vars(model) and 'loss' not in vars(model)
    model.student.extract_feat(step_inputs(model)['inputs'])
    students = len(graphs)
    model.teacher_logits(step_inputs(model)['inputs'])
    assert 0 < students < len(graphs)
    losses = [each.train_step(batch(), OptimWrapper(torch.optim.SGD(each.parameters(), lr=0.1)))['loss']
              for each in (model, eager)]
    assert_close(*losses, rtol=1e-5, atol=0)
    code = ''.join(graph.code for graph, _ in graphs)
    assert 'conv' in code
    assert not any(word in code for word in ('linear(', 'cross_entropy', 'kl_div', 'log_softmax'))
    assert list(model.state_dict()) == list(plain_student().state_dict())
    parameters = dict(eager.student.named_parameters())
    for name, parameter in model.student.named_parameters():
        assert_close(parameter, parameters[name], rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


# ---------------------------------------------------------------- mmrazor
def test_mmrazors_distiller_adds_losses(tmp_path):
    model = distill(tmp_path, distiller=FEATURES)
    seen = {}
    for role, net in (('student', model.student), ('teacher', model.cohort.networks[0])):
        net.get_submodule(LAYER).register_forward_hook(
            lambda module, inputs, output, role=role: seen.update({role: output}))
    losses = model.loss(**step_inputs(model))
    assert set(losses) == {'loss_ce', 'loss_kd', 'loss_feature'}
    connector = model.distiller.razor.connectors['adapt']
    assert_close(losses['loss_feature'],
                 0.01 * (connector(seen['student']) - seen['teacher']).square().sum() / 6)
    sum(losses.values()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in connector.parameters())
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0
    assert list(model.state_dict()) == list(plain_student().state_dict())
    optimized = {name for name, _ in model.named_parameters()}
    assert optimized == {f'distiller.{name}' for name, _ in model.distiller.named_parameters()} | \
        {f'student.{name}' for name, _ in plain_student().named_parameters()}


def test_a_distiller_without_cohort_config_or_kd_loss(tmp_path):
    for distiller in (FEATURES, dict(FEATURES, type='ConfigurableDistiller', _scope_='mmrazor')):
        before = copy.deepcopy(distiller)
        model = distill(tmp_path, cohort=SnapshotEnsemble(cohort_of(tmp_path, 3)['snapshots']), kd_weight=0,
                        distiller=distiller)
        assert set(model.loss(**step_inputs(model))) == {'loss_ce', 'loss_feature'}
        assert distiller == before


@pytest.mark.parametrize('distiller', [FEATURES, OURS], ids=["mmrazor's", 'ours'])
def test_a_distiller_forgets_what_a_step_gave_it(tmp_path, distiller):
    model = distill(tmp_path, distiller=distiller)
    kept = []
    model.student.get_submodule(LAYER).register_forward_hook(
        lambda module, inputs, output: kept.append(weakref.ref(output)))
    sum(model.loss(**step_inputs(model)).values()).backward()
    gc.collect()
    assert len(kept) == 1 and kept[0]() is None
    copy.deepcopy(model)  # which tensors inside a graph would not let


# ---------------------------------------------------------------- bad settings
@pytest.mark.parametrize('settings, message', [
    (dict(ce_weight=-1), r'ce_weight=-1 should be a finite number, at least 0'),
    (dict(kd_weight=-0.5), r'kd_weight=-0\.5'),
    (dict(ce_weight_after_stop=float('nan')), r'ce_weight_after_stop=nan'),
    (dict(reduction='max'), r"reduction='max' should be one of \('mean', 'sum'\)"),
    (dict(cohort=None), r'cohort is missing: kd_weight=1\.0 needs teachers'),
    (dict(kd_loss=dict(type='ckd_mm.CohortKDLoss', tau=0)), r'tau=0 should be'),
    (dict(student=dict(type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18))),
     r'ImageClassifier has no `head`, and no `model` as TimmClassifier, whose logits'),
])
def test_bad_settings_are_named(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        CheckpointDistill(**dict(dict(student=STUDENT, cohort=cohort_of(tmp_path, 3)), **settings))


def test_teacher_and_student_with_other_class_counts(tmp_path):
    model = distill(tmp_path, student=with_statistics(resnet(1, classes=12)))
    with pytest.raises(ValueError, match=r'teacher logits \(6, 10\) .* \(6, 12\): do teacher and student '
                                         r'have the same classes'):
        model.loss(**step_inputs(model))


def test_a_head_without_plain_logits(tmp_path):
    student = copy.deepcopy(STUDENT)
    student['head'] = dict(type='MultiTaskHead',
                           task_heads=dict(a=dict(type='LinearClsHead', num_classes=10)), in_channels=4)
    model = distill(tmp_path, student=student)
    data = step_inputs(model)
    samples = [MultiTaskDataSample() for _ in data['data_samples']]
    for sample, task in zip(samples, data['data_samples']):
        sample.set_field(task, 'a')
    with pytest.raises(ConfigError, match=r'MultiTaskHead should be called once a step and return logits '
                                          r'\(N, C\); got'):
        model.loss(data['inputs'], samples)


def test_statistics_of_the_run_reach_the_student(tmp_path):
    model = CheckpointDistill(resnet(1), cohort_of(tmp_path, 3),
                              data_preprocessor=dict(STATISTICS, type='ClsDataPreprocessor'))
    inputs = step_inputs(model)['inputs']
    assert_close(inputs, torch.stack(batch()['inputs']).float().sub(77.9).div(95.9))
    assert model.student.data_preprocessor is model.data_preprocessor
