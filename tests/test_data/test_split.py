"""Which images are held out, and that it is noticed where they become others."""

import copy
import shutil
from pathlib import Path

import pytest
from mmengine.registry import RUNNERS
from mmpretrain.registry import DATASETS

from ckd_mm.data import decoded
from ckd_mm.data.split import holds_out, require_held_out
from ckd_mm.errors import ConfigError
from ckd_mm.infoplane import InformationPlane
from ckd_mm.infoplane.probe import Probe, probe_trajectory
from ckd_mm.trajectory import Trajectory

from ..helpers import digit_files, on_files, stopped_at, trajectory


def held_out(dataset: dict, part: str = 'rest', seed: int = 1) -> dict:
    return DATASETS.build(dict(type='ckd_mm.split_dataset', dataset=copy.deepcopy(dataset), part=part,
                               held_out=10, seed=seed)).held_out


@pytest.mark.parametrize('wrapper', [None, 'ckd_mm.Views', 'ckd_mm.InMemory'])
def test_a_record_is_of_the_names_below_the_root(tmp_path, monkeypatch, wrapper):
    """The same for both parts and when the images are moved, another when one is renamed or removed."""

    def record(folder: Path, part: str = 'rest') -> dict:
        dataset = dict(files, data_root=str(folder))
        return held_out(dataset if wrapper is None else dict(type=wrapper, dataset=dataset), part)

    files = digit_files(tmp_path / 'train')
    before = record(tmp_path / 'train')
    assert before == record(tmp_path / 'train', 'held_out')
    moved = Path(shutil.move(tmp_path / 'train', tmp_path / 'elsewhere' / 'images'))
    assert record(moved) == before and before['total'] == 64
    assert holds_out(dict(held_out=10, seed=1), before), 'as earlier versions wrote it'
    first = min(moved.rglob('*.png'))
    first.unlink()
    monkeypatch.setattr(decoded, '_decoded', {})  # as in a new process
    assert record(moved)['images_sha256'] != before['images_sha256']
    with pytest.raises(ConfigError, match='seed=1 held out other images when m.json was written: '
                                          'they were drawn from 64 training images, now there are 63'):
        require_held_out(before, record(moved), Path('m.json'))


def test_a_record_of_images_in_memory_is_of_their_content():
    digits = dict(type='ckd_mm.Digits', split='train', indices=list(range(40)), pipeline=[])
    assert held_out(digits) == held_out(digits)
    changed = held_out(dict(digits, indices=[*range(1, 40), 0]))
    assert changed['total'] == 40 and changed != held_out(digits)


@pytest.mark.parametrize('stage, epoch', [('teacher', 2), ('student', 1)])
def test_a_removed_image_stops_a_resumed_run_until_it_is_back(distil_run, tmp_path, stage, epoch):
    """While a stage that needs the held-out images is to come. With any image under its name it goes on."""
    config = on_files(distil_run(probe=dict(held_out=16, decoder_epochs=1)), tmp_path / 'data')
    stopped_at(copy.deepcopy(config), stage, epoch)
    config.resume = True
    assert Trajectory.open(config.work_dir).info['held_out']['total'] == 64
    first = min((tmp_path / 'data' / 'train').rglob('*.png'))
    image = first.read_bytes()
    first.unlink()
    shutil.move(tmp_path / 'data', tmp_path / 'moved')
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.data_root = loader.dataset.data_root.replace('data', 'moved')
    if stage == 'teacher':
        with pytest.raises(ConfigError, match=r'drawn from 64 training images, now there are 63, .*\(in the '
                                              r'place of a damaged image any other'):
            RUNNERS.build(copy.deepcopy(config)).train()
        (tmp_path / 'moved' / first.relative_to(tmp_path / 'data')).write_bytes(image)
    assert RUNNERS.build(config).train()['student']['epoch'] == 2


def test_a_plane_of_other_images_is_not_continued(digits_run, tmp_path):
    config, run = on_files(digits_run(), tmp_path), trajectory(tmp_path / 'run')
    path = tmp_path / 'plane.json'
    settings = dict(probe_split='test', decoder_epochs=1)
    probe_trajectory(run, Probe(config, **settings), path)
    min((tmp_path / 'test').rglob('*.png')).unlink()
    with pytest.raises(ConfigError, match='plane.json was measured in another way: images was 64, now 63'):
        probe_trajectory(run, Probe(config, **settings), path)
    assert len(InformationPlane.load(path).points) == 3
