"""Whole runs on a few digits, and what they should have left, computed here."""

import json
from pathlib import Path

import pytest
from mmengine.registry import RUNNERS

SHARED = {}


@pytest.fixture
def run(distil_run):
    """Makes a run and returns its work_dir and summary: by default the last teacher teaches."""

    def make(**settings):
        config = distil_run(**{'selector': 'last', 'probe': None, **settings})
        return Path(config.work_dir), RUNNERS.build(config).train()

    return make


@pytest.fixture
def shared_run(run, tmp_path_factory):
    """The same, done once for all tests that give the same name."""

    def make(name, **settings):
        if name not in SHARED:
            SHARED[name] = run(work_dir=str(tmp_path_factory.mktemp(name)), **settings)
        return SHARED[name]

    return make


def settings_of(work_dir: Path, stage: str) -> dict:
    """What the result of a stage depended on, flat."""
    return json.loads((work_dir / 'stages.json').read_text())[stage]['settings']
