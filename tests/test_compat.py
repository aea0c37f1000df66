"""Versions, conflicts and mmrazor: what importing the package does and does not do."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from ckd_mm.compat import (
    EnvironmentConflict,
    check_environment,
    environment,
    mmrazor,
    prepare_distributed,
    require_mmrazor,
    versions,
)
from ckd_mm.compat.environment import installed_versions
from ckd_mm.errors import CkdError, ConfigError

from .conftest import ROOT

FIRST_IMPORT = """
import sys
import mmcv, torch
before = mmcv.__version__, sys.getrecursionlimit(), torch.get_rng_state().sum().item()
import ckd_mm
assert not [name for name in sys.modules if name.split('.')[0] == 'mmrazor']
assert (mmcv.__version__, sys.getrecursionlimit(), torch.get_rng_state().sum().item()) == before
import mmrazor
assert mmrazor.__version__ == '1.0.0'
import mmrazor.models, mmrazor.engine
from mmrazor.registry import MODELS
for name in ('ConfigurableDistiller', 'SingleTeacherDistill', 'L2Loss', 'KLDivergence'):
    assert MODELS.get(name), name
assert (mmcv.__version__, sys.getrecursionlimit()) == before[:2]
"""


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code], cwd=ROOT, text=True, capture_output=True, timeout=300,
                          check=False, env={**os.environ, **environment})


def installed(module: str) -> tuple[str, str]:
    """The one distribution that provides the module, and its version."""
    (provider, ), = [installed_versions(*environment.PROVIDERS[module]).items()]
    return provider


def fake_distribution(folder: Path, name: str, version: str) -> None:
    """What an installer leaves of a package, without the package."""
    info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')


# ---------------------------------------------------------------- importing
def test_import_leaves_mmrazor_alone_and_mends_it_when_asked_for():
    done = run_python(FIRST_IMPORT)
    assert done.returncode == 0, done.stderr


def test_two_stacks_in_one_environment_are_named_before_anything_is_imported(tmp_path):
    """A real process whose path has the classic mmengine beside the current one."""
    name, version = installed('mmengine')
    other = 'mmengine' if name != 'mmengine' else 'onedl-mmengine'
    fake_distribution(tmp_path, other, '0.10.7')
    done = run_python('import ckd_mm', PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f'{other} 0.10.7' in last and f'{name} {version}' in last
    assert 'both provide the module "mmengine"' in last


@pytest.mark.parametrize('module', ['mmengine', 'mmcv', 'mmpretrain'])
def test_conflicting_distributions_are_both_named(tmp_path, monkeypatch, module):
    check_environment()
    name, version = installed(module)
    other = next(other for other in environment.PROVIDERS[module] if other != name)
    fake_distribution(tmp_path, other, '9.9.9')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EnvironmentConflict) as caught:
        check_environment()
    message = str(caught.value)
    assert f'{name} {version}' in message and f'{other} 9.9.9' in message and '\n' not in message
    assert f'both provide the module "{module}"' in message and "pip install -e '.[current]'" in message
    assert isinstance(caught.value, CkdError) and isinstance(caught.value, ImportError)


def hide(monkeypatch, module: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec',
                        lambda name, package=None: None if name == module else find(name, package))


def test_a_missing_module_is_named(monkeypatch):
    version = importlib.metadata.version

    def no_version(name):
        if name in environment.PROVIDERS['mmcv']:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, 'version', no_version)
    check_environment()  # a checkout on the path, without a distribution, is enough
    hide(monkeypatch, 'mmcv')
    with pytest.raises(EnvironmentConflict, match='ckd_mm needs the module "mmcv", which is not installed:'):
        check_environment()


def test_versions_name_the_distributions():
    found = versions()
    assert found['torch'] == torch.__version__
    assert found['mmengine'] == ' '.join(installed('mmengine'))
    assert set(found) >= {'python', 'torch', 'mmengine', 'mmcv', 'mmpretrain', 'ckd_mm', 'numpy'}


# ---------------------------------------------------------------- mmrazor
@pytest.mark.parametrize('missing', ['mmrazor', 'joblib'])
def test_missing_mmrazor_is_one_line_with_what_to_do(monkeypatch, missing):
    hide(monkeypatch, missing)
    with pytest.raises(EnvironmentConflict) as caught:
        require_mmrazor('this test')
    assert str(caught.value) == (f'this test needs {missing}, which is not installed: pip install '
                                 'mmrazor==1.0.0 joblib (distillation of logits does not need it)')


def test_an_mmrazor_that_cannot_be_imported_is_one_line_with_versions(monkeypatch):
    def broken(name):
        raise AssertionError('MMCV==99 is used but incompatible')

    monkeypatch.setattr(importlib, 'import_module', broken)
    message = 'this test needs mmrazor, and mmrazor 1.0.0 cannot be imported with torch .*: AssertionError'
    with pytest.raises(EnvironmentConflict, match=message):
        require_mmrazor('this test')


def test_quantization_is_a_stand_in():
    module = require_mmrazor('this test')
    assert module.__name__ == 'mmrazor' and module.__version__ == '1.0.0'
    assert sum(isinstance(finder, mmrazor.MMRazorFinder) for finder in sys.meta_path) == 1
    from mmrazor.structures.quantization import QConfigHandler
    with pytest.raises(NotImplementedError, match="tion.QConfigHandler: mmrazor 1.0.0's quantization needs"):
        QConfigHandler(dict())


# ---------------------------------------------------------------- torch
@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_launchers_that_need_an_accelerator(monkeypatch, launcher):
    monkeypatch.setattr('ckd_mm.compat.torch.accelerator_available', lambda: False)
    with pytest.raises(ConfigError, match=f"launcher='{launcher}' needs an accelerator; on CPUs .* torchrun"):
        prepare_distributed(Config(dict(launcher=launcher)))
