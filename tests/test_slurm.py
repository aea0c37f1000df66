"""What tools/slurm_*.sh ask of slurm, and do with the status of a training; srun, sbatch and scontrol are
scripts here."""

import pytest

from .conftest import ROOT, run_tool

ARGUMENTS = ['part', 'a job', 'my config.py', 'run dir', '--cfg-options', 'distill.tau=2', "a='b c'"]
# prints its arguments a line each, and ends as STATUS says; sbatch keeps the job that it is given
FAKES = {'srun': 'printf "%s\\n" srun "$@"; exit "${STATUS:-0}"', 'scontrol': 'echo scontrol "$@"',
         'sbatch': 'printf "%s\\n" sbatch "$@"; printf "#!/bin/sh\\n%s" "${@: -1}" > "$JOB"'}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    for name, script in FAKES.items():
        (tmp_path / name).write_text(f'#!/usr/bin/env bash\n{script}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')

    def call(*command, **environment) -> tuple[list[str], int]:
        done = run_tool('bash', *command, check=False, JOB=str(tmp_path / 'job'), **environment)
        return done.stdout.splitlines(), done.returncode

    return call


def trained(lines: list[str]) -> list[str]:
    """Arguments of tools/train.py."""
    return lines[lines.index(f'{ROOT}/tools/train.py') + 1:]


def test_at_a_terminal(slurm):
    lines, status = slurm('tools/slurm_train.sh', *ARGUMENTS, GPUS='4', WARNING='60', STATUS='75',
                          SRUN_ARGS='--time=1 --nice')
    assert status == 75 and lines[0] == 'srun'
    assert {'--signal=USR1@60', '--ntasks=4', '--job-name=a job', '--time=1', '--nice',
            '--kill-on-bad-exit=1'} <= set(lines)
    assert trained(lines) == ['my config.py', '--work-dir=run dir', '--launcher=slurm', *ARGUMENTS[4:]]


@pytest.mark.parametrize('status, queued', [(0, []), (1, []), (75, ['scontrol requeue 7']), (137, [])])
def test_queued_again(slurm, tmp_path, status, queued):
    """After a signal, and after nothing else; then it goes on, whatever it was started with."""
    given = [*ARGUMENTS, '--resume', 'student/epoch_3.pth']
    lines, submitted = slurm('tools/slurm_train.sh', *given, REQUEUE='1', SRUN_ARGS='--time=1')
    assert submitted == 0 and lines[0] == 'sbatch'
    assert {'--signal=USR1@120', '--requeue', '--open-mode=append', '--time=1', '--ntasks=8'} <= set(lines)
    for restarts in (None, '1'):
        again = {} if restarts is None else dict(SLURM_RESTART_COUNT=restarts)
        lines, found = slurm(tmp_path / 'job', STATUS=str(status), SLURM_JOB_ID='7', **again)
        assert found == status and [line for line in lines if 'scontrol' in line] == queued
        assert trained(lines)[:8] == ['my config.py', '--work-dir=run dir', '--launcher=slurm', *given[4:]]
        assert (trained(lines)[8:] + [''])[0] == ('--resume' if again else ''.join(queued))


def test_a_task_of_an_array(slurm, tmp_path):
    """It runs its line, as a step of the job: others do not get the signal that is asked for."""
    (tmp_path / 'list').write_text("echo first\necho 'the  second'\n")
    script = ['tools/slurm_sweep.sh', tmp_path / 'list']
    for status, queued in (('0', []), ('1', []), ('75', ['scontrol requeue 7'])):
        lines, found = slurm(*script, SLURM_ARRAY_TASK_ID='1', SLURM_JOB_ID='7', STATUS=status)
        assert found == int(status) and lines == ['srun', 'sh', '-c', "echo 'the  second'", *queued]
    assert slurm(*script, SLURM_ARRAY_TASK_ID='2') == ([], 1)
    asked, = (line for line in (ROOT / script[0]).read_text().splitlines() if line.startswith('#SBATCH'))
    assert {'--signal=USR1@120', '--requeue', '--open-mode=append'} <= set(asked.split())
