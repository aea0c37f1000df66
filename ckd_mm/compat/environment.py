"""Which packages are installed, and whether they can work together."""

import contextlib
import importlib.metadata
import importlib.util
import sys

from ..errors import CkdError

# distributions that provide the same importable module: at most one of each may be installed
PROVIDERS: dict[str, tuple[str, ...]] = {
    'mmengine': ('mmengine', 'mmengine-lite', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'mmcv-lite', 'onedl-mmcv'),
    'mmpretrain': ('mmpretrain', 'onedl-mmpretrain'),
}
INSTALL_HINT = "pip install -e '.[current]' (or '.[classic]' for torch 2.1; see README, Installation)"


class EnvironmentConflict(CkdError, ImportError):
    """Installed packages that cannot work together."""


def installed_versions(*distributions: str) -> dict[str, str]:
    """Versions of those that are installed, by name."""
    found = {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def check_environment() -> None:
    """
    Raises:
        EnvironmentConflict: two distributions write the same module (say ``mmengine`` and
            ``onedl-mmengine``), or a module that the package needs is missing.
    """
    for module, providers in PROVIDERS.items():
        found = installed_versions(*providers)
        if len(found) > 1:
            names = ' and '.join(f'{name} {version}' for name, version in found.items())
            raise EnvironmentConflict(
                f'{names} are both installed and both provide the module "{module}": their files overwrite '
                f'each other. Make a fresh environment with one stack: {INSTALL_HINT}')
        if not found and importlib.util.find_spec(module) is None:
            raise EnvironmentConflict(f'ckd_mm needs the module "{module}", which is not installed: '
                                      f'{INSTALL_HINT}')


def versions() -> dict[str, str]:
    """What a result was made with: module name to version, for OpenMMLab's with the distribution's name."""
    import torch

    from ..version import __version__
    openmmlab = {module: ', '.join(map(' '.join, installed_versions(*providers).items()))
                 for module, providers in PROVIDERS.items()}
    return dict(python='.'.join(map(str, sys.version_info[:3])), torch=torch.__version__, **openmmlab,
                **installed_versions('torchvision', 'mmrazor', 'numpy'), ckd_mm=__version__)


def versions_in_a_line() -> str:
    found = versions()
    return ', '.join(f'{name} {found[name]}' for name in ('torch', 'mmengine', 'mmcv'))
