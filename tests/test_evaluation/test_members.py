"""How good each teacher of a cohort is, and all together: against scores by hand."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from ckd_mm.data import Digits
from ckd_mm.errors import ConfigError
from ckd_mm.evaluation import evaluate, evaluate_members
from ckd_mm.teachers import DIHTeacher, HeadTraining, SnapshotEnsemble

from ..conftest import resnet
from ..helpers import trajectory, with_statistics

TEACHER = with_statistics(resnet(3))


def digits() -> tuple:
    """Normalised test images and their labels, as digits_run evaluates them."""
    data = [
        Digits(split='test', indices=100, pipeline=[dict(type='PackInputs')])[index] for index in range(100)
    ]
    images = torch.stack([item['inputs'] for item in data]).float().sub(77.9).div(95.9)
    return images, np.array([int(item['data_samples'].gt_label) for item in data])


def cohort_of(folder) -> DIHTeacher:
    snapshot = trajectory(folder, epochs=[2], model=TEACHER).last
    torch.manual_seed(0)
    return DIHTeacher(snapshot, HeadTraining(snapshot, (0, 1, 2), (3, 8, 8)).write(folder / 'heads.pth').file)


def test_accuracies_by_hand(digits_run, tmp_path):
    """From the maps of the plain network and the weights in the file, in float64."""
    cohort, (images, labels) = cohort_of(tmp_path), digits()
    calls = []
    cohort.networks[0].backbone.conv1.register_forward_hook(
        lambda _module, inputs, _output: calls.append(len(inputs[0])))
    found = evaluate_members(cohort, digits_run(test_evaluator=dict(topk=(1, 3))))
    assert calls == [100], 'every image should pass once'

    teacher, weights = cohort.snapshot.build(), torch.load(tmp_path / 'heads.pth',
                                                           weights_only=True)['state_dict']
    logits = []
    with torch.no_grad():
        features = teacher.backbone.relu(teacher.backbone.norm1(teacher.backbone.conv1(images)))
        for index in range(3):
            features = getattr(teacher.backbone, f'layer{index + 1}')(features)
            logits.append(
                features.flatten(1).double().numpy() @ weights[f'heads.{index}.fc.weight'].double().numpy().T
                + weights[f'heads.{index}.fc.bias'].double().numpy())
        logits.append(teacher(images, mode='tensor').double().numpy())
    together = softmax(np.stack(logits), axis=2).mean(axis=0)
    assert list(found['members']) == ['head 0', 'head 1', 'head 2', 'teacher']
    for metrics, scores in zip([*found['members'].values(), found['ensemble']], [*logits, together]):
        ranks = (scores > scores[np.arange(100), labels][:, None]).sum(axis=1)
        assert metrics == {f'accuracy/top{k}': pytest.approx(100 * (ranks < k).mean()) for k in (1, 3)}
    assert len({metrics['accuracy/top3'] for metrics in found['members'].values()}) > 1


def test_members_are_what_each_says_alone(digits_run, tmp_path):
    """A snapshot ensemble: the metrics of each network, and of the ensemble as :func:`evaluate` has it;
    several metrics."""
    run = trajectory(tmp_path, epochs=(1, 2, 3))
    cohort = SnapshotEnsemble(list(run))
    config = digits_run()
    config.test_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='SingleLabelMetric')]
    found = evaluate_members(cohort, config)
    assert list(found['members']) == ['snapshot 1 (epoch 1)', 'snapshot 2 (epoch 2)', 'snapshot 3 (epoch 3)']
    for snapshot, metrics in zip(run, found['members'].values()):
        assert metrics == evaluate(snapshot.build(), config)
    assert found['ensemble'] == evaluate(cohort, config)
    assert set(found['ensemble']) == {
        'accuracy/top1', 'single-label/precision', 'single-label/recall', 'single-label/f1-score'
    }
    named = evaluate_members(cohort, config, names=['generation 1', 'generation 2', 'teacher'])
    assert list(named['members'].values()) == list(
        found['members'].values()) and 'generation 2' in named['members']


def test_without_a_test_set_and_without_questions_to_a_teacher(digits_run, tmp_path):
    cohort = SnapshotEnsemble(list(trajectory(tmp_path)))
    nothing = digits_run(val_dataloader=None, val_evaluator=None, test_dataloader=None, test_evaluator=None)
    assert evaluate_members(cohort, nothing, names=['a', 'b', 'c']) == dict(members=dict(a={}, b={}, c={}),
                                                                            ensemble={})
    config = digits_run()
    config.test_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.KDMetric', tau=4.0)]
    assert set(evaluate_members(cohort, config)['ensemble']) == {'accuracy/top1'}
    config.test_evaluator = dict(type='ckd_mm.KDMetric', tau=4.0)  # alone: only what can be asked is asked
    assert evaluate_members(cohort, config)['ensemble'] == {}


def test_names(digits_run, tmp_path):
    cohort = SnapshotEnsemble(list(trajectory(tmp_path)))
    with pytest.raises(ConfigError, match=r"names=\['a', 'b'\] of the members should be 3, one for each "
                                          r"teacher"):
        evaluate_members(cohort, digits_run(), names=['a', 'b'])
    with pytest.raises(ConfigError, match=r"names=\['a', 'a', 'b'\] of the members should differ"):
        evaluate_members(cohort, digits_run(), names=['a', 'a', 'b'])
