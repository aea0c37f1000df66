"""Who does which trial."""

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.sweep import Shard, shard_of

SLURM_ARRAY = dict(SLURM_ARRAY_TASK_MIN='0', SLURM_ARRAY_TASK_COUNT='4')


@pytest.mark.parametrize(
    'text, environment, expected', [
        (None, {}, (0, 1, 0)), ('1/3', {}, (1, 3, 1)),
        ('1/3', dict(RANK='5', WORLD_SIZE='8', LOCAL_RANK='2'), (1, 3, 2)),
        (None, dict(RANK='5', WORLD_SIZE='8', LOCAL_RANK='1'), (5, 8, 1)),
        (None, dict(SLURM_PROCID='6', SLURM_STEP_NUM_TASKS='8', SLURM_LOCALID='2'), (6, 8, 2)),
        # no srun in a job of eight tasks: one process, that does everything
        (None, dict(SLURM_PROCID='0', SLURM_NTASKS='8', SLURM_LOCALID='0'), (0, 1, 0)),
        # torchrun inside a job of slurm
        (None, dict(RANK='3', WORLD_SIZE='4', LOCAL_RANK='3', SLURM_PROCID='0', SLURM_STEP_NUM_TASKS='1'),
         (3, 4, 3)), (None, dict(SLURM_ARRAY, SLURM_ARRAY_TASK_ID='3', SLURM_PROCID='0',
              SLURM_STEP_NUM_TASKS='1', SLURM_LOCALID='0'), (3, 4, 0)),
        (None, dict(SLURM_ARRAY_TASK_MIN='1', SLURM_ARRAY_TASK_COUNT='4', SLURM_ARRAY_TASK_ID='4'),
         (3, 4, 0)), (None, dict(SLURM_ARRAY_TASK_MIN='10', SLURM_ARRAY_TASK_COUNT='3',
              SLURM_ARRAY_TASK_STEP='5', SLURM_ARRAY_TASK_ID='20'), (2, 3, 0)),
        # two tasks in each job of an array of four
        (None, dict(SLURM_ARRAY, SLURM_ARRAY_TASK_ID='2', SLURM_PROCID='1', SLURM_STEP_NUM_TASKS='2',
              SLURM_LOCALID='1'), (5, 8, 1))
    ])
def test_truth_table(text, environment, expected):
    assert shard_of(text, environment) == expected


@pytest.mark.parametrize('total', [1, 2, 3, 8])
def test_every_trial_is_of_exactly_one(total):
    shards = [Shard(index, total) for index in range(total)]
    assert [sum(shard.owns(trial) for shard in shards) for trial in range(30)] == [1] * 30


@pytest.mark.parametrize('text', ['3/3', '1', 'a/b', '-1/2', '0/0'])
def test_no_such_part(text):
    with pytest.raises(ConfigError, match=f'--shard {text} should be i/n'):
        shard_of(text, {})


def test_an_array_with_gaps():
    with pytest.raises(ConfigError, match='the slurm array has gaps .task 7 of 3 from 1.*--shard'):
        shard_of(None, dict(SLURM_ARRAY_TASK_MIN='1', SLURM_ARRAY_TASK_COUNT='3', SLURM_ARRAY_TASK_ID='7'))
