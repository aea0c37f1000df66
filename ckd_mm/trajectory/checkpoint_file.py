"""Loading checkpoint files from anywhere without running what is in them."""

import os
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ..errors import SnapshotError

# the only things a pickle may name; everything else becomes an inert Placeholder
ALLOWED = {'collections': ('OrderedDict', 'defaultdict', 'deque'),
           'torch': ('Size', 'device'),
           'torch._utils': ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter'),
           'torch.nn.parameter': ('Parameter', ),
           'torch.storage': ('UntypedStorage', 'TypedStorage'),
           'builtins': ('set', 'frozenset', 'complex', 'bytearray', 'slice')}
DTYPE = re.compile(r'(float|bfloat|int|uint|bool|complex|half|double|long|short)\d*$')
FORCED = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'  # it refuses every unpickler but torch's own
WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')  # of data parallel and of compiled networks


class Placeholder:
    """Stands for an object of a type that is not loaded (a logger's history, a numpy scalar, ...)."""

    def __init__(self, *args, **kwargs) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = __init__  # how pickles fill objects


class UnknownType(pickle.UnpicklingError):
    """A type that a reader does not know; the message is its name."""


class SafeUnpickler(pickle.Unpickler):

    def find_class(self, module: str, name: str) -> Any:
        module = 'builtins' if module == '__builtin__' else module  # which protocol 2 writes
        is_dtype = module == 'torch' and (DTYPE.match(name) or name.endswith('Storage'))
        if is_dtype or name in ALLOWED.get(module, ()):
            return super().find_class(module, name)
        return self.unknown(module, name)

    def unknown(self, module: str, name: str) -> Any:
        """What takes the place of any other type."""
        return type(name, (Placeholder, ), {})


def pickle_module(unpickler: type[pickle.Unpickler]) -> Any:
    """What torch.load takes for the module ``pickle``."""
    return SimpleNamespace(Unpickler=unpickler, __name__=unpickler.__name__,
                           load=lambda file, **options: unpickler(file, **options).load())


SAFE_PICKLE = pickle_module(SafeUnpickler)


def is_whole(checkpoint: Path) -> bool:
    """By the checksums that torch writes into the zip file."""
    try:
        with zipfile.ZipFile(checkpoint) as file:
            torch._C.PyTorchFileReader(str(checkpoint))  # torch's own reader refuses more
            return file.testzip() is None
    except Exception:  # a damaged file raises half a dozen types, a missing one OSError
        return False


def is_damaged_zip(checkpoint: Path) -> bool:
    """Files of torch before 1.6 are no zips and have no checksums."""
    with open(checkpoint, 'rb') as file:
        return file.read(2) == b'PK' and not is_whole(checkpoint)


def load_safely(path: Path, what: str = 'snapshot') -> Any:
    """What ``torch.save`` wrote, on the CPU. Nothing in the file is executed: objects that are no tensors,
    numbers, text or containers become placeholders. Raises SnapshotError, where ``what`` names the file, if
    it is missing or damaged.
    """
    return read_checkpoint(path, f'{what} {path}', SAFE_PICKLE)


def read_checkpoint(file: Path, name: str, pickle_module: Any, map_location: Any = 'cpu') -> Any:
    """``torch.load`` with another unpickler.

    Args:
        name: of the file, for messages.

    Raises:
        UnknownType: the unpickler refuses a type.
        SnapshotError: the file is missing, damaged or no checkpoint.
    """
    if not Path(file).is_file():
        raise SnapshotError(f'{name} does not exist')
    forced = os.environ.pop(FORCED, None)
    try:
        if _is_program(file):
            raise ValueError('a TorchScript program')
        return torch.load(file, map_location, pickle_module, weights_only=False)
    except UnknownType:
        raise
    except Exception as error:  # torch raises half a dozen types for files it cannot read
        detail = (str(error).splitlines() or ['no detail'])[0]
        raise SnapshotError(f'{name} cannot be read, it is damaged or no checkpoint '
                            f'({type(error).__name__}: {detail})') from error
    finally:
        if forced is not None:
            os.environ[FORCED] = forced


def _is_program(file: Path) -> bool:
    """By the same reader and the same name as ``torch.load``, which would hand it to ``torch.jit.load``."""
    try:
        return 'constants.pkl' in torch._C.PyTorchFileReader(str(file)).get_all_records()
    except RuntimeError:  # of torch before 1.6, or damaged
        return False


def load_checkpoint_file(path: Path) -> dict[str, Any]:
    """A checkpoint of any OpenMMLab run, or a bare state dict, as a dict with ``meta`` and ``state_dict``
    whose keys lose the prefixes of wrappers. Nothing in the file is executed. Raises SnapshotError if it is
    missing, damaged or no checkpoint.
    """
    checkpoint = load_safely(path)
    if not isinstance(checkpoint, dict):
        raise SnapshotError(f'{path} holds a {type(checkpoint).__name__}, not a checkpoint')
    if 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint)
    meta, weights = checkpoint.get('meta'), checkpoint['state_dict']
    weights = weights if isinstance(weights, dict) else {}
    tensors = OrderedDict((WRAPPERS.sub('', key).replace('._orig_mod.', '.'), value)
                          for key, value in weights.items()
                          if isinstance(key, str) and isinstance(value, torch.Tensor))
    if not tensors:
        raise SnapshotError(f'{path} holds no weights')
    return dict(checkpoint, meta=meta if isinstance(meta, dict) else {}, state_dict=tensors)
