"""Heads that mmpretrain only predicts with, or that return several logits."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import RUNNERS
from mmpretrain.registry import MODELS as CLASSIFIERS
from mmpretrain.structures import DataSample
from torch.testing import assert_close

from ckd_mm.classifier_heads import AuxiliaryClsHead, trainable
from ckd_mm.registry import MODELS
from ckd_mm.students import DeepMutualLearning
from ckd_mm.students.classifier import build_classifier

from .conftest import resnet
from .helpers import cohort_of, weights_of, with_statistics

CE = dict(type='CrossEntropyLoss')
SMALL = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16)
LAYERS = dict(DeiTClsHead=('layers.head', 'layers.head_dist'), LeViTClsHead=('head', 'head_dist'),
              EfficientFormerClsHead=('head', 'dist_head'), ConformerHead=('conv_cls_head', 'trans_cls_head'))


def classifier(backbone: dict, head: dict, neck: dict | None = None) -> dict:
    return dict(type='ImageClassifier', backbone=backbone, neck=neck, head=dict(head, num_classes=10))


def deit(size: int = 8) -> dict:
    """Config of a distilled vision transformer."""
    return classifier(dict(type='DistilledVisionTransformer', img_size=size, patch_size=4, arch=SMALL,
                           out_type='cls_token'), dict(type='DeiTClsHead', in_channels=8, loss=CE))


LEVIT = classifier(
    dict(type='LeViT', arch='128s', img_size=64, out_indices=(2, ), drop_path_rate=0),
    dict(type='LeViTClsHead', in_channels=384, distillation=True), dict(type='GlobalAveragePooling'))
EFFICIENT_FORMER = classifier(
    dict(type='EfficientFormer', drop_path_rate=0, arch=dict(
        layers=[1, 1, 1, 2], embed_dims=[8, 8, 16, 16], downsamples=[False, True, True, True], vit_num=1)),
    dict(type='EfficientFormerClsHead', in_channels=16, distillation=True),
    dict(type='GlobalAveragePooling', dim=1))
CONFORMER = classifier(
    dict(type='Conformer', patch_size=16, base_channels=8, drop_path_rate=0,
         arch=dict(embed_dims=24, channel_ratio=1, num_heads=2, depths=3)),
    dict(type='ConformerHead', in_channels=[32, 24]))
TOKENS = [pytest.param(deit(), 8, id='DeiT'), pytest.param(LEVIT, 64, id='LeViT'),
          pytest.param(EFFICIENT_FORMER, 224, id='EfficientFormer')]


def images(size: int, seed: int = 0) -> tuple[torch.Tensor, list, torch.Tensor]:
    """Inputs, data samples and labels of four images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (4, ), generator=generator)
    return (torch.randn(4, 3, size, size, generator=generator),
            [DataSample().set_gt_label(int(label)) for label in labels], labels)


def student_of(model: dict, **settings):
    """A student whose last layers are random (those of vision transformers begin at 0)."""
    torch.manual_seed(1)
    built = MODELS.build(dict(type='ckd_mm.CheckpointDistill', student=with_statistics(model), **settings))
    for name in LAYERS.get(model['head']['type'], ()):
        layer = built.student.head.get_submodule(name)
        torch.nn.init.normal_(getattr(layer, 'linear', layer).weight)
    return built


def both_logits(network, kind: str, inputs) -> list[torch.Tensor]:
    """What a head's two linear layers give, in float64, without the head's own forward."""
    feature = network.head.pre_logits(network.extract_feat(inputs))
    feature = feature if isinstance(feature, (tuple, list)) else (feature, feature)
    return [network.head.get_submodule(name)(part).double() for name, part in zip(LAYERS[kind], feature)]


def kl(tau: float, student: torch.Tensor, teachers: torch.Tensor) -> torch.Tensor:
    """tau squared KL(mean of the teachers || student), by the definition."""
    p, q = (teachers.double() / tau).softmax(2).mean(0), (student / tau).softmax(1)
    return tau**2 * (p * (p / q).log()).sum(1).mean()


# ---------------------------------------------------------------- a distillation token
@pytest.mark.parametrize('hard', [False, True], ids=['soft', 'hard'])
@pytest.mark.parametrize('model, size', TOKENS)
def test_a_step_is_that_of_deits_paper(tmp_path, model, size, hard):
    """Eq. 2 and 3: class token and labels, distillation token and teachers."""
    kd_loss = dict(type='ckd_mm.HardLabelKDLoss') if hard else dict(type='ckd_mm.CohortKDLoss', tau=3.0)
    student = student_of(model, cohort=cohort_of(tmp_path, 1, 3), kd_loss=kd_loss, ce_weight=0.25,
                         kd_weight=0.75).train()
    (inputs, samples, labels), teachers = images(size), None
    with torch.no_grad():
        teachers = student.cohort(inputs)
        expected = both_logits(copy.deepcopy(student.student), model['head']['type'], inputs)
    losses = student(inputs, samples, mode='loss')
    ce = -expected[0].log_softmax(1)[range(4), labels].mean()
    if hard:
        best = teachers.double().softmax(2).mean(0).argmax(1)
        kd = -expected[1].log_softmax(1)[range(4), best].mean()
    else:
        kd = kl(3.0, expected[1], teachers)
    assert_close(losses['loss_ce'].double(), ce / 4, rtol=1e-4, atol=1e-6)
    assert_close(losses['loss_kd'].double(), kd * 3 / 4, rtol=1e-4, atol=1e-6)

    losses['loss_kd'].backward()  # the token's layer learns from the teachers alone
    own, token = (student.student.head.get_submodule(name) for name in LAYERS[model['head']['type']])
    gradients = [getattr(layer, 'linear', layer).weight.grad for layer in (own, token)]
    assert gradients[0] is None and gradients[1].abs().sum() > 0


@pytest.mark.parametrize('model, size', TOKENS)
def test_evaluation_and_training_without_teachers_average_the_tokens(model, size):
    student = student_of(model, kd_weight=0)
    (inputs, samples, labels) = images(size)
    with torch.no_grad():
        mean = sum(both_logits(student.eval().student, model['head']['type'], inputs)) / 2
        scores = torch.stack([found.pred_score for found in student(inputs, samples, mode='predict')])
    assert_close(scores.double(), mean.softmax(1), rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        mean = sum(both_logits(copy.deepcopy(student.train().student), model['head']['type'], inputs)) / 2
    loss = student(inputs, samples, mode='loss')['loss']
    assert_close(loss.double(), -mean.log_softmax(1)[range(4), labels].mean(), rtol=1e-4, atol=1e-6)


def test_as_teacher_it_answers_with_the_mean(tmp_path):
    cohort = MODELS.build(cohort_of(tmp_path, 1, model=with_statistics(deit())))
    inputs, _, _ = images(8)
    with torch.no_grad():
        mean = sum(both_logits(cohort.networks[0], 'DeiTClsHead', inputs)) / 2
    assert_close(cohort(inputs)[0].double(), mean)


def test_peers_learn_by_the_token_and_teach_by_the_mean():
    students = [CLASSIFIERS.build(with_statistics(model)) for model in (deit(), resnet())]
    model = DeepMutualLearning(students, tau=2.0, ce_weight=0.0).train()
    torch.nn.init.normal_(students[0].head.layers.head.weight)
    torch.nn.init.normal_(students[0].head.layers.head_dist.weight)
    inputs, samples, _ = images(8)
    with torch.no_grad():
        own = both_logits(copy.deepcopy(students[0]), 'DeiTClsHead', inputs)
        other = copy.deepcopy(students[1])(inputs, mode='tensor').double()
    losses = model(inputs, samples, mode='loss')
    assert_close(losses['loss_kd_0'].double(), kl(2.0, own[1], other[None]), rtol=1e-4, atol=1e-6)
    assert_close(losses['loss_kd_1'].double(), kl(2.0, other, (own[0] + own[1])[None] / 2), rtol=1e-4,
                 atol=1e-6)


def test_weights_keep_their_names():
    for model in (deit(), CONFORMER):
        plain = CLASSIFIERS.build(copy.deepcopy(model))
        assert list(build_classifier(model).state_dict()) == list(plain.state_dict())


# ---------------------------------------------------------------- several losses of the student's own
def test_conformer_learns_as_it_predicts_by_the_sum_of_its_branches(tmp_path):
    student = student_of(CONFORMER, cohort=cohort_of(tmp_path / 'resnet', 1), ce_weight=0.5).train()
    inputs, samples, labels = images(64)
    with torch.no_grad():
        convolution, transformer = both_logits(copy.deepcopy(student.student), 'ConformerHead', inputs)
        losses, teachers = student(inputs, samples, mode='loss'), student.cohort(inputs)
    ce = -sum(part.log_softmax(1)[range(4), labels].mean() for part in (convolution, transformer))
    assert_close(losses['loss_ce'].double(), ce / 2, rtol=1e-4, atol=1e-6)
    assert_close(losses['loss_kd'].double(), kl(4.0, convolution + transformer, teachers), rtol=1e-4,
                 atol=1e-6)
    cohort = MODELS.build(cohort_of(tmp_path / 'conformer', 1, model=with_statistics(CONFORMER)))
    with torch.no_grad():
        both = both_logits(cohort.networks[0], 'ConformerHead', inputs)
        assert_close(cohort(inputs)[0].double(), both[0] + both[1])


class GivesTwo(torch.nn.Module):
    """The logits of an auxiliary classifier and its own, as Inception in training."""

    def forward(self, inputs):
        return inputs[:, 0].flatten(1)[:, :10], inputs[:, 1].flatten(1)[:, :10]


def test_the_auxiliary_loss_is_the_students_own(tmp_path):
    student = CLASSIFIERS.build(with_statistics(resnet()))
    student.backbone, student.neck, student.head = GivesTwo(), None, AuxiliaryClsHead(aux_weight=0.3)
    model = MODELS.build(dict(type='ckd_mm.CheckpointDistill', student=student, ce_weight=0.5,
                              cohort=cohort_of(tmp_path, 1)))
    inputs, samples, labels = images(8)
    losses, (aux, own) = model.train()(inputs, samples, mode='loss'), student.backbone(inputs)
    assert_close(losses['loss_ce'], F.cross_entropy(own, labels) / 2)
    assert_close(losses['loss_aux'], 0.3 * F.cross_entropy(aux, labels) / 2)
    assert_close(losses['loss_kd'].double(), kl(4.0, own.double(), model.cohort(inputs)))
    assert set(losses) == {'loss_ce', 'loss_aux', 'loss_kd'}


# ---------------------------------------------------------------- losses of shares of classes
@pytest.mark.parametrize('loss', [dict(use_sigmoid=True), dict(use_soft=True)], ids=['BCE', 'soft'])
@pytest.mark.parametrize('mixed', [False, True], ids=['labels', 'mixup'])
def test_losses_of_shares_take_labels(tmp_path, loss, mixed):
    network = resnet()
    network['head']['loss'].update(loss)
    student = student_of(network, cohort=cohort_of(tmp_path, 1)).train()
    inputs, samples, labels = images(8)
    shares = F.one_hot(labels, 10).double()
    if mixed:
        shares = 0.7 * shares + 0.3 * shares.flip(0)
        for sample, share in zip(samples, shares):
            sample.set_gt_score(share.float())
    with torch.no_grad():
        logits = copy.deepcopy(student.student)(inputs, mode='tensor').double()
    losses, p = student(inputs, samples, mode='loss'), logits.sigmoid()
    expected = -(shares * p.log() + (1 - shares) * (1 - p).log()) if 'use_sigmoid' in loss else \
        -shares * logits.log_softmax(1)
    assert_close(losses['loss_ce'].double(), expected.sum() / 4, rtol=1e-5, atol=1e-6)
    assert_close(losses['loss_kd'].double(), kl(4.0, logits, student.cohort(inputs)), rtol=1e-4, atol=1e-6)


def test_the_softmax_of_binary_logits_is_the_class_of_an_image_of_one_label():
    """P(only k) of independent classes, by enumeration, among all images of one label."""
    logits = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    p = logits.sigmoid()
    only = torch.stack([p[k] * torch.cat([1 - p[:k], 1 - p[k + 1:]]).prod() for k in range(3)])
    assert_close(logits.softmax(0), only / only.sum())


def test_only_what_needs_it_is_changed():
    plain = CLASSIFIERS.build(resnet())
    kinds = [type(module) for module in plain.modules()]
    assert [type(module) for module in trainable(plain).modules()] == kinds


# ---------------------------------------------------------------- a whole run
@pytest.mark.parametrize('kind', ['DeiT', 'BCE'])
def test_teacher_student_and_baseline(distil_run, kind):
    network = deit() if kind == 'DeiT' else resnet()
    network['head']['loss'] = dict(CE, use_sigmoid=kind == 'BCE')
    config = distil_run(selector='last', probe=None, student_alone=True)
    config.model, config.teacher.model = network, copy.deepcopy(network)
    summary = RUNNERS.build(config).train()
    student = build_classifier(with_statistics(network))
    student.load_state_dict(weights_of(f'{config.work_dir}/student.pth'), strict=True)
    assert summary['student']['accuracy_top1'] is not None and len(summary['students_alone']) == 1
