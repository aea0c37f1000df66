"""Two students that learn from each other do what each would do by hand."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch.testing import assert_close

from ckd_mm.errors import ConfigError
from ckd_mm.registry import MODELS
from ckd_mm.students import DeepMutualLearning

from ..conftest import STATISTICS, resnet
from ..helpers import (
    StepLog,
    assert_same_weights,
    batch,
    graphs_of_compiler,
    labels_of,
    network,
    train,
    vision_transformer,
    weights_of,
    with_statistics,
)

FIRST, SECOND = with_statistics(resnet(1)), with_statistics(resnet(2))


def mutual(students=(FIRST, SECOND), **settings) -> DeepMutualLearning:
    model = MODELS.build(dict(type='ckd_mm.DeepMutualLearning', students=list(students), **settings))
    for index, (student, config) in enumerate(zip(model.students, students)):
        student.load_state_dict(network(config, index).state_dict())
    return model.train()


@pytest.mark.parametrize('tau, ce_weight, kd_weight', [(1.0, 1.0, 1.0), (3.0, 0.4, 2.0)])
@pytest.mark.parametrize('count', [2, 3])
def test_each_student_takes_the_step_that_one_would_write_by_hand(tau, ce_weight, kd_weight, count):
    """Eq. 7 and 8 of the paper, each student with the others as constants."""
    configs = [FIRST, SECOND, FIRST][:count]
    model = mutual(configs, tau=tau, ce_weight=ce_weight, kd_weight=kd_weight)
    alone = [network(config, index).train() for index, config in enumerate(configs)]
    losses = model(**model.data_preprocessor(batch(), training=True), mode='loss')
    assert set(losses) == {f'loss_{term}_{index}' for term in ('ce', 'kd') for index in range(count)}
    sum(losses.values()).backward()

    images, labels = torch.stack(batch()['inputs']).float().sub(77.9).div(95.9), labels_of(batch())
    with torch.no_grad():
        targets = [copy.deepcopy(student)(images, mode='tensor').div(tau).softmax(dim=1) for student in alone]
    for index, student in enumerate(alone):
        own = student(images, mode='tensor')
        ce = ce_weight * F.cross_entropy(own, labels)
        log_q, others = (own / tau).log_softmax(dim=1), targets[:index] + targets[index + 1:]
        divergence = sum((p * (p.log() - log_q)).sum() for p in others) / len(labels) / len(others)
        kd = kd_weight * tau**2 * divergence
        (ce + kd).backward()
        assert_close(losses[f'loss_ce_{index}'], ce)
        assert_close(losses[f'loss_kd_{index}'], kd)
        for (name, ours), theirs in zip(model.students[index].named_parameters(), student.parameters()):
            assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6,
                         msg=lambda text, name=name: f'{name}: {text}')
        # BatchNorm saw the batch once
        assert_same_weights(model.students[index].state_dict(), student.state_dict())


def mutual_run(make, **settings):
    """Config of a plain mmengine run whose model is a DeepMutualLearning; with the accuracies of both."""
    config = make(train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1), **settings)
    config.model = dict(type='ckd_mm.DeepMutualLearning', students=[resnet(1), resnet(2)], kd_weight=1.0)
    config.val_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.PeerAccuracy', topk=(1, ))]
    config.test_evaluator = config.val_evaluator
    return config


def test_without_weight_each_trains_as_if_alone_bit_for_bit(digits_run, tmp_path):
    for name, (config, seed) in dict(first=(FIRST, 1), second=(SECOND, 2)).items():
        torch.save(dict(state_dict=network(config, seed).state_dict(), meta={}), tmp_path / f'{name}.pth')
    both = {f'students.{index}.{key}': value for index, name in enumerate(('first', 'second'))
            for key, value in weights_of(tmp_path / f'{name}.pth').items()}
    torch.save(dict(state_dict=both, meta={}), tmp_path / 'both.pth')
    config = mutual_run(digits_run, work_dir=tmp_path / 'both', load_from=str(tmp_path / 'both.pth'))
    config.model.kd_weight = 0
    logs = dict(both=StepLog(), first=StepLog(), second=StepLog())
    runner = train(config, logs['both'])
    accuracies = {}
    for index, (name, model) in enumerate(dict(first=resnet(1), second=resnet(2)).items()):
        plain = digits_run(train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1), model=model,
                           work_dir=tmp_path / name, load_from=str(tmp_path / f'{name}.pth'))
        alone = train(plain, logs[name])
        assert [step[f'loss_ce_{index}']
                for _, step in logs['both'].steps] == [step['loss'] for _, step in logs[name].steps]
        assert_same_weights(runner.model.students[index].state_dict(), alone.model.state_dict())
        accuracies[name] = alone.message_hub.get_scalar('val/accuracy/top1').current()
    # validated in one pass, and each as it would be alone
    assert runner.message_hub.get_scalar('val/accuracy/top1').current() == accuracies['first']
    assert runner.message_hub.get_scalar('val/peer/top1').current() == accuracies['second']


def test_a_run_resumes_with_both(digits_run, tmp_path):
    whole = train(mutual_run(digits_run, work_dir=tmp_path / 'whole'))
    file = Path(whole.work_dir) / 'epoch_1.pth'
    assert list(weights_of(file)) == [f'students.{index}.{key}' for index, model in enumerate((FIRST, SECOND))
                                      for key in CLASSIFIERS.build(copy.deepcopy(model)).state_dict()]
    momenta = torch.load(file, weights_only=False)['optimizer']['state']
    assert len(momenta) == len(list(whole.model.parameters()))
    resumed = train(mutual_run(digits_run, work_dir=tmp_path / 'rest', resume=True, load_from=str(file)))
    assert (resumed.epoch, resumed.iter) == (2, 8)
    assert_same_weights(resumed.model.state_dict(), whole.model.state_dict())


def test_students_begin_with_weights_of_their_own():
    model = MODELS.build(dict(type='ckd_mm.DeepMutualLearning', students=[FIRST, FIRST]))
    before = copy.deepcopy(model.students)
    model.init_weights()  # reaches both
    for name in ('head.fc.weight', 'backbone.conv1.weight'):
        first, second = (student.get_parameter(name) for student in model.students)
        assert not torch.equal(first, second)
        assert not torch.equal(second, before[1].get_parameter(name))


def test_a_checkpoint_of_a_classifier_is_loaded_into_the_first(tmp_path):
    start, model = network(FIRST, 7).state_dict(), mutual()
    torch.save(dict(state_dict=start, meta={}), tmp_path / 'start.pth')
    second = copy.deepcopy(model.students[1].state_dict())
    load_checkpoint(model, str(tmp_path / 'start.pth'))
    assert_same_weights(model.students[0].state_dict(), start)
    assert_same_weights(model.students[1].state_dict(), second)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "students\.1\.'):
        mutual().load_state_dict(dict(start))  # torch's own loader wants all of them
    mutual().load_state_dict(model.state_dict())


def test_prediction_and_logits_are_the_first_students():
    model = mutual().eval()
    alone = [network(config, index) for index, config in enumerate((FIRST, SECOND))]
    first, second = (student.test_step(batch()) for student in alone)
    for ours, own, peer in zip(model.test_step(batch()), first, second):
        assert torch.equal(ours.pred_score, own.pred_score) and torch.equal(ours.pred_label, own.pred_label)
        assert torch.equal(ours.peer_scores, peer.pred_score[None])
        assert torch.equal(ours.gt_label, own.gt_label)
    inputs = model.data_preprocessor(batch())['inputs']
    assert torch.equal(model(inputs), alone[0](inputs))
    assert torch.equal(model.predict(inputs)[0].pred_score, first[0].pred_score)


def test_each_student_gets_inputs_of_its_own_statistics():
    other = with_statistics(resnet(2), mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                            to_rgb=True)
    model = mutual((FIRST, other))
    seen = [[], []]
    for student, inputs in zip(model.students, seen):
        student.backbone.register_forward_pre_hook(lambda _, given, inputs=inputs: inputs.append(given[0]))
    model.loss(**model.data_preprocessor(batch(), training=True))
    model.predict(model.data_preprocessor(batch())['inputs'])
    for student, inputs in zip(model.students, seen):
        own = student.data_preprocessor(batch())['inputs']
        assert_close(inputs, [own, own], rtol=1e-5, atol=1e-4)


def test_statistics_of_the_run_reach_all():
    model = DeepMutualLearning([resnet(1), SECOND],
                               data_preprocessor=dict(STATISTICS, mean=[1.0] * 3, type='ClsDataPreprocessor'))
    means = [student.data_preprocessor.mean.flatten().tolist() for student in model.students]
    assert means == [[1.0] * 3, pytest.approx([77.9] * 3)]
    assert model.data_preprocessor is model.students[0].data_preprocessor


def test_gradients_do_not_pass_from_peer_to_peer():
    model = mutual()
    losses = model.loss(**model.data_preprocessor(batch(), training=True))
    losses['loss_kd_0'].backward()
    assert all(parameter.grad is None for parameter in model.students[1].parameters())
    assert model.students[0].head.fc.weight.grad.any()


def test_layers_learn_at_the_rates_of_their_depth():
    transformer = with_statistics(vision_transformer())
    model = DeepMutualLearning([transformer, transformer])
    for name in ('backbone.layers.1.ln1.weight', 'backbone.pos_embed', 'head.layers.head.weight'):
        assert model.get_layer_depth(f'students.1.{name}') == model.students[1].get_layer_depth(name)


def test_compile_compiles_the_networks():
    graphs = []
    model, eager = mutual(compile=dict(backend=graphs_of_compiler(graphs))), mutual()
    logged = [each.train_step(batch(), OptimWrapper(torch.optim.SGD(each.parameters(), lr=0.1)))['loss']
              for each in (model, eager)]
    assert_close(*logged, rtol=1e-5, atol=0)
    assert len(graphs) > 1 and not any('kl_div' in graph.code for graph, _ in graphs)
    assert list(model.state_dict()) == list(eager.state_dict())
    torch._dynamo.reset()


@pytest.mark.parametrize('settings, message', [
    (dict(students=[FIRST]), 'should be a list of at least two networks: mutual learning needs a peer'),
    (dict(students=FIRST), 'should be a list of at least two networks'),
    (dict(students=[FIRST, with_statistics(resnet(1, classes=12))]),
     'students of 10 and 12 classes cannot learn from each other'),
    (dict(tau=0), 'tau=0 should be'), (dict(ce_weight=-1), 'ce_weight=-1 should be'),
    (dict(kd_weight='1'), "kd_weight='1' should be")])
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        DeepMutualLearning(**dict(dict(students=[FIRST, SECOND]), **settings))
