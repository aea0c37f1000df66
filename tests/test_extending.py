"""The examples of docs/extending.md, run from a folder outside the package; docs/config.md is what the
settings say."""

import json
import re
import sys

import pytest
import torch
from mmengine.registry import RUNNERS

from ckd_mm.pipeline.reference import config_reference
from ckd_mm.registry import MODELS
from ckd_mm.registry import RUNNERS as OURS

from .conftest import ROOT
from .helpers import batch, trajectory

BLOCKS = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'extending.md').read_text(), re.DOTALL)


def test_reference_is_what_the_settings_say():
    assert (ROOT / 'docs' / 'config.md').read_text() == config_reference(), \
        'stale: python -m ckd_mm.pipeline.reference docs/config.md'


@pytest.fixture
def my_lab(tmp_path, monkeypatch):
    """The package of the examples on the Python path, and its configs over one of a few digits."""
    folder = tmp_path / 'lab'
    (folder / 'my_lab').mkdir(parents=True)
    for name, index in (('quantise', 0), ('median', 2)):
        (folder / 'my_lab' / f'{name}.py').write_text(BLOCKS[index])
        (folder / f'{name}.py').write_text(BLOCKS[index + 1])
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.split('.')[0] == 'my_lab']:
        del sys.modules[name]
    OURS.module_dict.pop('QuantisedRunner', None)
    MODELS.module_dict.pop('MedianEnsemble', None)


def base(folder, distil_run) -> None:
    config = distil_run(selector='last', probe=None)
    for key in ('work_dir', 'experiment_name'):
        config.pop(key)
    config.dump(folder / 'ckd_config.py')


def test_a_stage_after_the_student(my_lab, distil_run, tool, tmp_path):
    base(my_lab, distil_run)
    command = ('train.py', my_lab / 'quantise.py', '--work-dir', tmp_path / 'run')
    status, _, error = tool(*command, '--cfg-options', 'quantise.bits=1')
    assert status == 1 and 'quantise.bits=1 should be a whole number, at least 2' in error
    assert tool(*command, '--until', 'student')[0] == 0
    status, out, _ = tool(*command, '--resume')
    assert status == 0 and re.search(r'quantised +the student with weights of 4 bits +\d+\.\d\d', out)
    assert json.loads((tmp_path / 'run' / 'summary.json').read_text())['quantised']['bits'] == 4
    assert 'the student with weights of 4 bits' in (tmp_path / 'run' / 'report.html').read_text()
    status, _, error = tool(*command, '--resume', '--cfg-options', 'quantise.bits=5')
    assert status == 1 and 'stage quantised was finished with other settings: bits was 4, now 5' in error


def test_a_cohort_of_ones_own(my_lab, distil_run, tool, tmp_path):
    base(my_lab, distil_run)
    status, _, error = tool('train.py', my_lab / 'median.py', '--work-dir', tmp_path / 'run')
    assert status == 0, error
    found = json.loads((tmp_path / 'run' / 'selection.json').read_text())
    assert found['epochs'] == [1, 2, 3] and found['cohort_metrics']
    snapshots = [snapshot.file for snapshot in trajectory(tmp_path / 'others')]
    cohort = MODELS.build(dict(type='ckd_mm.MedianEnsemble', snapshots=list(map(str, snapshots))))
    inputs = cohort.data_preprocessor(batch(), False)['inputs']
    logits = torch.stack([network(inputs, mode='tensor') for network in cohort.networks])
    assert torch.equal(cohort(inputs), logits.median(dim=0).values[None])


class NoCohort(torch.nn.Module):

    def __init__(self, snapshots: list, model: dict) -> None:
        super().__init__()


@pytest.mark.parametrize('kind, problem', [
    ('ckd_mm.CohortKDLoss', 'the cohort ckd_mm.CohortKDLoss cannot be built: TypeError: '),
    ('ckd_mm.NoSuchThing', 'the cohort ckd_mm.NoSuchThing cannot be built: KeyError: '),
    ('ckd_mm.NoCohort', 'a NoCohort is no cohort of teachers; give a subclass of ckd_mm.teachers.')])
def test_what_is_no_cohort_is_refused(distil_run, monkeypatch, kind, problem):
    monkeypatch.setitem(MODELS.module_dict, 'NoCohort', NoCohort)
    config = distil_run(selector='last', probe=None)
    config.distill.cohort = dict(type=kind)
    with pytest.raises(ValueError, match=f'^student: model with distill.cohort=.*{kind}.*: {problem}'):
        RUNNERS.build(config).train()
