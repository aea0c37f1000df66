"""Killed at whatever a run writes: files of a distillation run with cached targets are left empty, or not
renamed, by SIGKILL. At some kinds of
files; with ``--faults all`` at every single one (ten minutes)."""

import json
import multiprocessing
import os
import random
import re
import signal
import sys
from pathlib import Path

from mmengine.registry import RUNNERS

from ckd_mm.trajectory import Trajectory

from .planted import config_in, require_same

WRITING = os.O_WRONLY | os.O_RDWR
SAMPLE = 8
APPENDED = re.compile(r'\.log$|/vis_data/')  # nothing is read back from them


def writes(work_dir: Path, kill_at: int = -1) -> list:
    """What this process writes under ``work_dir`` from now on, in order; at number ``kill_at`` it dies. A
    file that is opened then is there, and empty, as between ``open`` and ``write``."""
    seen, within = [], []

    def hook(event: str, arguments: tuple) -> None:
        if within or event not in ('open', 'os.rename', 'os.remove'):
            return
        path = str(arguments[0])
        if not path.startswith(f'{work_dir}/') or APPENDED.search(path) or (
                event == 'open' and not arguments[2] & WRITING):
            return
        seen.append(f'{event} {Path(path).relative_to(work_dir)}')
        if len(seen) - 1 == kill_at:
            within.append(True)
            if event == 'open':
                os.close(os.open(path, arguments[2], 0o644))
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def run(config, kill_at: int = -1, listing: Path = None) -> None:
    seen = writes(Path(config.work_dir), kill_at)
    RUNNERS.build(config).train()
    if listing is not None:
        listing.write_text(json.dumps(seen))


def in_process(*arguments) -> int:
    """Forked off: an audit hook cannot be taken away."""
    process = multiprocessing.get_context('fork').Process(target=run, args=arguments)
    process.start()
    process.join(300)
    return process.exitcode


def kinds(seen: list) -> list:
    """Of each file the last but one time that it is written, so that there is an older one to lose. A file
    that is not renamed is as one that is not finished."""
    found = {}
    for index, what in enumerate(seen):
        if not what.startswith('os.rename'):
            found.setdefault(re.sub(r'\.[0-9a-f]{8}\.tmp|\d+', '', what), []).append(index)
    return [indices[-2] if len(indices) > 1 else indices[0] for indices in found.values()]


def test_killed_anywhere(pytestconfig, tmp_path):
    whole = tmp_path / 'unbroken'
    assert in_process(config_in(whole), -1, tmp_path / 'seen.json') == 0
    seen = json.loads((tmp_path / 'seen.json').read_text())
    kills = range(len(seen))
    if pytestconfig.getoption('faults') == 'sample':
        kills = random.Random(pytestconfig.getoption('seed')).sample(kinds(seen), SAMPLE)
    problems = []
    assert any('last_checkpoint' in seen[kill] for kill in kinds(seen))
    for kill in kills:
        broken = config_in(tmp_path / f'broken_{kill}')
        assert in_process(broken, kill) == -signal.SIGKILL
        broken.resume = True
        if in_process(broken) != 0:
            problems.append(f'{kill}: {seen[kill]}: not resumed')
            continue
        Trajectory.open(broken.work_dir).check()
        try:
            require_same(Path(broken.work_dir), whole)
        except AssertionError as error:
            problems.append(f'{kill}: {seen[kill]}: ends otherwise: {error}')
    assert not problems, problems
