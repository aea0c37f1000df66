"""One checkpoint of a trajectory: a file of weights and what is known about it."""

import hashlib
import io
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from logging import WARNING
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..classifier_heads import trainable
from ..counting import EPOCH, ITER, WORDS
from ..errors import CkdError, SnapshotError, in_a_line
from ..files import atomic_write, plain, sha256_of_file
from ..finite import require_finite
from ..validate import check_one_label
from .checkpoint_file import is_damaged_zip, load_checkpoint_file
from .configs import without_files
from .weight_names import renamed

ACCURACY = 'accuracy/top1'  # mmpretrain's name, percent
NUMBERED = re.compile(r'(best_.*_)?(epoch|iter)_(\d+)\.pth')  # mmengine's names of checkpoints
UNKNOWN = 0  # epoch of a checkpoint that tells no time


@dataclass(frozen=True)
class Snapshot:
    """An OpenMMLab checkpoint file. Facts that are not known are None."""
    file: Path
    epoch: int | None = None  # finished epochs: 120 means "after 120 epochs"; None: these were not counted
    iteration: int | None = None  # finished iterations
    lr: float | None = None  # of the last iteration
    metrics: dict[str, float] = field(default_factory=dict)  # of the validation at this time
    size: int | None = None  # bytes; checked if known, like the SHA-256
    sha256: str | None = None
    model: dict | None = None  # mmpretrain config of the network
    classes: tuple[str, ...] | None = None  # names in the order of the logits
    seconds: float | None = None  # of training up to here
    strict: bool = True  # or weights that do not fit are left out, and those that are missing are drawn

    @property
    def unit(self) -> str:
        """What its training counts."""
        return ITER if self.epoch is None and self.iteration is not None else EPOCH

    @property
    def time(self) -> int | None:
        """Finished epochs or iterations."""
        return self.iteration if self.unit == ITER else self.epoch

    @property
    def when(self) -> str:
        """For messages: 'epoch 120'."""
        return f'{WORDS[self.unit]} {self.time}'

    @property
    def accuracy(self) -> float | None:
        """Top-1 accuracy in percent as validated in its run, if it was."""
        return self.metrics.get(ACCURACY)

    def __str__(self) -> str:
        return f'{self.file} ({self.when})' if self.time else f'{self.file}'

    def check_file(self) -> None:
        """Raises SnapshotError if it is missing, or its size or SHA-256 is not what the manifest says; where
        none says it, if its content is not what the checksums in the file say."""
        problem = None
        if not self.file.is_file():
            problem = 'does not exist'
        elif self.size is not None and (size := self.file.stat().st_size) != self.size:
            problem = f'is damaged: {size:,} bytes where its manifest says {self.size:,}'
        elif self.sha256 is not None and sha256_of_file(self.file) != self.sha256:
            problem = 'is damaged: its SHA-256 is not the one in its manifest'
        elif self.sha256 is None and is_damaged_zip(self.file):
            problem = 'is damaged: its content is not that of its checksums, or it is cut off'
        if problem is not None:
            raise SnapshotError(f'snapshot {self} {problem}; restore the file or choose another snapshot')

    def state_dict(self, finite: bool = True) -> 'OrderedDict[str, Tensor]':
        """The weights, on the CPU; the file is checked first. Raises SnapshotError where they should be
        finite and are not."""
        self.check_file()
        weights = load_checkpoint_file(self.file)['state_dict']
        if finite:
            require_finite(weights, f'snapshot {self}', 'its training had diverged. Choose another snapshot '
                           '(selector), and take this one out of the trajectory', SnapshotError)
        return weights

    def build(self) -> nn.Module:
        """The network with these weights, in eval mode, without gradients, on the CPU. Raises SnapshotError
        if the file is missing, damaged or of another network."""
        from mmpretrain.registry import MODELS
        config = without_files(self.model)
        if config is None:
            raise SnapshotError(f'snapshot {self} does not say which network it is of: give its config as '
                                '`model`')
        scope = DefaultScope.get_current_instance()
        if scope is not None and scope.scope_name == 'mmrazor':
            # mmrazor builds its teachers in its own scope, which lacks the short names of mmpretrain's types
            config = dict(config, _scope_=config.get('_scope_', 'mmpretrain'))
        state_dict = self.state_dict()
        try:
            with torch.random.fork_rng(devices=[]):
                if not self.strict:  # what is drawn is the same each time
                    torch.manual_seed(0)
                network = trainable(MODELS.build(config))
        except CkdError:
            raise
        except Exception as error:  # whatever a constructor raises
            raise SnapshotError(f'snapshot {self}: its network cannot be built from its `model` '
                                f'({in_a_line(error)})') from error
        check_one_label(f'snapshot {self}', network)
        load_weights(network, state_dict, str(self), config, self.strict)
        return network.eval().requires_grad_(False)


def time_in(file: Path, meta: dict[str, Any]) -> dict[str, int | None]:
    """``epoch`` and ``iteration`` of a checkpoint by its name, or else its ``meta``, as mmengine writes them.
    Where a training counts iterations, the epochs in ``meta`` are 0."""
    named = NUMBERED.fullmatch(Path(file).name)
    if named and named[2] == ITER:
        return dict(epoch=None, iteration=int(named[3]))
    epoch, iteration = (value if type(value := meta.get(key)) is int and value > 0 else None
                        for key in ('epoch', 'iter'))
    if named:
        epoch = int(named[3])
    return dict(epoch=UNKNOWN if epoch is iteration is None else epoch, iteration=iteration)


def mismatch(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """Which weights are missing, unknown or misshapen; '' if none."""
    problems = {
        'weights of another shape': [f'{key} is {tuple(found[key].shape)}, expected {tuple(value.shape)}'
                                     for key, value in wanted.items()
                                     if key in found and found[key].shape != value.shape],
        'weights missing': [key for key in wanted if key not in found],
        'weights unknown': [key for key in found if key not in wanted]}
    return '; '.join(f'{len(keys)} {what}, first: {", ".join(keys[:5])}'
                     for what, keys in problems.items() if keys)


def load_weights(network: nn.Module, state_dict: dict[str, Tensor], name: str, config: dict,
                 strict: bool = True) -> None:
    """Load weights of this network, also as other packages name them (:func:`renamed`).

    Args:
        strict: False loads those that fit, and logs which do not.

    Raises:
        SnapshotError: with this name and config, where a weight is missing, unknown or misshapen, or none
            fits; nothing is loaded then.
    """
    wanted = network.state_dict()
    state_dict = renamed(state_dict, wanted)
    # what it leaves out in a hook of its own, since it makes it from its config: tables of SwinTransformerV2
    for key in network.load_state_dict(wanted, strict=False).missing_keys:
        wanted.pop(key, None)
        state_dict.pop(key, None)
    found = mismatch(wanted, state_dict)
    fitting = {key: value for key, value in state_dict.items()
               if key in wanted and wanted[key].shape == value.shape}
    if found and (strict or not fitting):
        parts = {part: dict(config.get(part) or {}) for part in ('backbone', 'head')}
        raise SnapshotError(f'snapshot {name} is not of the network type={config.get("type")}, '
                            f'backbone={parts["backbone"]}, head={parts["head"]}: {found}. Give the config '
                            'of the network (and number of classes) it was trained with; '
                            'teacher.strict=False takes what fits')
    if found:
        print_log(f'strict=False: {name} fits its network only in part: {found}', 'current', WARNING)
    network.load_state_dict(fitting, strict=False)


def write_snapshot(path: Path, state_dict: dict[str, Tensor], *, epoch: int | None, model: dict,
                   classes: Sequence[str] | None = None, iteration: int | None = None,
                   lr: float | None = None, seconds: float | None = None,
                   extra: dict[str, Any] | None = None) -> Snapshot:
    """Write weights atomically, for ``torch.load(weights_only=True)`` and mmpretrain's tools. ``extra`` are
    further facts for ``meta``; ``seconds`` are not in the file, which would differ from run to run.

    Raises:
        DivergedError: the weights are not finite.
        CkdError: the disk is full, or the folder cannot be written.
    """
    require_finite(state_dict, f'{Path(path).name} is not written')
    meta = dict(epoch=epoch, iter=iteration, lr=lr, model=plain(model), **plain(extra or {}))
    if classes is not None:
        meta['dataset_meta'] = dict(classes=list(classes))
    # contiguous: also of a channels-last run
    weights = OrderedDict((key, value.detach().cpu().contiguous()) for key, value in state_dict.items())
    buffer = io.BytesIO()  # torch writes files in C++, where a full disk is an "unexpected pos"
    torch.save(dict(meta=meta, state_dict=weights), buffer)
    data = buffer.getbuffer()
    atomic_write(path, data)
    return Snapshot(file=Path(path), epoch=epoch, iteration=iteration, lr=lr, size=len(data),
                    sha256=hashlib.sha256(data).hexdigest(), seconds=seconds, model=plain(model),
                    classes=None if classes is None else tuple(classes))
