"""How good each teacher of a cohort is, and all together: against scores by hand."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from ckd_mm.evaluation import evaluate, evaluate_members
from ckd_mm.teachers import DIHTeacher, HeadTraining, SnapshotEnsemble

from ..conftest import resnet
from ..helpers import digits, trajectory, with_statistics

TEACHER = with_statistics(resnet(3))


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

    teacher, logits = cohort.snapshot.build(), []
    weights = torch.load(tmp_path / 'heads.pth', weights_only=True)['state_dict']
    with torch.no_grad():
        features = teacher.backbone.relu(teacher.backbone.norm1(teacher.backbone.conv1(images)))
        for index in range(3):
            features = getattr(teacher.backbone, f'layer{index + 1}')(features)
            weight, bias = (weights[f'heads.{index}.fc.{name}'].double() for name in ('weight', 'bias'))
            logits.append((features.flatten(1).double() @ weight.T + bias).numpy())
        logits.append(teacher(images, mode='tensor').double().numpy())
    together = softmax(np.stack(logits), axis=2).mean(axis=0)
    assert list(found['members']) == ['head 0', 'head 1', 'head 2', 'teacher']
    for metrics, scores in zip([*found['members'].values(), found['ensemble']], [*logits, together]):
        ranks = (scores > scores[np.arange(100), labels.numpy()][:, None]).sum(axis=1)
        assert metrics == {f'accuracy/top{k}': pytest.approx(100 * (ranks < k).mean()) for k in (1, 3)}
    assert len({metrics['accuracy/top3'] for metrics in found['members'].values()}) > 1


def test_members_are_what_each_says_alone(digits_run, tmp_path):
    """A snapshot ensemble: the metrics of each network, and of the ensemble as :func:`evaluate` has it."""
    run = trajectory(tmp_path, epochs=(1, 2))
    cohort, config = SnapshotEnsemble(list(run)), digits_run()
    config.test_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='SingleLabelMetric')]
    found = evaluate_members(cohort, config)
    assert found == dict(members={f'snapshot {epoch} (epoch {epoch})': evaluate(run.at(epoch).build(), config)
                                  for epoch in (1, 2)}, ensemble=evaluate(cohort, config))
    assert set(found['ensemble']) == {'accuracy/top1', 'single-label/precision', 'single-label/recall',
                                      'single-label/f1-score'}


def test_without_a_test_set_and_without_metrics_that_compare_with_a_teacher(digits_run, tmp_path):
    cohort, config = SnapshotEnsemble(list(trajectory(tmp_path, epochs=(1, )))), digits_run()
    nothing = digits_run(val_dataloader=None, val_evaluator=None, test_dataloader=None, test_evaluator=None)
    assert evaluate_members(cohort, nothing) == dict(members={'snapshot 1 (epoch 1)': {}}, ensemble={})
    config.test_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.KDMetric', tau=4.0)]
    assert set(evaluate_members(cohort, config)['ensemble']) == {'accuracy/top1'}
    config.test_evaluator = dict(type='ckd_mm.KDMetric', tau=4.0)
    assert evaluate_members(cohort, config)['ensemble'] == {}
