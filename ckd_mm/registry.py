"""Registries of the ``ckd_mm`` scope, children of mmengine's.

mmengine swallows an ImportError raised in a file of this name and reports a missing type instead, so nothing
but mmengine is imported here. ``SELECTORS`` has no parent: mmengine knows no such thing.
"""

import time

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
MODELS = _child('model', mmengine.MODELS, 'backbones', 'losses', 'students', 'teachers')
RUNNERS = _child('runner', mmengine.RUNNERS, 'pipeline.runner')
SELECTORS = _child('selector', None, 'selection')


def use_scope(config) -> None:
    """From here on types without a scope are those of the config's ``default_scope``, as inside an mmengine
    runner."""
    DefaultScope.get_instance(f'ckd_mm_{time.time_ns()}',
                              scope_name=config.get('default_scope') or 'mmpretrain')
