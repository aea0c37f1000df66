"""The runs that faults are planted into, each made once."""

import pytest

from .planted import Fault, copy_of, make_runs
from .teachers import make_teacher, taught_by


@pytest.fixture(scope='session')
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp('runs'))


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    return make_teacher(tmp_path_factory.mktemp('trained'))


@pytest.fixture
def broken(request, tmp_path):
    """A copy of the run that a fault is planted into."""

    def copy(fault: Fault, seed: str):
        if fault.on == 'taught':
            return taught_by(request.getfixturevalue('trained'), tmp_path, seed)
        return copy_of(request.getfixturevalue('runs'), fault.on, tmp_path / 'run', seed)

    return copy
