"""Registries of the ``ckd_mm`` scope, children of mmengine's.

mmengine swallows an ImportError raised in a file of this name and reports a missing type instead, so nothing but
mmengine is imported here. ``SELECTORS`` has no parent: mmengine knows no such thing.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import Registry

DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='ckd_mm', locations=['ckd_mm.datasets'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='ckd_mm', locations=['ckd_mm.hooks'])
MODELS = Registry('model', parent=MMENGINE_MODELS, scope='ckd_mm', locations=['ckd_mm.models'])
RUNNERS = Registry('runner', parent=MMENGINE_RUNNERS, scope='ckd_mm', locations=['ckd_mm.runner'])
SELECTORS = Registry('selector', scope='ckd_mm', locations=['ckd_mm.selection'])
