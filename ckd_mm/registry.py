"""Registries of the ``ckd_mm`` scope, children of mmengine's.

mmengine swallows an ImportError raised in a file of this name and reports a missing type instead, so nothing
but mmengine is imported here. ``SELECTORS`` has no parent: mmengine knows no such thing.
"""

import time

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import DefaultScope, Registry

DATA_SAMPLERS = Registry('data sampler', parent=MMENGINE_DATA_SAMPLERS, scope='ckd_mm',
                         locations=['ckd_mm.data'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='ckd_mm', locations=['ckd_mm.data'])
FUNCTIONS = Registry('function', parent=MMENGINE_FUNCTIONS, scope='ckd_mm', locations=['ckd_mm.data'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='ckd_mm', locations=['ckd_mm.hooks'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='ckd_mm', locations=['ckd_mm.pipeline.resumable_loop'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='ckd_mm', locations=['ckd_mm.evaluation'])
MODELS = Registry('model', parent=MMENGINE_MODELS, scope='ckd_mm',
                  locations=['ckd_mm.backbones', 'ckd_mm.losses', 'ckd_mm.students', 'ckd_mm.teachers'])
RUNNERS = Registry('runner', parent=MMENGINE_RUNNERS, scope='ckd_mm', locations=['ckd_mm.pipeline.runner'])
SELECTORS = Registry('selector', scope='ckd_mm', locations=['ckd_mm.selection'])


def use_scope(config) -> None:
    """From here on types without a scope are those of the config's ``default_scope``, as inside an mmengine
    runner."""
    DefaultScope.get_instance(f'ckd_mm_{time.time_ns()}',
                              scope_name=config.get('default_scope') or 'mmpretrain')
