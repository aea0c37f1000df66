"""A row of the table of faults: on which run, what is planted, and what is expected."""

import contextlib
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError

from ..conftest import distil_config
from ..helpers import stopped_at, weights_of

UNREAD = re.compile(r'\.(log|lock)$|/vis_data/|/2\d{7}_\d{6}/|\.py$|\.html$')


class Run:
    """A copy of a run, to be broken.

    Attributes:
        folder: its work_dir.
        config: of going on with it.
        whole: the folder of the run that nothing happened to.
        planted: the file that :meth:`one_of` chose last.
        random: for places and values, seeded by the row, the draw and ``--seed``.
    """

    def __init__(self, folder: Path, config: Config, whole: Path, random: random.Random) -> None:
        self.folder, self.config, self.whole, self.random, self.planted = folder, config, whole, random, ''

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def one_of(self, pattern: str) -> str:
        """One of the files that fit, but for those that nothing is read from."""
        files = sorted(str(file.relative_to(self.folder)) for file in self.folder.glob(pattern)
                       if file.is_file() and not UNREAD.search(str(file)))
        self.planted = self.random.choice(files)
        print('planted into', self.planted)  # shown where the test fails
        return self.planted

    def write(self, name: str, change: Callable[[bytes], bytes]) -> None:
        path = self / name
        path.write_bytes(change(path.read_bytes()))

    @contextlib.contextmanager
    def edited(self, name: str) -> Iterator[Any]:
        """The content of a JSON file or of a checkpoint, written again afterwards."""
        path = self / name
        content = json.loads(path.read_text()) if path.suffix == '.json' else torch.load(
            path, weights_only=False)
        yield content
        if path.suffix == '.json':
            path.write_text(json.dumps(content))
        else:
            torch.save(content, path)


class Fault(NamedTuple):
    """
    Args:
        on: which run it is planted into: 'new', not begun; 'half', stopped after two of three epochs of its
            student; 'finished'. All three have cached targets and a measured plane.
        plant: does it, in place.
        expected: starts or resumes the run and asserts what follows.
        draws: whether it is another one each time.
    """
    on: str
    plant: Callable[[Run], None]
    expected: Callable[[Run], None]
    draws: bool = False


# ------------------------------------------------------------ the runs
def config_in(folder: Path) -> Config:
    return distil_config(folder, rehearsal=False, distill=dict(cache=dict(views=2)),
                         train_cfg=dict(max_epochs=3))


def make_runs(folder: Path) -> dict[str, Path]:
    """The three runs of :class:`Fault`. The finished one was stopped, too: tests of resuming show that this
    makes no difference."""
    config = config_in(folder / 'finished')
    stopped_at(config, 'student', 2)
    shutil.copytree(folder / 'finished', folder / 'half')
    RUNNERS.build(config).train()
    return {name: folder / name for name in ('new', 'half', 'finished')}


def copy_of(runs: dict[str, Path], on: str, folder: Path, seed: str) -> Run:
    config = config_in(folder)
    if runs[on].exists():
        shutil.copytree(runs[on], folder)
        for note in folder.glob('*/last_checkpoint'):  # a full path
            note.write_text(str(note.with_name(Path(note.read_text()).name)))
        config.resume = True
    return Run(folder, config, runs['finished'], random.Random(seed))


# ------------------------------------------------------------ what is planted
def cut(pattern: str) -> Callable[[Run], None]:
    """One of these files ends at a random place."""

    def plant(run: Run) -> None:
        run.write(run.one_of(pattern), lambda data: data[:run.random.randrange(len(data))])

    return plant


def flip(pattern: str) -> Callable[[Run], None]:
    """A random bit of one of these files is another one."""

    def plant(run: Run) -> None:
        run.write(run.one_of(pattern), lambda data: flipped(data, run.random))

    return plant


def flipped(data: bytes, random: random.Random) -> bytes:
    damaged = bytearray(data)
    damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def gone(pattern: str) -> Callable[[Run], None]:

    def plant(run: Run) -> None:
        (run / run.one_of(pattern)).unlink()

    return plant


def holds(name: str, content: str) -> Callable[[Run], None]:

    def plant(run: Run) -> None:
        (run / name).write_text(content)

    return plant


def says(**settings: Any) -> Callable[[Run], None]:
    """The config has these settings."""

    def plant(run: Run) -> None:
        run.config.merge_from_dict(settings)

    return plant


# ------------------------------------------------------------ what is expected
def weights_in(folder: Path) -> dict[str, int]:
    """When each file of weights was written."""
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob('*.pth')}


def refused(message: str) -> Callable[[Run], None]:
    """One line, and no weights are made or lost."""

    def expected(run: Run) -> None:
        before = weights_in(run.folder)
        try:
            RUNNERS.build(run.config).train()
        except CkdError as error:
            assert re.search(message, str(error)) and '\n' not in str(error), str(error)
        else:
            raise AssertionError('it is not refused')
        assert weights_in(run.folder) == before

    return expected


def goes_on(warning: str | None = None) -> Callable[[Run], None]:
    """To what the whole run ended with, bit for bit; with a warning, or with none that this run lacks."""

    def expected(run: Run) -> None:
        before = len(warnings_in(run.folder))
        RUNNERS.build(run.config).train()
        require_same(run.folder, run.whole)
        usual = warnings_in(run.whole)
        warnings = [line for line in warnings_in(run.folder)[before:] if line not in usual]
        if warning is None:
            assert warnings == [], warnings
        else:
            assert any(re.search(warning, line) for line in warnings), warnings

    return expected


def warnings_in(folder: Path) -> list[str]:
    log = folder / 'ckd_mm.log'
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.partition(' - WARNING - ')[2].replace(f'{folder}/', '') for line in lines
            if ' - WARNING - ' in line]


def ends_the_same(run: Run) -> None:
    RUNNERS.build(run.config).train()
    require_same(run.folder, run.whole)


def never_silent(run: Run) -> None:
    """It is refused in one line, goes on to what the whole run ended with, or warns of the file."""
    before = len(warnings_in(run.folder))
    try:
        RUNNERS.build(run.config).train()
    except CkdError as error:
        assert '\n' not in str(error)
        return
    if not any(run.planted in warning for warning in warnings_in(run.folder)[before:]):
        require_same(run.folder, run.whole)


def outcome(folder: Path) -> dict:
    """But for times and names."""
    summary = json.loads((folder / 'summary.json').read_text())
    return {key: summary[key] for key in ('teacher', 'selection', 'cohort', 'schedule', 'student')}


def require_same(folder: Path, whole: Path) -> None:
    expected, found = (weights_of(one / 'student.pth') for one in (whole, folder))
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    assert outcome(folder) == outcome(whole)
