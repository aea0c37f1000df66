"""Readers of files and configs, given any damage: they read, or raise the error with a message for users."""

import copy
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config

from ckd_mm.errors import CkdError
from ckd_mm.infoplane import InformationPlane
from ckd_mm.pipeline.build import open_run
from ckd_mm.pipeline.store import Store, read_records
from ckd_mm.targets.target_file import TargetFile
from ckd_mm.teachers.head_file import read_heads
from ckd_mm.trajectory import Trajectory
from ckd_mm.trajectory.checkpoint_file import load_checkpoint_file

from .planted import config_in, flipped

SEEDS = st.integers(0, 2**32)
WRONG = [None, True, -1, 0, 3, 2**70, 1.5, float('nan'), float('inf'), 1e308, '', 'x', '../x', '/etc/passwd',
         [], {}, [1], ['x'], {'x': 1}, [None], {'type': 'x'}]


def read_or_refused(read: Callable[[], object]) -> None:
    try:
        read()
    except CkdError as error:
        assert str(error).strip()


# ------------------------------------------------------------ damage
def changed(value, random: random.Random):
    """JSON with one of its values, however deep, of another kind, gone, or under another key."""
    value = copy.deepcopy(value)
    places = [(None, None)]

    def walk(inner) -> None:
        if isinstance(inner, (dict, list)):
            for key, item in inner.items() if isinstance(inner, dict) else enumerate(inner):
                places.append((inner, key))
                walk(item)

    walk(value)
    place, key = random.choice(places)
    what = random.choice(['value', 'value', 'gone', 'key'])
    if place is None:
        return random.choice(WRONG)
    if what == 'gone':
        del place[key]
    elif what == 'key' and isinstance(place, dict):
        place['x'] = place.pop(key)
    else:
        place[key] = random.choice(WRONG)
    return value


def damaged(data: bytes, random: random.Random) -> bytes:
    """Cut, with other bits, with a part twice or with zeros as of a power cut."""
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    kind = random.choice(['cut', 'bit', 'bits', 'twice', 'zeros', 'other'])
    if kind in ('bit', 'bits'):
        for _ in range(1 if kind == 'bit' else 20):
            data = flipped(data, random)
    return {'cut': data[:start], 'twice': data[:end] + data[start:], 'zeros': data[:start] + bytes(
        end - start) + data[end:], 'other': random.randbytes(start % 100)}.get(kind, data)


# ------------------------------------------------------------ readers
def read_targets(folder: Path) -> None:
    file = TargetFile(folder / 'targets')
    if file.is_complete:
        file.check()
        file.read([0])


def read_stages(folder: Path) -> None:
    read_records(folder)
    Store(folder, [])


def read_plane(folder: Path) -> None:
    InformationPlane.load(folder / 'information_plane.json')


def read_trajectory(folder: Path) -> None:
    for snapshot in Trajectory.open(folder):
        snapshot.build()


READERS = {'stages.json': read_stages, 'information_plane.json': read_plane,
           'trajectory.json': read_trajectory, 'targets/targets.json': read_targets}


@pytest.fixture(scope='module')
def folder(runs, tmp_path_factory) -> Path:
    return shutil.copytree(runs['finished'], tmp_path_factory.mktemp('fuzz') / 'run')


@pytest.mark.parametrize('name', READERS)
@given(seed=SEEDS)
def test_json(folder, name, seed):
    path, draw = folder / name, random.Random(seed)
    before = path.read_bytes()
    try:
        path.write_text(json.dumps(changed(json.loads(before), draw)))
        read_or_refused(lambda: READERS[name](folder))
        path.write_bytes(damaged(before, draw))
        read_or_refused(lambda: READERS[name](folder))
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize('reader', [load_checkpoint_file, read_heads])
@given(seed=SEEDS)
def test_checkpoints(folder, reader, seed):
    whole, path = folder / 'student.pth', folder / 'damaged.pth'
    path.write_bytes(damaged(whole.read_bytes(), random.Random(seed)))
    read_or_refused(lambda: reader(path))


@given(seed=SEEDS)
def test_arrays_of_targets(folder, seed):
    draw = random.Random(seed)
    path = draw.choice(sorted((folder / 'targets').glob('*.npy')))
    before = path.read_bytes()
    try:
        path.write_bytes(damaged(before, draw))
        read_or_refused(lambda: read_targets(folder))
    finally:
        path.write_bytes(before)


@given(seed=SEEDS)
def test_configs(tmp_path_factory, seed):
    """As of the settings of all stages; what mmengine builds of a config is tried in the rehearsal."""
    config = config_in(tmp_path_factory.getbasetemp() / 'config')
    content = changed({key: value for key, value in config.to_dict().items() if key != 'work_dir'},
                      random.Random(seed))
    if isinstance(content, dict):
        content['work_dir'] = config.work_dir
        read_or_refused(lambda: open_run(Config(content, format_python_code=False)))
