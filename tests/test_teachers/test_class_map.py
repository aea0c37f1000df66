"""Teachers of other classes, against indexing by hand."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from torch.testing import assert_close

from ckd_mm.errors import ConfigError, SnapshotError
from ckd_mm.evaluation import KDMetric
from ckd_mm.evaluation.teacher_check import ValidationImages
from ckd_mm.registry import MODELS
from ckd_mm.teachers import SnapshotEnsemble
from ckd_mm.teachers.class_map import ClassMap, class_map_of

from ..conftest import resnet
from ..helpers import batch, network, trajectory, with_statistics

IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(9))
FOUR = with_statistics(resnet(2, classes=4), num_classes=4)
NAMES = ('cat', 'dog', 'emu', 'fox')  # of the teacher


@pytest.fixture
def teacher(tmp_path):
    trajectory(tmp_path / 'four', (1, 2), model=FOUR, classes=NAMES)
    return lambda *epochs: [dict(trajectory=str(tmp_path / 'four'), epoch=epoch) for epoch in epochs]


def raw(*epochs) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack([network(FOUR, epoch)(IMAGES, mode='tensor') for epoch in epochs])


def test_names_in_another_order_and_with_others_between():
    assert class_map_of(['fox', 'cat', 'hen'], [('a', NAMES)], {}) == ['fox', 'cat', None]
    assert class_map_of(['red', 'cat'], [('a', NAMES)], {'red': 'fox'}) == ['fox', 'cat']
    several = [('a', NAMES), ('b', ('dog', 'cat'))]
    assert class_map_of(['cat', 'dog', 'fox'], several, {}) == ['cat', 'dog', None]


@pytest.mark.parametrize('classes, teachers, renamed, message', [
    (['cat', 'dog'], [('a.pth', NAMES), ('b.pth', None)], {}, 'b.pth does not name its classes'),
    (['hen', 'cow'], [('a.pth', NAMES)], {},
     r"a.pth \('cat', 'dog', 'emu', ...\) and train_dataloader.dataset \('hen', 'cow'\) share 0 class"),
    (['cat', 'cow'], [('a.pth', NAMES)], {}, 'share 1 class'),
    (['cat', 'dog'], [('a.pth', NAMES)], {'cow': 'dog'}, "'cow' is no class of train_dataloader.dataset"),
    (['cat', 'dog'], [('a.pth', NAMES)], {'cat': 'puma'}, "'puma' is no class of a.pth")])
def test_what_cannot_be_mapped(classes, teachers, renamed, message):
    with pytest.raises(ConfigError, match=f'teacher.class_map: .*{message}'):
        class_map_of(classes, teachers, renamed)


def test_logits_are_those_of_the_students_classes(teacher):
    ensemble = SnapshotEnsemble(teacher(1, 2), class_map=['fox', None, 'cat', 'dog'])
    assert torch.equal(ensemble(IMAGES), raw(1, 2)[:, :, [3, 0, 1]])
    scores = torch.stack([found.pred_score for found in ensemble(IMAGES, mode='predict')])
    p = raw(1, 2).double().softmax(2)[:, :, [3, 0, 1]]  # renormalised: divided by their sum
    p = (p / p.sum(2, keepdim=True)).mean(0)
    assert_close(scores[:, [0, 2, 3]].double(), p, rtol=1e-5, atol=1e-7)
    assert torch.equal(scores[:, 1], torch.zeros(5))
    with pytest.raises(SnapshotError, match="has no class 'hen', which class_map names"):
        SnapshotEnsemble(teacher(1), class_map=['fox', 'hen'])


def test_a_step_compares_shared_classes_and_labels_all(teacher):
    """KL over the shared classes of both softened and renormalised probabilities."""
    student = with_statistics(resnet(classes=3), num_classes=3)
    cohort = dict(type='ckd_mm.SnapshotEnsemble', snapshots=teacher(1, 2), class_map=['emu', None, 'dog'])
    model = MODELS.build(dict(type='ckd_mm.CheckpointDistill', student=student, cohort=cohort,
                              kd_loss=dict(type='ckd_mm.CohortKDLoss', tau=3.0))).train()
    data = model.data_preprocessor(batch(), True)
    labels = torch.tensor([0, 1, 2, 1, 1, 0])
    for sample, label in zip(data['data_samples'], labels):
        sample.set_gt_label(int(label))
    losses = model(**data, mode='loss')
    with torch.no_grad():
        own = model.student(data['inputs'], mode='tensor').double()
        theirs = torch.stack([network(FOUR, epoch)(data['inputs'], mode='tensor') for epoch in (1, 2)])
    p = (theirs.double() / 3).softmax(2)[:, :, [2, 1]]
    p = (p / p.sum(2, keepdim=True)).mean(0)
    q = (own / 3).softmax(1)[:, [0, 2]]
    q = q / q.sum(1, keepdim=True)
    assert_close(losses['loss_kd'].double(), 9 * (p * (p / q).log()).sum(1).mean(), rtol=1e-4, atol=1e-7)
    ce = -own.log_softmax(1)[range(6), labels].mean()
    assert_close(losses['loss_ce'].double(), ce, rtol=1e-5, atol=1e-7)

    with pytest.raises(ConfigError, match='DecoupledKDLoss compares with the label, and of 3 .* have 2'):
        MODELS.build(dict(type='ckd_mm.CheckpointDistill', student=student, cohort=cohort,
                          kd_loss=dict(type='ckd_mm.DecoupledKDLoss')))


def test_kd_error_is_of_the_shared_classes(teacher):
    cohort = dict(type='ckd_mm.SnapshotEnsemble', snapshots=teacher(1), class_map=['emu', None, 'dog'])
    evaluator, images = Evaluator(KDMetric(cohort, tau=2.0)), batch(8)
    evaluator.dataset_meta = {}
    student = network(with_statistics(resnet(classes=3), num_classes=3), 5)
    with torch.no_grad():
        data = student.data_preprocessor(images, False)
        evaluator.process(student(**data, mode='predict'), images)
        own, theirs = (net(data['inputs'], mode='tensor').double()[:, columns]
                       for net, columns in ((student, [0, 2]), (network(FOUR, 1), [2, 1])))
    found = evaluator.evaluate(8)
    differs = (own.argmax(1) != theirs.argmax(1)).double().mean()
    p, q = (theirs / 2).softmax(1), (own / 2).softmax(1)
    assert found['kd/error'] == pytest.approx(100 * differs.item())
    assert found['kd/divergence'] == pytest.approx(4 * (p * (p / q).log()).sum(1).mean().item(), rel=1e-4)


class Twenty:
    """Images of classes 0, 1, 2, 0, ..."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> dict:
        data = batch(1, seed=index)
        return dict(inputs=data['inputs'][0], data_samples=data['data_samples'][0].set_gt_label(index % 3))


def test_validation_images_of_classes_that_a_teacher_lacks_are_left_out(teacher):
    snapshot = SnapshotEnsemble(teacher(1)).snapshots[0]
    images = ValidationImages(Twenty(), class_map=ClassMap(('fox', None, 'cat')))
    assert len(images) == 13 and images.labels.sum() == 6  # images of class 2, the second that is shared
    answers = images.answers(images.network(snapshot))
    with torch.no_grad():
        plain = ValidationImages(Twenty()).answers(snapshot.build())
    kept = plain.labels != 1
    assert_close(answers.logits, plain.logits[kept][:, [3, 0]])
