"""A kill costs a block and no more."""

import math

import numpy as np
import pytest
import torch

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.targets import Layout, TargetFile, target_writer

from .conftest import FINGERPRINT, fill, finished, made


def test_blocks_that_are_done_are_not_done_again(writer_of):
    writer = writer_of()
    assert writer.prepare() == [0, 1, 2]
    fill(writer, [1])
    assert writer_of().prepare() == [0, 2]
    with pytest.raises(CkdError, match='are not finished; go on with the run that makes them'):
        TargetFile(writer.folder).check()
    fill(writer, [0])
    with pytest.raises(CkdError, match='1 of 3 blocks are not written'):
        writer.finish()
    assert not TargetFile(writer.folder).is_complete
    fill(writer, [2])
    assert writer.finish()['complete'] and writer.finish() == TargetFile(writer.folder).record()
    assert writer_of().prepare() == []


CHANGES = [(dict(fingerprint=dict(FINGERPRINT, views=3)), 'views was 2, now 3'),
           (dict(layout=Layout(6, 2, 7, 3, 'float16', spread=True)), "layout.dtype was 'float32'"),
           (dict(batch=4), 'batch was 2, now 4')]


@pytest.mark.parametrize('changed,word', CHANGES)
def test_rows_that_other_settings_made_are_not_thrown_away(writer_of, changed, word):
    """Neither of the half nor of all."""
    writer = writer_of()
    writer.prepare()
    for blocks in ([1], [0, 2]):
        fill(writer, blocks)
        with pytest.raises(ConfigError, match=f'begun with other settings: .*{word}.*Restore them to go on, '
                                              'or remove the folder'):
            writer_of(**changed).prepare()
    writer.finish()
    with pytest.raises(ConfigError, match=word):
        writer_of(**changed).prepare()
    assert np.array_equal(np.load(writer.folder / 'log_p.npy'), made().log_p.numpy())


@pytest.mark.parametrize('changed', [changed for changed, _ in CHANGES])
def test_a_beginning_without_rows_is_replaced(writer_of, changed):
    writer_of().prepare()
    writer = writer_of(**changed)
    assert writer.prepare() == list(range(writer.blocks))
    record = TargetFile(writer.folder).record()
    assert (record['fingerprint'], record['batch']) == (writer.fingerprint, writer.batch)
    assert record['layout']['dtype'] == writer.layout.dtype


def test_seconds_of_all_runs_are_added_up(writer_of, monkeypatch):
    """Three until the last block before a kill, and two of the run that goes on."""
    clock = [100.0]
    monkeypatch.setattr(target_writer, 'perf_counter', lambda: clock[0])
    writer = writer_of()
    writer.prepare()
    clock[0] += 3
    fill(writer, [0, 1])
    clock[0] += 1
    again = writer_of()
    clock[0] += 1
    assert again.prepare() == [2]
    fill(again, [2])
    clock[0] += 1
    assert again.finish()['seconds'] == 5
    clock[0] += 10
    late = writer_of()
    assert late.prepare() == [] and late.finish()['seconds'] == 5


@pytest.mark.parametrize('name', ['log_p', 'spread', 'predicted', 'checksum'])
def test_a_shortened_file_is_found(writer_of, name):
    folder = finished(writer_of()).folder
    file = folder / f'{name}.npy'
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CkdError, match=f'{name}.npy is damaged'):
        TargetFile(folder).read(np.array([0]))
    with pytest.raises(CkdError, match=f'{name}.npy is damaged'):
        writer_of().prepare()


@pytest.mark.parametrize('damage, words', [
    (lambda file: np.save(file, np.zeros(2, np.uint8)), 'it has 2 blocks, expected 3'),
    (lambda file: file.write_bytes(b''), ''), (lambda file: file.write_bytes(file.read_bytes()[:40]), '')])
def test_a_damaged_progress_is_found(writer_of, damage, words):
    writer_of().prepare()
    damage(writer_of().folder / 'progress.npy')
    with pytest.raises(CkdError, match=f'progress.npy is damaged: .*{words}.*Remove the folder'):
        writer_of().prepare()


def test_numbers_that_are_not_finite_are_refused(writer_of):
    writer = writer_of()
    writer.prepare()
    target = made(2)
    target.log_p[1, 3] = math.nan
    with pytest.raises(CkdError, match='rows 4 to 5 are not finite'):
        writer.write(4, target, torch.zeros(2))


def test_a_full_disk_is_said(writer_of, monkeypatch):
    writer = writer_of()
    writer.prepare()

    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(target_writer.os, 'pwrite', full)
    with pytest.raises(CkdError, match='No space left on device.*in all; what was written before is intact'):
        writer.write(0, made(2), torch.zeros(2))
