"""Whole runs on a few digits, and what they should have left, computed here."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS
from mmpretrain.registry import MODELS
from sklearn.datasets import load_digits

from ..conftest import resnet
from ..helpers import weights_of, with_statistics

SHARED = {}


@pytest.fixture
def run(distil_run):
    """Makes a run and returns its work_dir and summary: by default the last teacher teaches."""

    def make(**settings):
        config = distil_run(**{'selector': 'last', 'probe': None, **settings})
        return Path(config.work_dir), RUNNERS.build(config).train()

    return make


@pytest.fixture
def shared_run(run, tmp_path_factory):
    """The same, done once for all tests that give the same name."""

    def make(name, **settings):
        if name not in SHARED:
            SHARED[name] = run(work_dir=str(tmp_path_factory.mktemp(name)), **settings)
        return SHARED[name]

    return make


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels of the test images of the fixtures, straight from scikit-learn."""
    found = load_digits()
    images = torch.from_numpy(found.images[1297:1397]).float().mul(255 / 16).round()
    return ((images - 77.9) / 95.9)[:, None].expand(-1, 3, -1, -1), torch.from_numpy(found.target[1297:1397])


def logits_of(file: Path, model: dict = None) -> torch.Tensor:
    """Of a published network on the test images, by a network built here."""
    network = MODELS.build(with_statistics(model or resnet()))
    network.load_state_dict(weights_of(file), strict=True)
    with torch.no_grad():
        return network.eval()(digits()[0])


def accuracy(scores: torch.Tensor):
    """Of logits or probabilities on the test images, percent, to be compared with a summary."""
    return pytest.approx(100 * (scores.argmax(1) == digits()[1]).float().mean().item(), abs=1e-3)


def settings_of(work_dir: Path, stage: str) -> dict:
    """What the result of a stage depended on, flat."""
    return json.loads((work_dir / 'stages.json').read_text())[stage]['settings']
