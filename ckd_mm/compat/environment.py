"""Which packages are installed, and whether they can work together."""

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


def installed_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def providers_of(module: str) -> dict[str, str]:
    """Installed distributions that provide ``module``, and their versions."""
    found = {name: installed_version(name) for name in PROVIDERS[module]}
    return {name: version for name, version in found.items() if version is not None}


def check_environment() -> None:
    """
    Raises:
        EnvironmentConflict: two distributions write the same module (say ``mmengine`` and
            ``onedl-mmengine``), or a module that the package needs is missing.
    """
    for module in PROVIDERS:
        found = providers_of(module)
        if len(found) > 1:
            names = ' and '.join(f'{name} {version}' for name, version in found.items())
            raise EnvironmentConflict(
                f'{names} are both installed and both provide the module "{module}": their files overwrite '
                f'each other. Make a fresh environment with one stack: {INSTALL_HINT}')
        if not found and importlib.util.find_spec(module) is None:
            raise EnvironmentConflict(f'ckd_mm needs the module "{module}", which is not installed: '
                                      f'{INSTALL_HINT}')


def versions() -> dict[str, str]:
    """What a result was made with: module name to "distribution version"."""
    import torch
    result = {'python': '.'.join(map(str, sys.version_info[:3])), 'torch': torch.__version__}
    for module in PROVIDERS:
        result[module] = ', '.join(f'{name} {version}' for name, version in providers_of(module).items())
    for name in ('torchvision', 'mmrazor', 'numpy'):
        version = installed_version(name)
        if version is not None:
            result[name] = version
    from ..version import __version__
    result['ckd_mm'] = __version__
    return result


def versions_in_a_line() -> str:
    return ', '.join(
        f'{name} {version}' for name, version in versions().items() if name in ('torch', 'mmengine', 'mmcv'))
