"""README and docs: short enough, every link and path leads somewhere, the config of README is one."""

import re
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.selection import InformationPlaneSelector, build_selector
from ckd_mm.trajectory import snapshot_times

from .conftest import ROOT

README = ROOT / 'README.md'
DOCS = sorted((ROOT / 'docs').glob('*.md'))
PAGES = [README, ROOT / 'benchmarks' / 'README.md', *DOCS]
LINK = re.compile(r'\]\(([^()\s]+)\)')
PATH = re.compile(r'(?<![\w/:.-])(?:tools|configs|tests)/[\w./*-]*')
BASES = [str(ROOT / 'configs' / '_base_' / name) for name in (
    'models/resnet_digits_small.py', 'datasets/digits_bs32.py', 'schedules/digits_8e.py',
    'default_runtime.py')]

each_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def text_of(page: Path) -> str:
    return page.read_text()


def links(page: Path) -> list[str]:
    return [link for link in LINK.findall(text_of(page).replace('\n', ' ')) if '://' not in link]


def outside_code(text: str) -> list[str]:
    return re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL).splitlines()


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = [line.lstrip('#').strip() for line in outside_code(text_of(page)) if line.startswith('#')]
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def test_readme_is_short_and_links_every_page():
    assert len(text_of(README).splitlines()) <= 110
    linked = {(ROOT / link.partition('#')[0]).resolve() for link in links(README)}
    assert set(PAGES) - {README} <= linked


@each_page
def test_links_lead_to_files_and_headings(page):
    for link in links(page):
        name, _, anchor = link.partition('#')
        target = (page.parent / name).resolve() if name else page
        assert target.exists() and ROOT in target.parents, link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_named_paths_exist(page):
    """``configs/ckd/*_ensemble.py`` names at least one."""
    for path in set(PATH.findall(text_of(page))):
        assert list(ROOT.glob(path.rstrip('.').rstrip('/'))), path


@each_page
def test_lines_of_prose(page):
    prose = [line for line in outside_code(text_of(page)) if not line.startswith(('|', '    '))]
    assert [line for line in prose if len(line) > 120] == []


def test_python_is_that_of_setup():
    required, = re.findall(r"python_requires='>=([\d.]+)'", (ROOT / 'setup.py').read_text())
    assert set(re.findall(r'Python ([\d.]+\d) or newer', text_of(README))) == {required}
    assert f'target-version = "py{required.replace(".", "")}"' in (ROOT / 'pyproject.toml').read_text()


def test_the_config_of_readme_is_a_config(tmp_path):
    section = text_of(README).split('## Your own student')[1].split('\n## ')[0]
    snippet, = re.findall(r'^```python\n(.*?)^```$', section, re.MULTILINE | re.DOTALL)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 15
    (tmp_path / 'your_student.py').write_text(f'_base_ = {BASES}')
    (tmp_path / 'config.py').write_text(snippet)
    config = Config.fromfile(tmp_path / 'config.py')
    assert RUNNERS.get(config.runner_type) is CheckpointDistillRunner
    assert config.model.type == 'ImageClassifier' and config.teacher.model.cfg_path.startswith('mmpretrain::')
    assert snapshot_times(config.teacher.train_cfg.max_epochs, **config.teacher.snapshots)[:2] == [20, 40]
    assert isinstance(build_selector(config.selector), InformationPlaneSelector)
    assert {'tau', 'ce_weight', 'kd_weight'} <= set(config.distill) and config.student_alone
