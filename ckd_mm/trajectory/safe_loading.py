"""What mmengine loads, without running what is in the files: it falls back to an unpickler that runs all."""

import argparse
import contextlib
import functools
import os
import pathlib
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from logging import WARNING
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, print_log
from mmengine.optim import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from ..errors import SnapshotError
from ..validate import check_bool
from .checkpoint_file import SafeUnpickler, UnknownType, pickle_module, read_checkpoint
from .download import local_file

KEY = 'trust_checkpoint'
# functions that mmengine stores in checkpoints, by the class that they are of
METHODS = {HistoryBuffer: ('min', 'max', 'current', 'mean'),
           OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear')}


def _method(owner: Any, name: str) -> Any:
    """In place of ``getattr``, with which pickles name methods."""
    if name not in METHODS.get(owner, ()):
        raise UnknownType(f'getattr({getattr(owner, "__name__", owner)}, {name!r})')
    return getattr(owner, name)


def _bytes(text: str, encoding: str) -> bytes:
    """In place of ``codecs.encode``, with which pickles of protocol 2 write bytes."""
    return text.encode('latin1')


NUMPY = import_module(np.ndarray.__reduce__(np.empty(0))[0].__module__)  # numpy.core or numpy._core
KNOWN = {('builtins', 'getattr'): _method, ('_codecs', 'encode'): _bytes,
         ('numpy', 'ndarray'): np.ndarray, ('numpy', 'dtype'): np.dtype,
         **{(f'numpy.{core}.multiarray', name): getattr(NUMPY, name)
            for core in ('core', '_core') for name in ('_reconstruct', 'scalar')},
         **{(kind.__module__, kind.__name__): kind
            for kind in (argparse.Namespace, pathlib.PosixPath, Counter, ConfigDict, *METHODS)}}


class TrainingUnpickler(SafeUnpickler):
    """Knows all that mmengine writes into the checkpoints of a training, and refuses everything else."""

    def unknown(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise UnknownType(f'{module}.{name}')
        return KNOWN[module, name]


TRAINING_PICKLE = pickle_module(TrainingUnpickler)


@contextlib.contextmanager
def safe_loading(config: dict) -> Iterator[None]:
    """Inside, whatever mmengine loads (``load_from``, a checkpoint to resume from, the file of an
    ``init_cfg``) is read without running what is in it, be it on disk or behind a URL. Loaders that a user
    registered stay.

    Args:
        config: with ``trust_checkpoint=True`` code in files is run, and the log says so.
    """
    own = dict(CheckpointLoader._schemes)
    trusts = check_bool(KEY, config.get(KEY) or False)
    for prefix, loader in own.items():
        if loader.__module__ == mmengine_checkpoint.__name__:
            CheckpointLoader.register_scheme(prefix, _in_place_of(loader, trusts), force=True)
    try:
        yield
    finally:
        for prefix, loader in own.items():
            CheckpointLoader.register_scheme(prefix, loader, force=True)


def loads_safely(method: Callable) -> Callable:
    """For methods of an object with a config, ``cfg``."""

    @functools.wraps(method)
    def inside(self: Any, *args: Any, **kwargs: Any) -> Any:
        with safe_loading(self.cfg):
            return method(self, *args, **kwargs)

    return inside


def _in_place_of(loader: Callable, trusts: bool) -> Callable:

    @functools.wraps(loader)  # whose name mmengine logs
    def load(filename: str, map_location: Any = None) -> Any:
        source = str(filename)
        checkpoint = _read(source, local_file(_url_of(source)), trusts, map_location)
        if source.startswith('mmcls://'):
            checkpoint = mmengine_checkpoint._process_mmcls_checkpoint(checkpoint)
        return checkpoint

    return load


def _url_of(source: str) -> str:
    """Of a network in one of mmengine's lists, say ``torchvision://resnet18``; others as they are."""
    scheme, _, name = source.partition('://')
    lists = dict(torchvision='get_torchvision_models', modelzoo='get_torchvision_models',
                 openmmlab='get_external_models', mmcls='get_mmcls_models')
    scheme = scheme.replace('-', '')
    if scheme not in lists:
        return os.path.expanduser(source)
    urls = getattr(mmengine_checkpoint, lists[scheme])()
    if scheme == 'openmmlab':
        name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    if name not in urls:
        raise SnapshotError(f'{source}: mmengine knows no {name}')
    return urls[name]


def _read(source: str, file: pathlib.Path, trusts: bool, map_location: Any) -> Any:
    if trusts:
        print_log(f'{KEY}=True: code in {source} is run where there is any', 'current', WARNING)
        return read_checkpoint(file, f'checkpoint {source}', pickle, map_location)
    try:
        checkpoint = read_checkpoint(file, f'checkpoint {source}', TRAINING_PICKLE, map_location)
    except UnknownType as error:
        raise SnapshotError(f'checkpoint {source} holds {error}, and to load that would run code in it; '
                            f'name another, or set {KEY}=True where you trust who made it') from error
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict) and meta.pop('config', None) is not None:
        print_log(f'{source}: its meta.config is left out, a config as text that mmengine would run to '
                  'resume', 'current', WARNING)
    return checkpoint
