"""Files that are either whole or not there."""

import errno
import hashlib
import os

import pytest
import torch

from ckd_mm.errors import CkdError
from ckd_mm.files import atomic_file, atomic_write, remove_unfinished, sha256_of_file


def test_a_file_written_in_parts(tmp_path):
    with atomic_file(tmp_path / 'new' / 'file', 6) as file:
        for part in (b'abc', memoryview(b'def')):
            assert file.write(part) == 3
        assert not (tmp_path / 'new' / 'file').exists()
    assert (tmp_path / 'new' / 'file').read_bytes() == b'abcdef'
    assert (file.size, file.sha256) == (6, hashlib.sha256(b'abcdef').hexdigest())
    assert os.listdir(tmp_path / 'new') == ['file']


def test_others_may_read_as_far_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / 'file', b'abc')
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (tmp_path / 'file').stat().st_mode & 0o777 == 0o640


def test_what_was_interrupted_leaves_nothing(tmp_path):
    atomic_write(tmp_path / 'file', b'old')
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / 'file', 3) as file:
        file.write(b'new')
        raise KeyboardInterrupt
    assert (tmp_path / 'file').read_bytes() == b'old' and os.listdir(tmp_path) == ['file']


class FullDisk:
    """Takes a hundred thousand bytes."""

    def __init__(self, file) -> None:
        self.file, self.room = file, 100_000

    def write(self, data) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)


def test_a_full_disk_is_named_by_torch_save_too(tmp_path):
    """Which otherwise says "unexpected pos"."""
    atomic_write(tmp_path / 'file', b'old')
    weights = {str(index): torch.ones(10_000) for index in range(4)}
    with pytest.raises(CkdError, match=r'cannot write .*/file \(160,000 bytes\): No space left on device\. '
                                       r'Everything written before'):
        with atomic_file(tmp_path / 'file', 160_000) as file:
            file._file = FullDisk(file._file)
            torch.save(weights, file)
    assert (tmp_path / 'file').read_bytes() == b'old' and os.listdir(tmp_path) == ['file']


def test_a_folder_that_is_a_file(tmp_path):
    atomic_write(tmp_path / 'file', b'old')
    with pytest.raises(CkdError, match=r'cannot write .*/file/inside \(3 bytes\): (Not a directory|File '
                                       r'exists)'):
        atomic_write(tmp_path / 'file' / 'inside', b'new')


def test_leftovers_of_a_kill_are_removed(tmp_path):
    for name in ('.epoch_2.pth.0a1b2c3d.tmp', 'epoch_1.pth', 'notes.tmp'):
        (tmp_path / name).write_bytes(b'abc')
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['epoch_1.pth', 'notes.tmp']
    remove_unfinished(tmp_path / 'nowhere')


@pytest.mark.parametrize('size', [0, 3, 2**24, 2**24 + 1])
def test_sha256_of_a_file_that_is_read_in_parts(tmp_path, size):
    data = bytes(range(256)) * (size // 256) + b'abc'[:size % 256]
    (tmp_path / 'file').write_bytes(data)
    assert len(data) == size and sha256_of_file(tmp_path / 'file') == hashlib.sha256(data).hexdigest()
