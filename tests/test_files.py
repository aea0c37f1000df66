"""Files that are either whole or not there."""

import errno
import hashlib
import locale
import os

import pytest
from mmengine.registry import RUNNERS

from ckd_mm import files
from ckd_mm.errors import CkdError
from ckd_mm.files import atomic_write, remove_unfinished, sha256_of_file
from ckd_mm.trajectory import Trajectory

from .conftest import resnet
from .helpers import DIGITS, trajectory


def test_a_file_in_a_new_folder_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """As a power cut wants it: first the content, then the name, then the folder."""
    log, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda n: log.append(os.readlink(f'/proc/self/fd/{n}')) or fsync(n))
    monkeypatch.setattr(os, 'replace', lambda *names: log.append('replace') or replace(*names))
    atomic_write(tmp_path / 'new' / 'file', memoryview(b'abcdef'))
    assert (tmp_path / 'new' / 'file').read_bytes() == b'abcdef' and os.listdir(tmp_path / 'new') == ['file']
    assert log[0].startswith(f'{tmp_path}/new/.file.') and log[1:] == ['replace', f'{tmp_path}/new']


def test_others_may_read_as_far_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / 'file', b'abc')
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (tmp_path / 'file').stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize('raised, error, message', [
    (KeyboardInterrupt('by hand'), KeyboardInterrupt, 'by hand'),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), CkdError,
     r'/file \(3 bytes\): No space left on device\. Everything written before it is intact; free some'),
])
def test_what_was_interrupted_leaves_the_old_file(tmp_path, monkeypatch, raised, error, message):
    atomic_write(tmp_path / 'file', b'old')

    def fails(handle):
        raise raised

    monkeypatch.setattr(files.os, 'fsync', fails)
    with pytest.raises(error, match=message):
        atomic_write(tmp_path / 'file', b'new')
    assert (tmp_path / 'file').read_bytes() == b'old' and os.listdir(tmp_path) == ['file']


def test_a_folder_that_is_a_file(tmp_path):
    atomic_write(tmp_path / 'file', b'old')
    with pytest.raises(CkdError, match=r'/file/inside \(3 bytes\): (Not a directory|File exists)'):
        atomic_write(tmp_path / 'file' / 'inside', b'new')


def test_leftovers_of_a_kill_are_removed(tmp_path):
    for name in ('.epoch_2.pth.0a1b2c3d.tmp', 'epoch_1.pth', 'notes.tmp'):
        (tmp_path / name).write_bytes(b'abc')
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['epoch_1.pth', 'notes.tmp']
    remove_unfinished(tmp_path / 'nowhere')


@pytest.mark.parametrize('size', [0, 3, 2**24 + 1])
def test_sha256_of_a_file_that_is_read_in_parts(tmp_path, size):
    data = bytes(range(256)) * (size // 256) + b'abc'[:size % 256]
    (tmp_path / 'file').write_bytes(data)
    assert len(data) == size and sha256_of_file(tmp_path / 'file') == hashlib.sha256(data).hexdigest()


@pytest.fixture
def ascii_locale(tmp_path):
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, 'C')
    with open(tmp_path / 'any', 'w') as file:
        assert file.encoding.lower() != 'utf-8'
    yield
    locale.setlocale(locale.LC_CTYPE, before)


def test_files_are_utf_8_whatever_the_locale(tmp_path, distil_run, ascii_locale):
    classes = ('Müller', *DIGITS[1:])
    trajectory(tmp_path / 'made', epochs=(1, ), classes=classes)
    assert Trajectory.open(tmp_path / 'made').last.classes == classes
    config = distil_run(work_dir=tmp_path / 'Prüfung')
    config.teacher.model = resnet(2, classes=9)
    with pytest.raises(CkdError, match='num_classes=9'):
        RUNNERS.build(config).train()
    assert 'Prüfung, new' in (tmp_path / 'Prüfung' / 'ckd_mm.log').read_text(encoding='utf-8')
