"""Fine-tuning a distilled student on another data set is an ordinary run (ESKD, Table 9)."""

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import PARAM_SCHEDULERS, RUNNERS
from mmpretrain.registry import DATASETS, MODELS

from ..conftest import ROOT
from ..helpers import train, trajectory, weights_of

CONFIG = ROOT / 'configs' / 'eskd' / 'finetune_r18_places365.py'


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Images in folders as the config wants them: ten classes of digits, two of each to train with, one to
    validate."""
    digits = DATASETS.build(dict(type='ckd_mm.Digits', split='train', pipeline=[]))
    for label in range(10):
        images = [item['img'] for item in map(digits.__getitem__, range(200)) if item['gt_label'] == label]
        for number, split in enumerate(('train', 'train', 'val')):
            folder = tmp_path / 'data' / 'places365' / split / f'place_{label}'
            folder.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / f'{number}.png'), cv2.resize(images[number], (64, 64)))
    monkeypatch.setenv('CKD_DATA_ROOT', str(tmp_path / 'data'))


@pytest.fixture
def student(distil_run, tmp_path):
    """The ResNet-18 that a distillation on digits leaves."""
    config = distil_run(probe=None, selector='last', work_dir=str(tmp_path / 'distilled'))
    config.teacher = dict(trajectory=str(trajectory(tmp_path / 'given').folder))
    config.model = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18),
                        neck=dict(type='GlobalAveragePooling'),
                        head=dict(type='LinearClsHead', num_classes=10, in_channels=512))
    config.train_cfg.max_epochs = 1
    RUNNERS.build(config).train()
    return tmp_path / 'distilled' / 'student.pth'


class Start(Hook):
    """What the first step of training begins with: the weights, and the features of its first batch."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == 0:
            self.inputs = runner.model.data_preprocessor(data_batch, True)['inputs']
            self.weights = {key: value.clone() for key, value in runner.model.state_dict().items()}
            self.features = self.of(runner.model.backbone)

    @torch.no_grad()
    def of(self, backbone):
        backbone.eval()
        features = backbone(self.inputs)[-1]
        backbone.train()
        return features


def test_the_backbone_is_the_student_s_and_the_head_is_new(student, places, tmp_path):
    config = Config.fromfile(CONFIG)
    config.merge_from_dict({
        'work_dir': str(tmp_path / 'tuned'), 'model.backbone.init_cfg.checkpoint': str(student),
        'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 5, 'train_dataloader.num_workers': 0,
        'val_dataloader.num_workers': 0
    })
    start = Start()
    runner = train(config, start)
    assert runner.iter == 4
    distilled = weights_of(student)
    backbone = [key for key in distilled if key.startswith('backbone.')]
    assert backbone == [key for key in start.weights if key.startswith('backbone.')]
    assert [key for key in backbone if not torch.equal(distilled[key], start.weights[key])] == []
    alone = MODELS.build(dict(type='ResNet', depth=18))
    alone.load_state_dict({key[len('backbone.'):]: distilled[key] for key in backbone})
    assert torch.equal(start.features, start.of(alone)) and start.features.std() > 0
    assert start.weights['head.fc.weight'].shape == (365, 512)
    # and all of it has learned
    tuned = weights_of(tmp_path / 'tuned' / 'epoch_1.pth')
    assert list(tuned) == list(start.weights)
    assert [key for key in tuned
            if key.endswith('weight') and torch.equal(tuned[key], start.weights[key])] == []
    assert 0 <= runner.message_hub.get_scalar('val/accuracy/top5').current() <= 100


def test_the_learning_rate_falls_every_three_epochs():
    config = Config.fromfile(CONFIG)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], **{
        key: value for key, value in config.optim_wrapper.optimizer.items() if key != 'type'})
    scheduler = PARAM_SCHEDULERS.build(dict(config.param_scheduler, optimizer=optimizer))
    rates = []
    for _ in range(config.train_cfg.max_epochs):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.1] * 3 + [0.01] * 3 + [0.001] * 3 + [0.0001] * 3)
