"""A run goes on from its own checkpoints, and touches no other run's: moved, copied, or written elsewhere."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError
from ckd_mm.hooks.stage_state_hook import KEY
from ckd_mm.pipeline.stage_runner import is_own

from ..helpers import assert_same_weights, stopped_at, weights_of


@pytest.fixture
def alone(digits_run, tmp_path):
    """A student without a teacher, in a folder below this test's."""

    def make(folder: str, seed: int = 3, **checkpoint):
        config = digits_run(3, work_dir=tmp_path / folder, runner_type='ckd_mm.CheckpointDistillRunner',
                            teacher=None, rehearsal=False, randomness=dict(seed=seed))
        config.default_hooks.checkpoint.update(checkpoint)
        return config

    return make


def files_of(folder: Path) -> dict:
    return {file: file.read_bytes() for file in folder.rglob('*') if file.is_file()}


def log_of(config) -> str:
    return Path(config.work_dir, 'ckd_mm.log').read_text()


def test_a_copy_leaves_the_original_alone(alone, tmp_path):
    """Also its best checkpoint, whose path mmengine keeps, and which it deletes for a better one."""

    def names(folder: Path) -> list[str]:
        return [file.name for file in (folder / 'student').glob('best_*.pth')]

    keep = dict(save_best='accuracy/top1', rule='greater')
    RUNNERS.build(alone('unbroken', **keep)).train()
    stopped_at(alone('run', **keep), 'student', 2)
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    (tmp_path / 'copy' / 'student' / 'epoch_2.pth').write_bytes(b'')  # the original's is whole
    before, best = files_of(tmp_path / 'run'), names(tmp_path / 'run')
    copied = alone('copy', **keep)
    copied.resume = True
    RUNNERS.build(copied).train()
    assert files_of(tmp_path / 'run') == before
    assert len(names(tmp_path / 'copy')) == 1 and names(tmp_path / 'copy') != best, 'it found a better one'
    assert f'going on from {tmp_path}/copy/student/epoch_1.pth' in log_of(copied)
    assert_same_weights(*(weights_of(tmp_path / name / 'student.pth') for name in ('unbroken', 'copy')))


def test_two_runs_with_one_out_dir(alone, tmp_path):
    """Of the same name: each goes on with its own weights; so does one that was moved, or got another
    out_dir."""
    scratch = tmp_path / 'scratch'
    RUNNERS.build(alone('unbroken')).train()
    stopped_at(alone('a/run', out_dir=str(scratch)), 'student', 1)
    RUNNERS.build(alone('b/run', 4, out_dir=str(scratch))).train()
    checkpoints = sorted(str(file.relative_to(scratch)) for file in scratch.rglob('*.pth'))
    names = [json.loads((tmp_path / run / 'owner.json').read_text())['name'] for run in ('a/run', 'b/run')]
    assert checkpoints == sorted([f'{names[0]}/student/epoch_1.pth', f'{names[1]}/student/epoch_2.pth',
                                  f'{names[1]}/student/epoch_3.pth'])
    before = files_of(scratch / names[1])
    (tmp_path / 'a').rename(tmp_path / 'moved')
    for index, out_dir in enumerate((scratch, tmp_path / 'other')):
        config = alone('moved/run', out_dir=str(out_dir))
        config.resume = True
        if index == 0:
            stopped_at(config, 'student', 2)
        else:
            RUNNERS.build(config).train()
    assert sorted(path.name for path in (tmp_path / 'other').rglob('*.pth')) == ['epoch_3.pth']
    assert_same_weights(*(weights_of(tmp_path / name / 'student.pth') for name in ('unbroken', 'moved/run')))
    assert files_of(scratch / names[1]) == before


def test_a_copy_whose_checkpoints_lie_elsewhere(alone, tmp_path):
    """They are the original's: it is told where to put its own."""
    scratch = tmp_path / 'scratch'
    stopped_at(alone('run', out_dir=str(scratch)), 'student', 2)
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    before = files_of(scratch)
    config = alone('copy', out_dir=str(scratch))
    config.resume = True
    with pytest.raises(CkdError, match=r'/copy/student/last_checkpoint names .*/run-.{8}/student/epoch_2'
                                       r'.pth, and no checkpoint in .*/copy-.{8}/student or .*/copy/student '
                                       'is whole. Put one there, or remove last_checkpoint'):
        RUNNERS.build(config).train()
    shutil.copy(next(scratch.glob('run-*/student/epoch_2.pth')), tmp_path / 'copy' / 'student')
    RUNNERS.build(config).train()
    assert files_of(scratch).items() > before.items()


def test_a_run_that_was_begun_before_it_had_a_folder_there(alone, tmp_path):
    """Its checkpoints lie in ``out_dir/student``, as another run's might."""
    scratch = tmp_path / 'scratch'
    RUNNERS.build(alone('unbroken')).train()
    stopped_at(alone('run', out_dir=str(scratch)), 'student', 1)
    (tmp_path / 'run' / 'owner.json').unlink()
    file = next(scratch.glob('run-*')).joinpath('student').rename(scratch / 'student') / 'epoch_1.pth'
    note = tmp_path / 'run' / 'student' / 'last_checkpoint'
    note.write_text(str(file))
    checkpoint = torch.load(file, weights_only=False)
    del checkpoint[KEY]['stage']
    torch.save(checkpoint, file)
    other = tmp_path / 'other' / 'student'
    (other / '20200101_000000').mkdir(parents=True)
    assert is_own(str(file), note.parent) and not is_own(str(file), other)
    config = alone('run', out_dir=str(scratch))
    config.resume = True
    RUNNERS.build(config).train()
    assert_same_weights(*(weights_of(tmp_path / name / 'student.pth') for name in ('unbroken', 'run')))
    assert file.exists() and len(list(scratch.glob('run-*/student/*.pth'))) == 2
