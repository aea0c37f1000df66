"""Every config we ship is built, and says what it is."""

import ast
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from ckd_mm.runner import DistillationPlan

from .conftest import ROOT

CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config(path: Path, tmp_path):
    document = ast.get_docstring(ast.parse(path.read_text()))
    assert document and ('tools/' in document or 'make demo' in document), 'a config opens with what it is and its command'
    config = Config.fromfile(path)
    config.work_dir = str(tmp_path)
    plan = DistillationPlan(config)
    for stage in (plan.teacher_config(), plan.student_alone_config()):
        network = MODELS.build(dict(stage.model, data_preprocessor=stage.data_preprocessor)).eval()
        size = 224 if 'imagenet' in path.stem else 32
        assert network(torch.zeros(1, 3, size, size)).shape == (1, stage.model.head.num_classes)
    assert plan.student_config([dict(file='x.pth')]).model.type == 'ckd_mm.CheckpointDistill'


def test_imagenet_recipe():
    """CheckpointKD, Sec. 3.2 and Appendix: 120 epochs, batch 256, lr 0.1 times 0.1 every 30 epochs; snapshots every 10."""
    config = Config.fromfile(ROOT / 'configs' / 'ckd' / 'r34_r18_imagenet.py')
    config.work_dir = 'unused'
    plan = DistillationPlan(config)
    assert plan.teacher_epochs == 120 and plan.teacher_snapshot_epochs == list(range(10, 121, 10))
    teacher = plan.teacher_config()
    assert teacher.train_dataloader.batch_size * 8 == 256
    assert teacher.optim_wrapper.optimizer == dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)
    assert teacher.param_scheduler.milestones == [30, 60, 90]
    parameters = [sum(p.numel() for p in MODELS.build(model).parameters()) for model in (teacher.model, config.model)]
    assert parameters == [21_797_672, 11_689_512]  # torchvision's counts of resnet34 and resnet18
