"""Loading checkpoint files from anywhere without running what is in them."""

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ..errors import SnapshotError

# the only things a pickle may name; everything else becomes an inert Placeholder
ALLOWED = {
    ('collections', 'OrderedDict'), ('collections', 'defaultdict'), ('collections', 'deque'),
    ('torch', 'Size'), ('torch', 'device'), ('torch._utils', '_rebuild_tensor'),
    ('torch._utils', '_rebuild_tensor_v2'), ('torch._utils', '_rebuild_parameter'),
    ('torch.nn.parameter', 'Parameter'), ('builtins', 'set'), ('builtins', 'frozenset'),
    ('builtins', 'complex'), ('builtins', 'bytearray'), ('builtins', 'slice'), }
DTYPE = re.compile(r'(float|bfloat|int|uint|bool|complex|half|double|long|short)\d*$')


class Placeholder:
    """Stands for an object of a type that is not loaded (a logger's history, a numpy scalar, ...)."""

    def __init__(self, *args, **kwargs) -> None:
        pass

    def __setstate__(self, state) -> None:
        pass

    def __setitem__(self, key, value) -> None:
        pass

    def append(self, item) -> None:
        pass

    def extend(self, items) -> None:
        pass


class _SafeUnpickler(pickle.Unpickler):

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED or (module == 'torch' and (DTYPE.match(name) or name.endswith('Storage'))) \
                or (module == 'torch.storage' and name in ('UntypedStorage', 'TypedStorage')):
            return super().find_class(module, name)
        return type(name, (Placeholder, ), {})


# torch.load wants a module with these names
_safe_pickle = SimpleNamespace(Unpickler=_SafeUnpickler,
                               load=lambda file, **options: _SafeUnpickler(file, **options).load(),
                               __name__='ckd_mm safe pickle')


def load_checkpoint_file(path: Path) -> dict[str, Any]:
    """A checkpoint of any OpenMMLab run, on the CPU. Nothing in the file is executed: tensors, numbers, text
    and
    containers are read, objects of other types become placeholders.

    Raises:
        SnapshotError: the file is missing, damaged or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise SnapshotError(f'snapshot {path} does not exist')
    try:
        checkpoint = torch.load(path, map_location='cpu', pickle_module=_safe_pickle, weights_only=False)
    except Exception as error:  # torch raises half a dozen types for files it cannot read
        raise SnapshotError(f'snapshot {path} cannot be read, it is damaged or no checkpoint '
                            f'({type(error).__name__}: '
                            f'{str(error).splitlines()[0] if str(error) else "no detail"})') from error
    if not isinstance(checkpoint, dict):
        raise SnapshotError(f'{path} holds a {type(checkpoint).__name__}, not a checkpoint')
    if 'state_dict' not in checkpoint:  # a bare state dict
        checkpoint = dict(state_dict=checkpoint, meta={})
    meta = checkpoint.get('meta')
    return dict(checkpoint, meta=meta if isinstance(meta, dict) else {},
                state_dict=_tensors(checkpoint['state_dict'], path))


def _tensors(state_dict: Any, path: Path) -> 'OrderedDict[str, torch.Tensor]':
    if not isinstance(state_dict, dict) or not any(
            isinstance(value, torch.Tensor) for value in state_dict.values()):
        raise SnapshotError(f'{path} holds no weights')
    prefix = re.compile(r'^(module\.|_orig_mod\.)+')
    return OrderedDict((prefix.sub('', key).replace('._orig_mod.', '.'), value)
                       for key, value in state_dict.items() if isinstance(value, torch.Tensor))
