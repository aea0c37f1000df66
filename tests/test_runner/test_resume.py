"""Killed processes: the demo, stopped by SIGKILL in the teacher's and in the student's training, ends like an unbroken run."""

import json
import os
import signal
import subprocess
import sys
import time

import torch

from ..conftest import DEMO, ROOT, run_tool


def killed_when(ready, command) -> None:
    """Start a process and kill it without warning as soon as ``ready()``."""
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=dict(os.environ))
    started = time.monotonic()
    while not ready():
        assert process.poll() is None, f'the process ended by itself with {process.returncode} before it was killed'
        assert time.monotonic() - started < 500, 'what was waited for did not happen'
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def weights(work_dir) -> dict:
    return torch.load(work_dir / 'student.pth', weights_only=True)['state_dict']


def test_the_demo_killed_in_both_stages_and_resumed(tmp_path):
    train = [sys.executable, 'tools/train.py', DEMO, '--work-dir']
    run_tool(*train, tmp_path / 'unbroken')
    broken = tmp_path / 'broken'
    command = [*train, broken, '--resume']
    killed_when((broken / 'teacher' / 'epoch_10.pth').exists, command)
    assert not (broken / 'stages.json').exists()
    first_snapshot = (broken / 'snapshots' / 'epoch_3.pth').stat().st_mtime_ns
    killed_when((broken / 'student' / 'epoch_3.pth').exists, command)
    assert set(json.loads((broken / 'stages.json').read_text())) == {'teacher', 'probe', 'select'}
    last_snapshot = (broken / 'snapshots' / 'epoch_30.pth').stat().st_mtime_ns
    run_tool(*command)

    assert (broken / 'snapshots' / 'epoch_3.pth').stat().st_mtime_ns == first_snapshot, 'epochs before the kill should not be repeated'
    assert (broken / 'snapshots' / 'epoch_30.pth').stat().st_mtime_ns == last_snapshot, 'a finished stage should not be repeated'
    expected, found = weights(tmp_path / 'unbroken'), weights(broken)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected), 'a resumed run should end like an unbroken one'
    summaries = [json.loads((folder / 'summary.json').read_text()) for folder in (tmp_path / 'unbroken', broken)]
    for key in ('teacher', 'cohort', 'student', 'student_alone', 'selection'):
        assert summaries[0][key] == summaries[1][key]
    # the demo shows what it promises: T* was found between the first and the last snapshot, and the student learnt
    assert 3 < summaries[0]['selection']['epochs'][0] < 30
    assert summaries[0]['student']['accuracy_top1'] > summaries[0]['student_alone']['accuracy_top1'] > 50


def test_killed_while_probing(tmp_path):
    """The plane is written snapshot by snapshot; what is measured is not measured again."""
    command = [sys.executable, 'tools/train.py', DEMO, '--work-dir', tmp_path, '--resume', '--cfg-options',
               'teacher.train_cfg.max_epochs=4', 'teacher.snapshots.interval=1', 'probe.decoder_epochs=400', 'train_cfg.max_epochs=1']
    plane = tmp_path / 'information_plane.json'
    killed_when(plane.exists, command)
    before = json.loads(plane.read_text())['points']
    assert 1 <= len(before) < 4
    run_tool(*command)
    after = json.loads(plane.read_text())['points']
    assert after[:len(before)] == before and [point['epoch'] for point in after] == [1, 2, 3, 4]
