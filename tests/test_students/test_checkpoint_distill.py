"""The promises of design.md about the student: its checkpoint, its training without weight, its teacher that
goes."""

import copy
import gc
import importlib.util
import json
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch.testing import assert_close

from ckd_mm.compat import EnvironmentConflict
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
    labels_of,
    network,
    train,
    trajectory,
    vision_transformer,
    weights_of,
    with_statistics,
)

STUDENT = with_statistics(resnet(1))
TEACHER = with_statistics(resnet(2))


def plain_student(model: dict = STUDENT):
    return CLASSIFIERS.build(copy.deepcopy(model))


def cohort_of(folder, *epochs) -> dict:
    if not (Path(folder) / 'trajectory.json').exists():
        trajectory(folder)
    return dict(type='ckd_mm.SnapshotEnsemble',
                snapshots=[dict(trajectory=str(folder), epoch=epoch) for epoch in epochs or (3, )])


def distill(folder, student=STUDENT, **settings) -> CheckpointDistill:
    return MODELS.build(
        dict(dict(type='ckd_mm.CheckpointDistill', student=student, cohort=cohort_of(folder)), **settings))


def distill_run(make, folder, student=None, distill=None, **settings):
    """Config of a plain mmengine run whose model is a CheckpointDistill."""
    config = make(**settings)
    config.model = dict(type='ckd_mm.CheckpointDistill', student=student or resnet(),
                        cohort=cohort_of(folder), **(distill or {}))
    return config


def step_inputs(model, images: int = 6):
    return model.data_preprocessor(batch(images), training=True)


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
        {
            f'0.{key}': value
            for key, value in state.items()
        }, strict=True), ], ids=['torch', 'mmengine', 'as a part'])
def test_it_loads_what_the_student_saved(tmp_path, load):
    state = network(STUDENT, 5).state_dict()
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'student.pth')
    model = distill(tmp_path)
    load(model, state, tmp_path / 'student.pth')
    assert_same_weights(model.state_dict(), state)


def test_it_does_not_load_what_another_network_saved(tmp_path):
    state = network(TEACHER, 5).state_dict()
    with pytest.raises(RuntimeError, match='Unexpected key'):
        distill(tmp_path).load_state_dict(state, strict=True)


@pytest.mark.parametrize('ema', [False, True], ids=['plain', 'ema'])
def test_checkpoints_of_a_run_are_the_students_and_resume(digits_run, tmp_path, ema):
    custom = [dict(type='EMAHook', momentum=0.3)] if ema else []
    config = distill_run(digits_run, tmp_path / 'teacher', custom_hooks=custom)
    first = train(config)
    student = plain_student()
    for epoch in (1, 2):
        file = Path(first.work_dir) / f'epoch_{epoch}.pth'
        assert list(weights_of(file)) == list(student.state_dict())
        student.load_state_dict(weights_of(file), strict=True)
        load_checkpoint(plain_student(), str(file), strict=True)
        checkpoint = torch.load(file, weights_only=False)
        averaged = [key for key in checkpoint.get('ema_state_dict', {}) if key != 'steps']
        assert averaged == ([f'module.{key}' for key in student.state_dict()] if ema else [])
        # as many momenta as the student has parameters: none of the teacher's, and no second file part with
        # its weights
        assert len(checkpoint['optimizer']['state']) == len(list(student.parameters()))
        assert set(checkpoint) - {'ema_state_dict'} == {'meta', 'state_dict', 'message_hub', 'optimizer'}
    config.resume = True
    second = train(config)
    assert (second.epoch, second.iter) == (2, 8)
    assert_same_weights(second.model.state_dict(), first.model.state_dict())


def test_a_resumed_run_goes_on_with_the_averaged_weights(digits_run, tmp_path):
    """Two epochs at once, or one and then one: mmengine swaps averaged and own weights in its files, through
    our keys."""
    whole = train(
        distill_run(digits_run, tmp_path / 'teacher', custom_hooks=[dict(type='EMAHook', momentum=0.3)]))
    config = distill_run(digits_run, tmp_path / 'teacher', custom_hooks=[dict(type='EMAHook', momentum=0.3)],
                         work_dir=tmp_path / 'resumed', epochs=1)
    train(config)
    resumed = torch.load(tmp_path / 'resumed' / 'epoch_1.pth', weights_only=False)
    expected = torch.load(Path(whole.work_dir) / 'epoch_1.pth', weights_only=False)
    for key in ('state_dict', 'ema_state_dict'):
        assert_same_weights(resumed[key], expected[key])
    assert not torch.equal(resumed['state_dict']['head.fc.weight'],
                           resumed['ema_state_dict']['module.head.fc.weight'])
    config.resume = True
    runner = train(config)
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    own = {key: resumed['ema_state_dict'][f'module.{key}'] for key in resumed['state_dict']}
    assert_same_weights(runner.model.state_dict(), own)
    assert_same_weights(hook.ema_model.module.state_dict(), dict(resumed['state_dict']))


def test_a_plain_checkpoint_starts_a_distilled_run(digits_run, tmp_path):
    torch.save(dict(state_dict=network(STUDENT, 5).state_dict(), meta={}), tmp_path / 'student.pth')
    config = distill_run(digits_run, tmp_path / 'teacher', load_from=str(tmp_path / 'student.pth'),
                         optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0, momentum=0.0)))
    runner = train(config)
    own, given = runner.model.state_dict(), network(STUDENT, 5).state_dict()
    assert all(torch.equal(own[name], given[name]) for name, _ in runner.model.student.named_parameters())


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
                          vision_transformer(dropout=0.2, drop_path=0.2)], ids=['resnet', 'transformer'])
def test_kd_weight_0_is_plain_training_bit_for_bit(digits_run, tmp_path, student):
    settings = dict(train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1))
    plain = digits_run(work_dir=tmp_path / 'plain', **settings)
    plain.model = student
    distilled = distill_run(digits_run, tmp_path / 'teacher', student, dict(kd_weight=0),
                            work_dir=tmp_path / 'distilled', **settings)
    logs = dict(plain=StepLog(), distilled=StepLog())
    runners = {name: train(config, logs[name]) for name, config in (('plain', plain),
                                                                    ('distilled', distilled))}
    assert logs['distilled'].steps == logs['plain'].steps
    assert len(logs['plain'].steps) == 8 and set(logs['plain'].steps[0][1]) == {'loss'}
    for epoch in (1, 2):
        assert_same_weights(*(weights_of(tmp_path / name / f'epoch_{epoch}.pth') for name in logs))
    written = [[{
        key: value
        for key, value in json.loads(line).items() if 'time' not in key
    } for line in next((tmp_path / name).glob('*/vis_data/scalars.json')).read_text().splitlines()]
               for name in logs]
    assert written[0] == written[1] and len(written[0]) == 4
    assert isinstance(runners['distilled'].model.outside.cohort, dict)  # the teacher was never built


def test_the_teacher_costs_no_random_number(tmp_path):
    """Building it and asking it leaves the generator where it was, so student and data are those of a run
    without it."""
    model = distill(tmp_path)
    data = step_inputs(model)
    before = torch.get_rng_state()
    model.cohort(data['inputs'])
    assert torch.equal(torch.get_rng_state(), before)


def test_no_cohort_is_needed_without_weight():
    model = CheckpointDistill(STUDENT, kd_weight=0)
    assert set(model.loss(**step_inputs(model))) == {'loss'}
    half = CheckpointDistill(STUDENT, kd_weight=0, ce_weight=0.5)
    half.load_state_dict(model.state_dict())
    data = step_inputs(model)
    assert_close(half.loss(**data)['loss_ce'], 0.5 * model.loss(**data)['loss'])


# ---------------------------------------------------------------- the step
@pytest.mark.parametrize('ce_weight, kd_weight, tau, epochs', [(0.1, 0.9, 4.0, (3, )), (1.0, 1.0, 1.0, (3, )),
                                                               (0.3, 2.0, 2.0, (1, 2, 3)),
                                                               (0.0, 1.0, 4.0, (2, ))])
def test_a_step_is_the_loop_one_would_write_by_hand(tmp_path, ce_weight, kd_weight, tau, epochs):
    model = distill(tmp_path, cohort=cohort_of(tmp_path, *epochs), ce_weight=ce_weight, kd_weight=kd_weight,
                    kd_loss=dict(type='ckd_mm.CohortKDLoss', tau=tau))
    student = plain_student()
    student.load_state_dict(model.state_dict())
    model.train()
    losses = model(**step_inputs(model), mode='loss')
    assert set(losses) == {'loss_ce', 'loss_kd'}
    (losses['loss_ce'] + losses['loss_kd']).backward()

    data = batch()
    images = torch.stack(data['inputs']).float().sub(77.9).div(95.9)
    logits = student.train()(images, mode='tensor')
    with torch.no_grad():
        target = sum(network(TEACHER, epoch)(images, mode='tensor').div(tau).softmax(dim=1)
                     for epoch in epochs) / len(epochs)
    labels = torch.tensor([int(sample.gt_label) for sample in data['data_samples']])
    ce = ce_weight * F.cross_entropy(logits, labels)
    kd = kd_weight * tau**2 * F.kl_div((logits / tau).log_softmax(dim=1), target, reduction='batchmean')
    (ce + kd).backward()
    assert_close(losses['loss_ce'], ce)
    assert_close(losses['loss_kd'], kd)
    for (name, ours), theirs in zip(model.student.named_parameters(), student.parameters()):
        assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6,
                     msg=lambda text, name=name: f'{name}: {text}')
    assert_same_weights(model.state_dict(), student.state_dict())  # BatchNorm saw the batch once
    assert all(parameter.grad is None for parameter in model.cohort.parameters())


@pytest.mark.parametrize('aggregation', ['loss', 'prob'])
def test_sum_is_every_teachers_own_loss_with_its_own_cross_entropy(tmp_path, aggregation):
    """The DIH authors' loop: for each teacher alpha * tau^2 * KL + (1 - alpha) * CE, added up: M times the
    mean, gradient and all."""
    epochs, tau, alpha = (1, 2, 3), 5.0, 0.1
    loss = dict(type='ckd_mm.CohortKDLoss', tau=tau, aggregation=aggregation)
    summed, mean = (distill(tmp_path, cohort=cohort_of(tmp_path, *epochs), ce_weight=1 - alpha,
                            kd_weight=alpha, kd_loss=loss,
                            reduction=reduction).train() for reduction in ('sum', 'mean'))
    mean.load_state_dict(summed.state_dict())
    student = plain_student()
    student.load_state_dict(summed.state_dict())
    losses, averaged = summed.loss(**step_inputs(summed)), mean.loss(**step_inputs(mean))
    sum(losses.values()).backward()

    images, labels = torch.stack(batch()['inputs']).float().sub(77.9).div(95.9), labels_of(batch())
    logits, total = student.train()(images, mode='tensor'), 0
    for epoch in epochs:
        with torch.no_grad():
            target = network(TEACHER, epoch)(images, mode='tensor').div(tau).softmax(dim=1)
        kd = F.kl_div((logits / tau).log_softmax(dim=1), target, reduction='batchmean') * (alpha * tau**2)
        total = total + kd + F.cross_entropy(logits, labels) * (1 - alpha)
    total.backward()
    # of the mean probability the KL is less by a constant, the gradient is the same
    if aggregation == 'loss':
        assert_close(sum(losses.values()), total)
    for (name, ours), theirs in zip(summed.student.named_parameters(), student.parameters()):
        assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5,
                     msg=lambda text, name=name: f'{name}: {text}')
    assert_close(losses, {name: 3 * value for name, value in averaged.items()})
    summed.stop_distillation()
    mean.stop_distillation()
    assert torch.equal(summed.eval().loss(**step_inputs(summed))['loss'],
                       mean.eval().loss(**step_inputs(mean))['loss'])


def test_one_teacher_is_its_own_sum(tmp_path):
    summed, mean = distill(tmp_path, reduction='sum'), distill(tmp_path)
    mean.load_state_dict(summed.state_dict())
    left, right = summed.loss(**step_inputs(summed)), mean.loss(**step_inputs(mean))
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_train_step_logs_each_term_and_their_sum(tmp_path):
    model = distill(tmp_path, ce_weight=0.1, kd_weight=0.9)
    logged = model.train_step(batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    assert set(logged) == {'loss', 'loss_ce', 'loss_kd'}
    assert_close(logged['loss'], logged['loss_ce'] + logged['loss_kd'])


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
    for cohort in (cohort_of(tmp_path), SnapshotEnsemble(cohort_of(tmp_path)['snapshots'])):
        model = CheckpointDistill(STUDENT, cohort)
        seen = []
        model.cohort.networks[0].backbone.register_forward_pre_hook(
            lambda module, inputs, seen=seen: seen.append(inputs[0]))
        model.loss(**step_inputs(model))
        own = model.cohort.networks[0].data_preprocessor(batch())['inputs']
        assert_close(seen[0], own, rtol=1e-5, atol=1e-4)


def test_training_a_step_leaves_the_teacher_as_it_was(tmp_path):
    model = distill(tmp_path)
    model.teacher_logits(step_inputs(model)['inputs'])  # fused now
    before = copy.deepcopy(model.cohort.state_dict())
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in range(3):
        model.train()
        model.train_step(batch(), wrapper)
    assert_same_weights(model.cohort.state_dict(), before)


# ---------------------------------------------------------------- 5. stopped means gone
def test_stop_releases_the_teacher(tmp_path):
    model, student = distill(tmp_path, ce_weight=0.1, kd_weight=0.9), plain_student()
    model.train()
    model.loss(**step_inputs(model))
    teacher = weakref.ref(model.cohort)
    weight = weakref.ref(next(model.cohort.parameters()))
    model.stop_distillation()
    gc.collect()
    assert teacher() is None and weight() is None and model.cohort is None
    student.load_state_dict(model.state_dict())
    expected = student.train()(**step_inputs(student), mode='loss')
    losses = model(**step_inputs(model), mode='loss')
    assert set(losses) == set(expected) == {'loss'} and torch.equal(losses['loss'], expected['loss'])


def test_the_weight_after_the_stop(tmp_path):
    model = distill(tmp_path, ce_weight=0.1, ce_weight_after_stop=0.5).eval()
    with torch.no_grad():
        while_distilling = model.loss(**step_inputs(model))
        model.stop_distillation()
        after = model.loss(**step_inputs(model))
    assert set(after) == {'loss_ce'}
    assert_close(after['loss_ce'], while_distilling['loss_ce'] * 5)


@pytest.mark.parametrize('stop_epoch, distilled', [(0, []), (1, [1]), (2, [1, 2])])
def test_stop_hook_truth_table(digits_run, tmp_path, stop_epoch, distilled):
    config = distill_run(digits_run, tmp_path / 'teacher', distill=dict(ce_weight=0.1, kd_weight=0.9),
                         custom_hooks=[dict(type='ckd_mm.StopDistillationHook', stop_epoch=stop_epoch)])
    log, calls = StepLog(), []
    build = MODELS.get('ckd_mm.SnapshotEnsemble').member_logits
    config.default_hooks.logger.interval = 1

    def counted(cohort, inputs):
        calls.append(len(inputs))
        return build(cohort, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SnapshotEnsemble, 'member_logits', counted)
        runner = train(config, log)
    terms = {epoch: {name for number, step in log.steps if number == epoch for name in step}
             for epoch in (1, 2)}
    assert terms == {epoch: {'loss', 'loss_ce', 'loss_kd'} if epoch in distilled else {'loss'}
                     for epoch in (1, 2)}
    assert calls == [16] * 4 * len(distilled)
    assert runner.model.stopped == (stop_epoch < 2)
    lines = [json.loads(line)
             for line in next(Path(runner.work_dir).glob('*/vis_data/scalars.json')).read_text().splitlines()]
    written = {epoch: {'loss_kd' in line for line in lines if line.get('epoch') == epoch and 'loss' in line}
               for epoch in (1, 2)}
    assert written == {epoch: {epoch in distilled} for epoch in (1, 2)}


def test_after_the_stop_training_is_plain_training(digits_run, tmp_path):
    """An epoch after the stop, from the same checkpoint, is an epoch of plain mmpretrain, bit for bit."""
    stop = [dict(type='ckd_mm.StopDistillationHook', stop_epoch=1)]
    teacher, start = tmp_path / 'teacher', str(tmp_path / 'first' / 'epoch_1.pth')
    train(distill_run(digits_run, teacher, custom_hooks=stop, work_dir=tmp_path / 'first', epochs=1))
    after = distill_run(digits_run, teacher, custom_hooks=stop, work_dir=tmp_path / 'after', resume=True,
                        load_from=start)
    plain = digits_run(work_dir=tmp_path / 'plain', resume=True, load_from=start)
    logs = [StepLog(), StepLog()]
    runners = [train(config, log) for config, log in zip((after, plain), logs)]
    assert logs[0].steps == logs[1].steps and len(logs[0].steps) == 4
    assert_same_weights(*(runner.model.state_dict() for runner in runners))


def test_resume_past_the_stop_never_loads_the_teacher(digits_run, tmp_path):
    config = distill_run(digits_run, tmp_path / 'teacher',
                         custom_hooks=[dict(type='ckd_mm.StopDistillationHook', stop_epoch=1)])
    train(config)
    for file in (tmp_path / 'teacher' / 'snapshots').iterdir():
        file.unlink()
    (tmp_path / 'teacher' / 'trajectory.json').unlink()
    config.resume = True
    config.train_cfg.max_epochs = 3
    log = StepLog()
    runner = train(config, log)
    assert runner.epoch == 3 and [set(step) for _, step in log.steps] == [{'loss'}] * 4
    # before the stop it is needed, and its absence is said
    config.update(custom_hooks=[])
    config.train_cfg.max_epochs = 4
    with pytest.raises(SnapshotError, match=f'the trajectory at {tmp_path}/teacher is empty'):
        train(config)


@pytest.mark.parametrize('stop_epoch', [-1, 1.5, '1', True, None])
def test_bad_stop_epoch(stop_epoch):
    with pytest.raises(ConfigError, match=rf'stop_epoch={stop_epoch!r} should be a whole number of epochs'):
        StopDistillationHook(stop_epoch)


def test_a_stop_that_never_comes_and_a_model_that_cannot_stop(digits_run, tmp_path):
    with pytest.raises(ConfigError, match='stop_epoch=3 is never reached: the run has 2 epochs'):
        train(distill_run(digits_run, tmp_path / 'teacher',
                          custom_hooks=[dict(type='ckd_mm.StopDistillationHook', stop_epoch=3)]))
    with pytest.raises(ConfigError, match=r'needs a ckd_mm\.CheckpointDistill model, got ImageClassifier'):
        train(digits_run(custom_hooks=[dict(type='ckd_mm.StopDistillationHook', stop_epoch=1)]))


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
    logged = [model.train_step(batch(), wrapper)['loss'].item() for _ in range(10)]
    assert seen == dict(student=torch.bfloat16, teacher=torch.bfloat16, loss=torch.float32)
    assert all(torch.isfinite(torch.tensor(logged))) and logged[-1] < logged[0]
    exact = distill(tmp_path, ce_weight=0.1, kd_weight=0.9)
    exact.load_state_dict(model.state_dict())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rough = model.loss(**step_inputs(model))
    assert_close(rough['loss_kd'], exact.loss(**step_inputs(exact))['loss_kd'], rtol=0.1, atol=0.02)


def test_compile_compiles_the_networks_and_nothing_else(tmp_path):
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph.code)
        return graph.forward

    model, eager = distill(tmp_path, compile=dict(backend=backend)), distill(tmp_path)
    eager.load_state_dict(model.state_dict())
    assert list(model.state_dict()) == list(plain_student().state_dict())
    assert 'train_step' not in vars(model) and 'loss' not in vars(model)
    model.student.extract_feat(step_inputs(model)['inputs'])
    students = len(graphs)
    model.teacher_logits(step_inputs(model)['inputs'])
    assert 0 < students < len(graphs)
    logged = [
        each.train_step(batch(), OptimWrapper(torch.optim.SGD(each.parameters(), lr=0.1)))['loss'].item()
        for each in (model, eager)
    ]
    assert logged[0] == pytest.approx(logged[1], rel=1e-5)
    code = ''.join(graphs)
    assert 'conv' in code and not any(word in code
                                      for word in ('linear(', 'cross_entropy', 'kl_div', 'log_softmax'))
    assert list(model.state_dict()) == list(plain_student().state_dict())
    parameters = dict(eager.student.named_parameters())
    for name, parameter in model.student.named_parameters():
        assert_close(parameter, parameters[name], rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


# ---------------------------------------------------------------- mmrazor
RECORDER = dict(type='ModuleOutputs', source='backbone.layer1.1.conv2')
FEATURES = dict(
    type='ConfigurableDistiller', _scope_='mmrazor',
    student_recorders=dict(feature=RECORDER),
    teacher_recorders=dict(feature=dict(RECORDER, source='networks.0.backbone.layer1.1.conv2')),
    connectors=dict(adapt=dict(type='ConvModuleConnector', in_channel=4, out_channel=4, act_cfg=None)),
    distill_losses=dict(loss_feature=dict(type='L2Loss', normalize=False, loss_weight=0.01)),
    loss_forward_mappings=dict(loss_feature=dict(
        s_feature=dict(recorder='feature', from_student=True, connector='adapt'),
        t_feature=dict(recorder='feature', from_student=False))))


def test_mmrazors_distiller_adds_losses(tmp_path):
    model = distill(tmp_path, distiller=FEATURES)
    seen = {}
    model.student.backbone.layer1[1].conv2.register_forward_hook(
        lambda module, inputs, output: seen.update(student=output))
    model.cohort.networks[0].backbone.layer1[1].conv2.register_forward_hook(
        lambda module, inputs, output: seen.update(teacher=output))
    losses = model.loss(**step_inputs(model))
    assert set(losses) == {'loss_ce', 'loss_kd', 'loss_feature'}
    connector = model.distiller.connectors['adapt']
    assert_close(losses['loss_feature'],
                 0.01 * (connector(seen['student']) - seen['teacher']).square().sum() / 6)
    sum(losses.values()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in connector.parameters())
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0
    assert list(model.state_dict()) == list(plain_student().state_dict())
    optimized = {name for name, _ in model.named_parameters()}
    assert optimized == {f'distiller.{name}' for name, _ in model.distiller.named_parameters()} | \
        {f'student.{name}' for name, _ in plain_student().named_parameters()}


def test_types_inside_a_distiller_are_mmrazors(tmp_path):
    config = {key: value for key, value in FEATURES.items() if key != '_scope_'}
    assert 'loss_feature' in distill(tmp_path, distiller=dict(
        config, type='mmrazor.ConfigurableDistiller')).loss(**batch_of(STUDENT))
    assert '_scope_' not in config


def test_recorders_forget_what_a_step_gave_them(tmp_path):
    model = distill(tmp_path, distiller=FEATURES)
    kept = []
    model.student.backbone.layer1[1].conv2.register_forward_hook(
        lambda module, inputs, output: kept.append(weakref.ref(output)))
    sum(model.loss(**step_inputs(model)).values()).backward()
    gc.collect()
    assert len(kept) == 1 and kept[0]() is None
    copy.deepcopy(model)  # which tensors inside a graph would not let


def test_a_distiller_works_with_a_cohort_that_is_built_already(tmp_path):
    built = SnapshotEnsemble(cohort_of(tmp_path)['snapshots'])
    assert 'loss_feature' in CheckpointDistill(STUDENT, built, distiller=FEATURES).loss(**batch_of(STUDENT))


def batch_of(student):
    return plain_student(student).data_preprocessor(batch(), training=True)


def test_a_distiller_without_the_kd_loss(tmp_path):
    losses = distill(tmp_path, distiller=FEATURES, kd_weight=0).loss(**batch_of(STUDENT))
    assert set(losses) == {'loss_ce', 'loss_feature'}


def test_stop_ends_the_distillers_losses_too(digits_run, tmp_path):
    config = distill_run(digits_run, tmp_path / 'teacher', distill=dict(distiller=FEATURES),
                         custom_hooks=[dict(type='ckd_mm.StopDistillationHook', stop_epoch=1)])
    log = StepLog()
    runner = train(config, log)
    assert [set(step) for epoch, step in log.steps
            if epoch == 1] == [{'loss', 'loss_ce', 'loss_kd', 'loss_feature'}] * 4
    after = [step for epoch, step in log.steps if epoch == 2]
    assert [step.get('loss_feature', 0.0) for step in after] == [0.0] * 4
    assert list(weights_of(Path(runner.work_dir) / 'epoch_2.pth')) == list(plain_student().state_dict())
    lines = [json.loads(line)
             for line in next(Path(runner.work_dir).glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert [line['epoch'] for line in lines if 'loss_feature' in line] == [1]


def test_stop_releases_a_recorded_teacher(tmp_path):
    model = distill(tmp_path, distiller=FEATURES)
    model.loss(**step_inputs(model))
    teacher = weakref.ref(model.cohort)
    model.stop_distillation()
    gc.collect()
    assert teacher() is None
    losses = model.loss(**step_inputs(model))
    sum(losses.values()).backward()
    assert all(parameter.grad is not None and not parameter.grad.any()
               for parameter in model.distiller.parameters())  # DDP waits for it


def test_missing_mmrazor_is_one_clear_line(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec',
                        lambda name, package=None: None if name == 'mmrazor' else find(name, package))
    with pytest.raises(EnvironmentConflict) as caught:
        distill(tmp_path, distiller=FEATURES)
    assert str(caught.value) == ('distiller=ConfigurableDistiller needs mmrazor, which is not installed: pip '
                                 'install mmrazor==1.0.0 joblib (distillation of logits does not need it)')
    model = distill(tmp_path)  # which is true
    assert set(model.loss(**step_inputs(model))) == {'loss_ce', 'loss_kd'}


# ---------------------------------------------------------------- bad settings
@pytest.mark.parametrize('settings, message', [
    (dict(ce_weight=-1), r'ce_weight=-1 should be a finite number, at least 0'),
    (dict(kd_weight=-0.5), r'kd_weight=-0\.5'),
    (dict(kd_weight='1'), r"kd_weight='1'"),
    (dict(ce_weight_after_stop=float('nan')), r'ce_weight_after_stop=nan'),
    (dict(reduction='max'), r"reduction='max' should be one of \('mean', 'sum'\)"),
    (dict(cohort=None), r'cohort is missing: kd_weight=1\.0 needs teachers'),
    (dict(kd_loss=dict(type='ckd_mm.CohortKDLoss', tau=0)), r'tau=0 should be'),
    (dict(student=dict(type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18))),
     r'student of type ImageClassifier has no `head` whose logits could be distilled'),
])
def test_bad_settings_are_named(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        CheckpointDistill(**dict(dict(student=STUDENT, cohort=cohort_of(tmp_path)), **settings))


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
    with pytest.raises(ConfigError, match=r'MultiTaskHead should be called once a step and return logits '
                                          r'\(N, C\); got'):
        from mmpretrain.structures import MultiTaskDataSample
        samples = []
        for label in labels_of(data):
            sample = MultiTaskDataSample()
            sample.set_field(__import__('mmpretrain').structures.DataSample().set_gt_label(int(label)), 'a')
            samples.append(sample)
        model.loss(data['inputs'], samples)


def test_statistics_of_the_run_reach_the_student(tmp_path):
    model = CheckpointDistill(resnet(1), cohort_of(tmp_path),
                              data_preprocessor=dict(STATISTICS, type='ClsDataPreprocessor'))
    inputs = step_inputs(model)['inputs']
    assert_close(inputs, torch.stack(batch()['inputs']).float().sub(77.9).div(95.9))
    assert model.student.data_preprocessor is model.data_preprocessor
