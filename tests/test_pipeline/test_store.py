"""What a run finds of its own files: records that are damaged, results that are gone, disks that are full."""

import errno
import json
import os
import re
import resource
import shutil
from pathlib import Path

import pytest
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError
from ckd_mm.files import sha256_of_file

from ..conftest import distil_config
from ..helpers import assert_same_weights, weights_of

FULL = Path('/dev/full')  # every write to it fails, as on a full disk


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('finished') / 'run'
    RUNNERS.build(distil_config(folder)).train()
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run, and what its resumption says."""
    folder = tmp_path / 'run'
    shutil.copytree(finished, folder)

    def resume() -> str:
        RUNNERS.build(distil_config(folder, resume=True)).train()
        return (folder / 'ckd_mm.log').read_text().removeprefix((finished / 'ckd_mm.log').read_text())

    return folder, resume


# ------------------------------------------------------------ stages.json
def result(stage: str, **changes):

    def damage(text: str) -> str:
        found = json.loads(text)
        found[stage]['result'].update(changes)
        return json.dumps(found)

    return damage


DAMAGED = {
    'half of it': lambda text: text[:len(text) // 2],
    'empty': lambda text: '',
    'a list': lambda text: '[]',
    'a number for a stage': lambda text: '{"teacher": 3}',
    'no state': lambda text: '{"teacher": {}}',
    'no settings': lambda text: '{"teacher": {"state": "done"}}',
    'no result': lambda text: '{"teacher": {"state": "done", "settings": {}}}',
    'another result': lambda text: text.replace('"trajectories"', '"folders"'),
    'text for a list': result('select', by_trajectory='x'),
    'a list for metrics': result('select', cohort_metrics=[1]),
    'a fraction for epochs': result('select', teacher_epoch=1.5),
    'a number for a folder': result('teacher', trajectories=3),
    'text for seconds': lambda text: re.sub('"seconds": [0-9.]+', '"seconds": "long"', text),
    'no process': lambda text: text.replace('"processes": 1', '"processes": 0'),
    'nested too deep': lambda text: '[' * 100000,
}


@pytest.mark.parametrize('damage', DAMAGED.values(), ids=DAMAGED)
def test_damaged_records_tell_the_way_out(run, damage):
    folder, resume = run
    file = folder / 'stages.json'
    file.write_text(damage(file.read_text()))
    with pytest.raises(CkdError, match=rf'^{file} .*damaged.* remove it and pass --resume: each training '
                                       'goes on from its last checkpoint'):
        resume()


def test_without_records_no_training_is_repeated(run, finished):
    """The way out of the message."""
    folder, resume = run
    (folder / 'stages.json').unlink()
    assert 'Stage student: finished in' in resume()
    checkpoints = {file.relative_to(folder): file.stat().st_mtime_ns for file in folder.glob('*/epoch_*.pth')}
    assert checkpoints == {name: (finished / name).stat().st_mtime_ns for name in checkpoints}
    for name in ('student.pth', 'snapshots/epoch_3.pth'):
        assert_same_weights(weights_of(folder / name), weights_of(finished / name))
    records = [json.loads((place / 'stages.json').read_text()) for place in (folder, finished)]
    assert [record['student']['settings'] for record in records] == [records[1]['student']['settings']] * 2
    assert records[0]['student']['result']['metrics'] == records[1]['student']['result']['metrics']


# ------------------------------------------------------------ what stages left
def test_a_student_that_is_gone_is_written_again(run, finished):
    folder, resume = run
    (folder / 'student.pth').unlink()
    assert f'{folder}/student.pth, which the student left, is gone: it is written again' in resume()
    assert_same_weights(weights_of(folder / 'student.pth'), weights_of(finished / 'student.pth'))
    record = json.loads((folder / 'stages.json').read_text())['student']
    assert record['result']['sha256'] == sha256_of_file(folder / 'student.pth')


@pytest.mark.parametrize('change, told', [
    (lambda file: file.write_bytes(file.read_bytes()[:-1]), 'damaged or another one: its SHA-256'),
    (lambda file: (file.unlink(), shutil.rmtree(file.with_suffix(''))), 'does not exist')])
def test_a_student_that_cannot_be_written_again_is_told(run, change, told):
    """Nor is one that is there replaced: somebody may have put it there."""
    folder, resume = run
    change(folder / 'student.pth')
    before = (folder / 'student.pth').exists() and (folder / 'student.pth').read_bytes()
    said = resume()
    assert re.search(f'student.pth, which the student left, .*{told}.*; the results are of the one', said)
    assert before == ((folder / 'student.pth').exists() and (folder / 'student.pth').read_bytes())


def test_a_selection_that_is_damaged_is_written_again(run, finished):
    folder, resume = run
    (folder / 'selection.json').write_text('{"epochs"')
    resume()
    assert (folder / 'selection.json').read_text() == (finished / 'selection.json').read_text()


# ------------------------------------------------------------ full disks
@pytest.mark.skipif(not FULL.exists(), reason='needs /dev/full')
@pytest.mark.parametrize('name', ['teacher/epoch_2.pth', 'student/epoch_1.pth'])
def test_a_full_disk_is_one_line_and_can_be_resumed(tmp_path, finished, name):
    """In mmengine's own writes."""
    folder = tmp_path / 'run'
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(FULL)
    with pytest.raises(CkdError, match=f'^cannot write .*{folder}.*: No space left on device. Everything'):
        RUNNERS.build(distil_config(folder)).train()
    (folder / name).unlink()
    RUNNERS.build(distil_config(folder, resume=True)).train()
    assert_same_weights(weights_of(folder / 'student.pth'), weights_of(finished / 'student.pth'))


def test_a_limit_of_the_file_size(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(CkdError, match=rf'^cannot write .*: {os.strerror(errno.EFBIG)}\. Everything'):
            RUNNERS.build(distil_config(tmp_path)).train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(not FULL.exists(), reason='needs /dev/full')
def test_a_log_that_cannot_be_written_ends_no_run(tmp_path, capfd):
    (tmp_path / 'ckd_mm.log').symlink_to(FULL)
    RUNNERS.build(distil_config(tmp_path)).train()
    said = capfd.readouterr().err
    assert said.count('ckd_mm.log cannot be written (No space left on device)') == 1
    assert 'Traceback' not in said
