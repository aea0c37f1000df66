"""Which evaluations tell the top-1 accuracy is known without one."""

import pytest
from mmengine.evaluator import Evaluator
from mmengine.registry import RUNNERS
from mmpretrain.structures import DataSample

from ckd_mm.evaluation.evaluate import gives_top1
from ckd_mm.trajectory.snapshot import ACCURACY

SINGLE = dict(type='SingleLabelMetric', items=('recall', ))


@pytest.mark.parametrize('metric', [
    dict(type='Accuracy'), dict(type='Accuracy', topk=2), dict(type='Accuracy', topk=(2, 1)), SINGLE,
    dict(type='Accuracy', topk=1, thrs=(0.0, 0.5)), dict(type='Accuracy', thrs=None),
    dict(type='Accuracy', prefix='own'), dict(type='ConfusionMatrix')], ids=str)
def test_it_is_known_before_evaluating(metric):
    sample = DataSample()
    sample.set_gt_label(1).set_pred_label(1).set_pred_score([.1, .5, .4])
    evaluator = Evaluator(metric)
    evaluator.process(data_samples=[sample] * 2, data_batch={})
    assert gives_top1(metric) == (ACCURACY in evaluator.evaluate(2))


def test_a_run_without_it(distil_run, capfd):
    """Says so before it trains, and shows the first metric in its table."""
    config = distil_run(selector='last', probe=None)
    config.test_evaluator = config.val_evaluator = SINGLE
    summary = RUNNERS.build(config).train()
    out = capfd.readouterr()
    said = (out.out + out.err).index('test_evaluator and val_evaluator: no metric gives accuracy/top1')
    assert said < (out.out + out.err).index('Stage teacher: starting')
    recall = summary['student']['metrics']['single-label/recall']
    assert summary['student']['accuracy_top1'] is None
    assert f'single-label/recall {recall:.2f}' in out.out + out.err
