"""mmpretrain's own command line tools run our configs."""

import json
import runpy
import sys
from pathlib import Path

import mmpretrain
import pytest

from ..conftest import DEMO

TOOLS = Path(mmpretrain.__file__).parent / '.mim' / 'tools'


def test_train_and_test(tmp_path, monkeypatch):
    if not TOOLS.is_dir():
        pytest.skip(f'this mmpretrain was installed without its tools ({TOOLS})')

    def call(name, *arguments) -> None:
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(TOOLS / name), run_name='__main__')

    work_dir, metrics = tmp_path / 'run', tmp_path / 'metrics.json'
    call('train.py', DEMO, '--work-dir', work_dir, '--no-persistent-workers', '--cfg-options',
         'teacher.train_cfg.max_epochs=2', 'teacher.snapshots.interval=1', 'train_cfg.max_epochs=1',
         'probe.decoder_epochs=1', 'student_alone=False')
    summary = json.loads((work_dir / 'summary.json').read_text())
    assert set(summary['seconds']) == {'teacher', 'probe', 'select', 'student'}
    call('test.py', DEMO, work_dir / 'student.pth', '--work-dir', tmp_path / 'test', '--out', metrics,
         '--out-item', 'metrics')
    assert json.loads(metrics.read_text())['accuracy/top1'] == pytest.approx(
        summary['student']['accuracy_top1'], abs=1e-3)
