"""Classifiers without a head: logits are what forward returns."""

import importlib.util
import types

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import RUNNERS
from mmpretrain.registry import MODELS
from torch import nn

from ckd_mm.classifier_heads import logits_module, number_of_classes
from ckd_mm.errors import ConfigError, SnapshotError
from ckd_mm.students import CheckpointDistill
from ckd_mm.students.classifier import logits_of, output_of
from ckd_mm.trajectory import Snapshot, write_snapshot

from ..helpers import batch, cohort_of, labels_of, with_statistics
from .ledger import LEDGER

HEADLESS = dict(type='Headless', num_classes=10)


def test_the_losses_of_a_step_are_those_of_its_own_logits(tmp_path):
    """By torch's functions, on the logits that ``forward`` returns; KD with tau=2, of Hinton et al."""
    torch.manual_seed(0)
    model = CheckpointDistill(with_statistics(HEADLESS), cohort_of(tmp_path, 2),
                              kd_loss=dict(type='ckd_mm.CohortKDLoss', tau=2.0), kd_weight=0.5)
    data = model.data_preprocessor(batch(), True)
    losses = model(**data, mode='loss')
    logits = model.student(data['inputs'], mode='tensor')
    teacher = model.teacher_logits(data['inputs'])[0]
    kd = 4 * F.kl_div((logits / 2).log_softmax(1), (teacher / 2).softmax(1), reduction='batchmean')
    torch.testing.assert_close(losses['loss_ce'], F.cross_entropy(logits, labels_of(batch())))
    torch.testing.assert_close(losses['loss_kd'], 0.5 * kd)


def test_the_output_of_transformers_holds_the_logits():
    class Answering(nn.Module):
        def forward(self, inputs):
            return types.SimpleNamespace(loss=None, logits=inputs)

    student = types.SimpleNamespace(model=Answering())
    with output_of(logits_module(student)) as outputs:
        student.model(torch.eye(3))
    assert torch.equal(logits_of(outputs, student), torch.eye(3))


@pytest.mark.parametrize('model', [HEADLESS, dict(type='HuggingFaceClassifier', num_labels=10),
                                   dict(type='ImageClassifier', head=dict(num_classes=10))])
def test_the_number_of_classes_in_a_config(model):
    assert number_of_classes(model) == 10
    assert number_of_classes(dict(type='ImageClassifier', head=None)) is None


def refused(config, message: str, tmp_path) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        RUNNERS.build(config).train()
    assert '\n' not in str(found.value) and not list(tmp_path.rglob('*.pth'))


def test_labels_beyond_its_classes(distil_run, tmp_path):
    config = distil_run()
    config.model = config.teacher.model = dict(HEADLESS, num_classes=5)
    refused(config, r'num_classes=5', tmp_path)


@pytest.mark.parametrize('model, package', [
    (dict(type='TimmClassifier', model_name='resnet18', num_classes=10), 'timm'),
    (dict(type='HuggingFaceClassifier', model_name='microsoft/resnet-18', num_labels=10), 'transformers')])
def test_a_package_that_is_not_installed_is_named(distil_run, tmp_path, model, package):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f'{package} is installed')
    config = distil_run()
    config.model = model
    refused(config, f'the student network cannot be built from its `model`: .* requires {package}', tmp_path)


def test_a_network_that_makes_buffers_from_its_config_is_loaded_whole(tmp_path):
    """SwinTransformerV2 leaves its tables out when it loads, and would miss them. A lost weight is one."""
    model, size = with_statistics(LEDGER['SwinTransformerV2'].model), LEDGER['SwinTransformerV2'].size
    torch.manual_seed(0)
    network = MODELS.build(model).eval()
    weights, images = network.state_dict(), torch.randn(2, 3, size, size)
    file = tmp_path / 'epoch_1.pth'
    found = write_snapshot(file, weights, epoch=1, model=model).build()
    with torch.no_grad():
        assert torch.equal(found(images, mode='tensor'), network(images, mode='tensor'))
    weights.pop('backbone.stages.0.blocks.0.attn.w_msa.qkv.weight')
    write_snapshot(file, weights, epoch=1, model=model)
    with pytest.raises(SnapshotError, match='1 weights missing, first: backbone.stages.0.*qkv.weight'):
        Snapshot(file, model=model).build()
