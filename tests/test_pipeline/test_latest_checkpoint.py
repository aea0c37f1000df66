"""Which checkpoint a stage goes on from, when it was stopped in the middle of writing one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ckd_mm.errors import CkdError
from ckd_mm.pipeline.stage_runner import latest_checkpoint


@pytest.fixture
def folder(tmp_path):
    """After ten epochs, of which nine and ten are kept, as is the best; ten is noted."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in ('epoch_9.pth', 'epoch_10.pth', 'best_accuracy_top1_epoch_11.pth'):
        torch.save(dict(weight=torch.zeros(1000)), folder / name)
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_10.pth'))
    return folder


def test_the_noted_one(folder, tmp_path):
    """By its name: also in a folder that was moved, or copied from one that is still there."""
    warnings = []
    assert latest_checkpoint(folder, warnings.append) == str(folder / 'epoch_10.pth')
    copy = shutil.copytree(folder, tmp_path / 'copy')
    assert latest_checkpoint(copy, warnings.append) == str(copy / 'epoch_10.pth') and not warnings
    (copy / 'epoch_10.pth').write_bytes(b'')
    assert latest_checkpoint(copy, warnings.append) == str(copy / 'epoch_9.pth') and len(warnings) == 1
    moved = folder.rename(tmp_path / 'moved')
    assert latest_checkpoint(moved) == str(moved / 'epoch_10.pth')
    (moved / 'last_checkpoint').unlink()
    assert latest_checkpoint(moved) is None, 'to remove the note asks for a new start'


def test_those_of_an_earlier_start_stay_behind(folder):
    """When the note was removed, and training began anew."""
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_9.pth'))
    (folder / 'epoch_9.pth').write_bytes(b'')
    shutil.copy(folder / 'epoch_10.pth', folder / 'epoch_8.pth')
    assert latest_checkpoint(folder) == str(folder / 'epoch_8.pth')


def test_killed_between_opening_and_writing_the_note(folder):
    (folder / 'last_checkpoint').write_text('')
    warnings = []
    assert latest_checkpoint(folder, warnings.append) == str(folder / 'epoch_10.pth')
    assert len(warnings) == 1 and 'names no file' in warnings[0] and 'going on from' in warnings[0]


@pytest.mark.parametrize('kept', [0, 300, 3000])
def test_the_power_was_cut_while_it_was_written(folder, kept):
    """What the system had not yet brought to the disk is lost; the one before is whole."""
    data = (folder / 'epoch_10.pth').read_bytes()
    assert len(data) > 3000
    (folder / 'epoch_10.pth').write_bytes(data[:kept])
    assert latest_checkpoint(folder) == str(folder / 'epoch_9.pth')


def test_bits_that_changed_on_the_disk(folder):
    """Wherever they are: in the weights, in the pickle, in the directory of the zip file."""
    file, random = folder / 'epoch_10.pth', np.random.default_rng(0)
    torch.save(dict(weight=torch.arange(1000.0), text='of a checkpoint'), file)
    data, seen = file.read_bytes(), []
    for place in random.integers(len(data), size=60):
        damaged = bytearray(data)
        damaged[place] ^= 1 << random.integers(8)
        file.write_bytes(damaged)
        seen.append(Path(latest_checkpoint(folder)) == folder / 'epoch_9.pth')
        if not seen[-1]:  # between the parts of the zip file
            found = torch.load(file, weights_only=True)
            assert torch.equal(found['weight'], torch.arange(1000.0)) and found['text'] == 'of a checkpoint'
    assert sum(seen) > 50


def test_none_is_whole(folder):
    """The best one cannot be gone on from: it has no optimizer."""
    for name in ('epoch_9.pth', 'epoch_10.pth'):
        (folder / name).write_bytes(b'')
    with pytest.raises(CkdError, match='names .*epoch_10.pth, and no checkpoint in .* is whole. Put one '
                                       'there, or remove last_checkpoint'):
        latest_checkpoint(folder)
