import shlex

import pytest


@pytest.fixture
def config(distil_run, tmp_path):
    """Makes the config of a sweep: 3 epochs of teacher, 2 of students."""

    def make(work_dir=tmp_path / 'sweep', **settings):
        made = distil_run(work_dir=str(work_dir), **settings)
        made.probe, made.selector = dict(held_out=16), 'last'
        return made

    return make


@pytest.fixture
def run_commands(tool):
    """Writes a sweep and runs its commands in this process, teachers first; returns their names."""

    def run(sweep) -> list[str]:
        ran = []
        for commands in sweep.write(['python', 'tools/train.py']).values():
            for command in commands:
                _, _, config, *options = shlex.split(command)
                status, _, error = tool('train.py', config, *options)
                assert status == 0, error
                ran.append(config.split('/')[-2])
        return ran

    return run
