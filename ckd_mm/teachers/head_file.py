"""Trained heads on disk, and the teacher that they belong to."""

import io
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..compat import versions
from ..counting import WORDS
from ..errors import ConfigError, SnapshotError, in_a_line
from ..files import atomic_write, plain
from ..finite import require_finite
from ..settings import Settings, setting
from ..trajectory import Snapshot
from ..trajectory.checkpoint_file import load_checkpoint_file
from ..trajectory.configs import classes_in
from ..trajectory.snapshot import mismatch
from ..validate import check_int
from .feature_network import FeatureNetwork, weights_sha256
from .intermediate_head import KINDS, IntermediateHead

NEEDED = 'every file of heads has it'


@dataclass(frozen=True, kw_only=True)
class TeacherFacts(Settings):
    """The snapshot that heads were trained on."""
    example = "dict(file='snapshots/epoch_1.pth', epoch=1, weights='...')"
    file: str = setting(help='relative to the folder of the heads', remedy=NEEDED)
    epoch: int | None = setting(None, at_least=0, help='finished epochs')
    iter: int | None = setting(None, at_least=0, help='or iterations')
    weights: str = setting(help='SHA-256 of its weights', remedy=NEEDED)


@dataclass(frozen=True, kw_only=True)
class HeadFacts(Settings):
    """What stands in the file; see :class:`HeadFile`."""
    example = 'dict(out_indices=[0, 1, 2])'
    out_indices: list = setting(help='of the backbone', remedy=NEEDED)
    kind: str = setting(choices=KINDS, help='of heads', remedy=NEEDED)
    grid: int = setting(at_least=1, help='side of it', remedy=NEEDED)
    input_shape: list = setting(help='of images', remedy=NEEDED)
    shapes: list = setting(help='of the maps', remedy=NEEDED)
    num_classes: int = setting(at_least=1, help='of them', remedy=NEEDED)
    sha256: str = setting(help='of the weights', remedy=NEEDED)
    teacher: TeacherFacts = setting(help='the snapshot', remedy=NEEDED)

    def check(self, name: str) -> None:
        for key, least in (('out_indices', 0), ('input_shape', 1)):
            for index, value in enumerate(getattr(self, key)):
                check_int(f'{name}.{key}[{index}]', value, least)
        if len(self.shapes) != len({*self.out_indices}):
            raise ConfigError(f'{name}.shapes={self.shapes!r} should be one for each of '
                              f'{name}.out_indices={self.out_indices!r}')
        for index, shape in enumerate(self.shapes):
            if not isinstance(shape, list) or not shape:
                raise ConfigError(f'{name}.shapes[{index}]={shape!r} should be a list: (channels, H, W)')
            for value in shape:
                check_int(f'{name}.shapes[{index}]', value, 1)


@dataclass(frozen=True)
class HeadFile:
    """An OpenMMLab checkpoint file; the weights of head i are called ``heads.i.fc.weight``."""
    file: Path
    out_indices: tuple[int, ...]  # of the teacher's backbone, where heads are mounted
    kind: str  # this and grid: see IntermediateHead
    grid: int
    input_shape: tuple[int, ...]  # of the images that they were trained for
    shapes: dict[int, tuple[int, ...]]  # of the maps, without the batch, by the index of the output
    num_classes: int
    classes: tuple[str, ...] | None  # their names, if they were known
    teacher: dict[str, Any]  # the snapshot that they were trained on: file, epoch, SHA-256 of its weights
    state_dict: dict[str, Tensor]

    def build(self) -> nn.ModuleDict:
        """The heads with their weights, by index, frozen. The caller's random state stays."""
        with torch.random.fork_rng(devices=[]):
            heads = self._untrained()
        heads.load_state_dict({name[len('heads.'):]: value for name, value in self.state_dict.items()})
        return heads.eval().requires_grad_(False)

    def check_weights(self) -> None:
        """Raises SnapshotError where the weights are not those of such heads."""
        try:
            with torch.device('meta'):
                wanted = nn.ModuleDict(dict(heads=self._untrained())).state_dict()
        except Exception as error:  # sizes that torch refuses
            raise SnapshotError(f'{self.file} is damaged: {in_a_line(error)}') from error
        if problem := mismatch(wanted, self.state_dict):
            raise SnapshotError(f'{self.file} is damaged: its heads are not what it says of them: {problem}')

    def _untrained(self) -> nn.ModuleDict:
        return nn.ModuleDict({
            str(index): IntermediateHead(self.num_classes, self.shapes[index], self.kind, self.grid)
            for index in self.out_indices})

    @property
    def teacher_file(self) -> Path:
        """The snapshot that they were trained on, which the file names relative to itself."""
        return self.file.parent / self.teacher['file']

    def check_teacher(self, snapshot: Snapshot, network: FeatureNetwork) -> None:
        """
        Raises:
            SnapshotError: the heads were trained on other classes or another network than ``snapshot``.
        """
        ours, theirs = self.classes, snapshot.classes
        if self.num_classes != network.num_classes:
            raise SnapshotError(f'heads {self.file} know {self.num_classes} classes and the teacher '
                                f'{snapshot} {network.num_classes}; train heads for this one')
        if None not in (ours, theirs) and ours != theirs:
            place = next(index for index, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1])
            raise SnapshotError(f'heads {self.file} and the teacher {snapshot} were trained on other '
                                f'classes, or the same in another order: class {place} is {ours[place]!r} '
                                f'for the heads, {theirs[place]!r} for the teacher; train heads for this one')
        if self.teacher['weights'] != network.weights_sha256:
            when = ', '.join(f'{WORDS[unit]} {self.teacher[unit]}' for unit in WORDS if unit in self.teacher)
            raise SnapshotError(f'heads {self.file} were trained on the weights of {self.teacher_file} '
                                f'({when}), the teacher {snapshot} has others; use '
                                'that snapshot, or train heads for this one')


def write_heads(path: Path, heads: nn.ModuleDict, network: FeatureNetwork, snapshot: Snapshot) -> HeadFile:
    """Write heads by index on the network of a snapshot, for ``torch.load(weights_only=True)``. Raises
    DivergedError where they are not finite."""
    path = Path(path)
    first = next(iter(heads.values()))
    state_dict = OrderedDict((f'heads.{name}', value.detach().cpu())
                             for name, value in heads.state_dict().items())
    require_finite(state_dict, f'{path.name} is not written')
    facts = dict(out_indices=[int(index) for index in heads], kind=first.kind, grid=first.grid,
                 input_shape=network.input_shape, shapes=[network.shapes[int(index)] for index in heads],
                 num_classes=network.num_classes, sha256=weights_sha256(state_dict),
                 teacher=dict(file=os.path.relpath(snapshot.file.resolve(), path.parent.resolve()),
                              **{snapshot.unit: snapshot.time}, weights=network.weights_sha256))
    meta = dict(heads=plain(facts), versions=plain(versions()))
    if snapshot.classes is not None:
        meta['dataset_meta'] = dict(classes=list(snapshot.classes))
    buffer = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=state_dict), buffer)
    atomic_write(path, buffer.getvalue())
    return read_heads(path)


def read_heads(path: Path) -> HeadFile:
    """
    Raises:
        SnapshotError: the file is missing, damaged, not finite or not of :func:`write_heads`.
    """
    path = Path(path)
    if not path.is_file():
        raise SnapshotError(f'heads {path} do not exist; train them, or name the heads.pth of a run that did')
    checkpoint = load_checkpoint_file(path)
    meta, state_dict = checkpoint['meta'], checkpoint['state_dict']
    facts = meta.get('heads')
    if not isinstance(facts, dict):
        raise SnapshotError(f'{path} is no file of heads: they are in the heads.pth of a run with `heads`')
    try:
        HeadFacts.read('heads', facts)
    except ConfigError as error:
        raise SnapshotError(f'{path} is damaged: {error}') from error
    if weights_sha256(state_dict) != facts['sha256']:
        raise SnapshotError(f'heads {path} are damaged: the SHA-256 of their weights is not the one in the '
                            'file; restore it, or train them again')
    require_finite(state_dict, f'heads {path}', 'train others', SnapshotError)
    indices = tuple(facts['out_indices'])
    found = HeadFile(path, indices, facts['kind'], facts['grid'], tuple(facts['input_shape']),
                     dict(zip(indices, map(tuple, facts['shapes']))), facts['num_classes'], classes_in(meta),
                     facts['teacher'], state_dict)
    found.check_weights()
    return found
