"""Which checkpoint a stage goes on from, when it was stopped in the middle of writing one."""

import shutil

import pytest
import torch

from ckd_mm.errors import CkdError
from ckd_mm.pipeline.stage_runner import latest_checkpoint


@pytest.fixture
def folder(tmp_path):
    """After ten epochs, of which nine and ten are kept, as is the best; ten is noted."""
    for name in ('epoch_9.pth', 'epoch_10.pth', 'best_accuracy_top1_epoch_11.pth'):
        torch.save(dict(weight=torch.zeros(1000)), tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_10.pth'))
    return tmp_path


def test_the_one_that_is_noted(folder):
    said = []
    assert latest_checkpoint(folder, said.append) == str(folder / 'epoch_10.pth') and not said
    (folder / 'last_checkpoint').unlink()
    assert latest_checkpoint(folder) is None, 'whoever removes the note wants a new start'


def test_in_a_folder_that_was_moved(folder, tmp_path_factory):
    moved = tmp_path_factory.mktemp('elsewhere') / 'run'
    shutil.copytree(folder, moved)
    assert latest_checkpoint(moved) == str(moved / 'epoch_10.pth')


def test_written_into_another_folder(folder, tmp_path_factory):
    """``CheckpointHook(out_dir=...)``."""
    elsewhere = tmp_path_factory.mktemp('elsewhere') / 'epoch_12.pth'
    shutil.copy(folder / 'epoch_10.pth', elsewhere)
    (folder / 'last_checkpoint').write_text(str(elsewhere))
    assert latest_checkpoint(folder) == str(elsewhere)


def test_killed_between_opening_and_writing_the_note(folder):
    (folder / 'last_checkpoint').write_text('')
    said = []
    assert latest_checkpoint(folder, said.append) == str(folder / 'epoch_10.pth')
    assert len(said) == 1 and 'names no file' in said[0] and 'going on from' in said[0]


@pytest.mark.parametrize('kept', [0, 300, 3000])
def test_the_power_was_cut_while_it_was_written(folder, kept):
    """What the system had not yet brought to the disk is lost; the one before is whole."""
    data = (folder / 'epoch_10.pth').read_bytes()
    assert len(data) > 3000
    (folder / 'epoch_10.pth').write_bytes(data[:kept])
    assert latest_checkpoint(folder) == str(folder / 'epoch_9.pth')


def test_a_sharded_checkpoint_is_a_folder(folder):
    (folder / 'epoch_11.pth').mkdir()
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_11.pth'))
    assert latest_checkpoint(folder) == str(folder / 'epoch_11.pth')


def test_none_is_whole(folder):
    """The best one cannot be gone on from: it has no optimizer."""
    for name in ('epoch_9.pth', 'epoch_10.pth'):
        (folder / name).write_bytes(b'')
    with pytest.raises(CkdError, match='names .*epoch_10.pth, and no checkpoint in .* is whole. Bring one '
                                       'back, or remove last_checkpoint'):
        latest_checkpoint(folder)
