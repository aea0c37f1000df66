"""Registries of the ``ckd_mm`` scope, children of mmengine's.

mmengine swallows an ImportError raised in a file of this name and reports a missing type instead, so nothing
but mmengine is imported here. ``SELECTORS`` has no parent: mmengine knows no such thing.
"""

import difflib
import sys
import time
from collections.abc import Iterator
from typing import Any

from mmengine import registry as mmengine
from mmengine.registry import DefaultScope, Registry


def _child(name: str, parent: Registry | None, *packages: str) -> Registry:
    return Registry(name, parent=parent, scope='ckd_mm', locations=[f'ckd_mm.{path}' for path in packages])


DATA_SAMPLERS = _child('data sampler', mmengine.DATA_SAMPLERS, 'data')
DATASETS = _child('dataset', mmengine.DATASETS, 'data')
FUNCTIONS = _child('function', mmengine.FUNCTIONS, 'data')
HOOKS = _child('hook', mmengine.HOOKS, 'hooks')
LOOPS = _child('loop', mmengine.LOOPS, 'pipeline.resumable_loop')
METRICS = _child('metric', mmengine.METRICS, 'evaluation')
MODELS = _child('model', mmengine.MODELS, 'backbones', 'classifier_heads', 'losses', 'students', 'teachers')
RUNNERS = _child('runner', mmengine.RUNNERS, 'pipeline.runner')
SELECTORS = _child('selector', None, 'selection')


def use_scope(config) -> None:
    """From here on types without a scope are those of the config's ``default_scope``, as inside an mmengine
    runner."""
    DefaultScope.get_instance(f'ckd_mm_{time.time_ns()}',
                              scope_name=config.get('default_scope') or 'mmpretrain')


def unregistered(value: Any, path: str = '') -> Iterator[tuple[str, str, str]]:
    """Types in a config that no registry knows.

    Yields:
        Where, say '.optimizer' or '[2]'; the type; and '; did you mean ...?' or ''.
    """
    if isinstance(value, dict):
        kind = value.get('type')
        if isinstance(kind, str) and kind not in (names := list(_registered())):
            close = difflib.get_close_matches(kind, names, n=1) or [
                name for name in names if name.split('.')[-1] == kind]
            yield path, kind, f'; did you mean {close[0]!r}?' if close else ''
    items = value.items() if isinstance(value, dict) else \
        enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in items:
        yield from unregistered(item, path + (f'.{key}' if isinstance(value, dict) else f'[{key}]'))


def unknown_type(error: Exception, config: Any) -> str | None:
    """Where ``error`` comes from a type in ``config`` that no registry knows: which one."""
    for path, kind, meant in unregistered(config):
        if kind in str(error) or 'NoneType' in str(error) or 'None is not' in str(error):
            return f'{path}.type={kind!r} is registered nowhere{meant}'
    return None


def scopes() -> set[str]:
    """Of all packages that have registered types."""
    return {registry.scope for root in vars(mmengine).values() if isinstance(root, Registry)
            for registry in (root, *root.children.values())}


def registries() -> Iterator[Registry]:
    """All of mmengine and of the packages that are imported; also those that are below none of mmengine's, as
    mmpretrain's of batch augmentations."""
    modules = [mmengine, *(sys.modules.get(f'{scope}.registry') for scope in scopes())]
    roots = {id(root): root for module in modules if module is not None for root in vars(module).values()
             if isinstance(root, Registry) and root.parent is None}
    for root in roots.values():
        for registry in (root, *root.children.values()):
            if registry.scope == 'ckd_mm':  # others may need packages that are not installed
                registry.import_from_location()
            yield registry


def _registered() -> Iterator[str]:
    """Names of all types, as a config may write them."""
    scope = DefaultScope.get_current_instance()
    for registry in registries():
        if registry.parent is None or (scope is not None and registry.scope == scope.scope_name):
            yield from registry.module_dict
        yield from (f'{registry.scope}.{name}' for name in registry.module_dict)
