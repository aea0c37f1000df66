"""One checkpoint of a trajectory: a file of weights and what is known about it."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..errors import SnapshotError
from ..files import atomic_file, plain, sha256_of_file
from .checkpoint_file import load_checkpoint_file

ACCURACY = 'accuracy/top1'  # mmpretrain's name, percent


@dataclass(frozen=True)
class Snapshot:
    """
    Args:
        file: the weights, an OpenMMLab checkpoint file.
        epoch: number of finished epochs, so 120 means "after 120 epochs". None where nothing tells.
        iteration: number of finished iterations.
        lr: learning rate of the last iteration.
        metrics: what validation said after this epoch, as mmpretrain names it (``accuracy/top1`` in percent).
        size: bytes. None if not known, then not checked.
        sha256: of the file. None if not known, then not checked.
        seconds: of training up to here. None if not known.
        model: mmpretrain config of the network.
        classes: class names in the order of the logits.
    """
    file: Path
    epoch: int | None = None
    iteration: int | None = None
    lr: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    size: int | None = None
    sha256: str | None = None
    model: dict | None = None
    classes: tuple[str, ...] | None = None
    seconds: float | None = None

    @property
    def accuracy(self) -> float | None:
        """Top-1 accuracy in percent as validated when it was taken, if it was."""
        return self.metrics.get(ACCURACY)

    def __str__(self) -> str:
        return f'{self.file}' if self.epoch is None else f'{self.file} (epoch {self.epoch})'

    def check_file(self) -> None:
        """
        Raises:
            SnapshotError: the file is missing, or its size or SHA-256 is not what the manifest says.
        """
        if not self.file.is_file():
            raise SnapshotError(f'snapshot {self} does not exist; restore the file or choose another '
                                'snapshot')
        size = self.file.stat().st_size
        if self.size is not None and size != self.size:
            raise SnapshotError(f'snapshot {self} is damaged: {size:,} bytes where its manifest says '
                                f'{self.size:,}; restore '
                                'the file or choose another snapshot')
        if self.sha256 is not None and sha256_of_file(self.file) != self.sha256:
            raise SnapshotError(f'snapshot {self} is damaged: its SHA-256 is not the one in its manifest; '
                                'restore the file '
                                'or choose another snapshot')

    def state_dict(self) -> 'OrderedDict[str, Tensor]':
        """The weights, on the CPU; the file is checked first."""
        self.check_file()
        return load_checkpoint_file(self.file)['state_dict']

    def build(self, model: dict | None = None) -> nn.Module:
        """The network with these weights, in eval mode, without gradients, on the CPU.

        The random state of the caller is left as it was.

        Args:
            model: the network's config; default: the one the snapshot was taken from.

        Raises:
            SnapshotError: the file is missing or damaged, or its weights are not of this network.
        """
        from mmpretrain.registry import MODELS
        config = copy.deepcopy(model if model is not None else self.model)
        if config is None:
            raise SnapshotError(f'snapshot {self} does not say which network it is of: give its config as '
                                '`model`')
        scope = DefaultScope.get_current_instance()
        if scope is not None and scope.scope_name == 'mmrazor':
            # mmrazor builds its teachers in its own scope, where the short names of mmpretrain's types mean
            # nothing
            config = dict(config, _scope_=config.get('_scope_', 'mmpretrain'))
        state_dict = self.state_dict()
        with torch.random.fork_rng(devices=[]):
            network = MODELS.build(config)
        _load_strictly(network, state_dict, str(self), config)
        return network.eval().requires_grad_(False)


def _load_strictly(network: nn.Module, state_dict: dict[str, Tensor], name: str, config: dict) -> None:
    wanted = network.state_dict()
    shapes = [
        f'{key} is {tuple(state_dict[key].shape)}, expected {tuple(wanted[key].shape)}' for key in wanted
        if key in state_dict and state_dict[key].shape != wanted[key].shape
    ]
    missing = [key for key in wanted if key not in state_dict]
    unexpected = [key for key in state_dict if key not in wanted]
    if shapes or missing or unexpected:
        problems = [
            f'{len(keys)} {what}, first: {keys[0]}'
            for what, keys in (('weights of another shape', shapes), ('weights missing', missing),
                               ('weights unknown', unexpected)) if keys
        ]
        backbone = config.get('backbone', {})
        raise SnapshotError(
            f'snapshot {name} is not of the network type={config.get("type")}, backbone={dict(backbone)}, '
            f'head={dict(config.get("head") or {})}: ' + '; '.join(problems) +
            '. Give the config of the network (and number of classes) it was trained with')
    network.load_state_dict(state_dict)


def write_snapshot(path: Path, state_dict: dict[str, Tensor], *, epoch: int, iteration: int, lr: float | None,
                   model: dict, classes: Sequence[str] | None, extra: dict[str, Any] | None = None,
                   seconds: float | None = None) -> Snapshot:
    """Write weights as a file that ``torch.load(weights_only=True)`` and mmpretrain's tools read.

    The file appears whole or not at all.

    Args:
        seconds: of training up to here; not in the file, which would differ from run to run.

    Raises:
        CkdError: the disk is full or the folder cannot be written.
    """
    meta = dict(epoch=epoch, iter=iteration, lr=lr, model=plain(model), **plain(extra or {}))
    if classes is not None:
        meta['dataset_meta'] = dict(classes=list(classes))
    weights = OrderedDict((key, value.detach().cpu().contiguous())
                          for key, value in state_dict.items())  # also of a channels-last run
    with atomic_file(path, sum(value.nbytes for value in weights.values())) as file:
        torch.save(dict(meta=meta, state_dict=weights), file)
    return Snapshot(file=Path(path), epoch=epoch, iteration=iteration, lr=lr, size=file.size,
                    sha256=file.sha256, seconds=seconds, model=plain(model),
                    classes=None if classes is None else tuple(classes))
