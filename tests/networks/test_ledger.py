"""Every network of the ledger through teacher, probe, select and student; a sample of them, or with
``--networks all`` all."""

import copy
import importlib.util
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmpretrain.registry import DATASETS, MODELS

from ckd_mm.errors import CkdError
from ckd_mm.infoplane import InformationPlane
from ckd_mm.trajectory import Trajectory

from ..conftest import ROOT, STATISTICS, distil_config
from ..helpers import weights_of
from .ledger import LEDGER, Network, table


def pytest_generate_tests(metafunc):
    if 'network' in metafunc.fixturenames:
        rows = {name: row for name, row in LEDGER.items()
                if row.sample or metafunc.config.getoption('networks') == 'all'}
        metafunc.parametrize('network', rows.values(), ids=rows)


def config_of(network: Network, work_dir: Path) -> Config:
    """Two epochs of teacher and student on digits, resized."""
    config = distil_config(work_dir, dict(model=copy.deepcopy(network.model), train_cfg=dict(max_epochs=2)))
    config.model = copy.deepcopy(network.model)
    for loader in (config.train_dataloader, config.val_dataloader):
        resize = dict(type='Resize', scale=(network.size, network.size))
        loader.dataset.update(indices=18, pipeline=[resize, dict(type='PackInputs')])
        loader.batch_size = 6
    config.test_dataloader = copy.deepcopy(config.val_dataloader)
    config.optim_wrapper.optimizer.lr = 0.01
    config.probe = dict(held_out=6, decoder_epochs=1, decoder_batch=3, reconstruct_size=8)
    return config


def test_network(network, tmp_path):
    if network.package and importlib.util.find_spec(network.package) is None:
        pytest.skip(f'{network.package} is not installed')
    config = config_of(network, tmp_path / 'run')
    if network.refused is not None:
        with pytest.raises(CkdError, match=re.escape(network.refused)):
            RUNNERS.build(config).train()
        assert not list(tmp_path.rglob('*.pth')), 'nothing should be trained'
        return
    summary = RUNNERS.build(config).train()
    plane = InformationPlane.load(tmp_path / 'run' / 'information_plane.json')
    assert Trajectory.open(tmp_path / 'run').times == [point.epoch for point in plane.points] == [1, 2]
    assert all(math.isfinite(point.information_x) for point in plane.points)
    assert summary['selection']['epochs'] == [plane.best_epoch]
    # what the student's file says of the test images, by a network that is built and loaded here
    student = MODELS.build(dict(copy.deepcopy(network.model), data_preprocessor=dict(STATISTICS))).eval()
    before = copy.deepcopy(student.state_dict())
    student.load_state_dict(weights_of(tmp_path / 'run' / 'student.pth'), strict=False)
    assert any(not torch.equal(before[name], value) for name, value in student.state_dict().items())
    test = [*DATASETS.build(copy.deepcopy(config.test_dataloader.dataset))]
    with torch.no_grad():
        found = student.test_step({key: [item[key] for item in test] for key in ('inputs', 'data_samples')})
    right = [sample.pred_label.item() == sample.gt_label.item() for sample in found]
    assert summary['student']['accuracy_top1'] == pytest.approx(100 * sum(right) / len(right), abs=1e-3)


def test_the_documented_table_is_that_of_the_ledger():
    assert table() in (ROOT / 'docs' / 'networks.md').read_text()
