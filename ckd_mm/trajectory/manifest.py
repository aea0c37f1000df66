"""What may stand in ``trajectory.json``."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..counting import EPOCH, ITER
from ..errors import ConfigError
from ..settings import Settings, setting
from ..validate import check_inside, check_int, check_number, check_part
from .snapshot import ACCURACY

PERCENT = dict(at_least=0, at_most=100)


@dataclass(frozen=True, kw_only=True)
class SnapshotFacts(Settings):
    """Of one snapshot; see :class:`Snapshot`."""
    example = "dict(epoch=1, file='snapshots/epoch_1.pth')"
    epoch: int | None = setting(None, at_least=0, help='finished epochs, where the training counts them')
    file: str = setting(help='below the folder of the manifest', remedy='every snapshot has one')
    metrics: dict | None = setting(None, help='of the validation at this time')
    iteration: int | None = setting(None, at_least=0, help='finished iterations')
    lr: float | None = setting(None, at_least=0, help='of the last iteration')
    size: int | None = setting(None, at_least=1, help='bytes')
    sha256: str | None = setting(None, help='of the file')
    seconds: float | None = setting(None, at_least=0, help='of training up to here')

    @property
    def unit(self) -> str:
        return ITER if self.epoch is None else EPOCH

    def check(self, name: str) -> None:
        if self.epoch is self.iteration is None:
            raise ConfigError(f'{name}.epoch is missing, or iteration: every snapshot has one')
        check_inside(f'{name}.file', self.file)
        if self.sha256 is not None and not re.fullmatch('[0-9a-f]{64}', self.sha256):
            raise ConfigError(f'{name}.sha256={self.sha256!r} should be 64 hexadecimal digits')
        for key, value in (self.metrics or {}).items():
            if value is not None and not isinstance(value, list):  # of classes, which nothing reads
                check_number(f'{name}.metrics.{key}', value, **PERCENT if key == ACCURACY else {})


@dataclass(frozen=True, kw_only=True)
class HeldOutFacts(Settings):
    """See :func:`ckd_mm.data.split.held_out_record`."""
    example = 'dict(held_out=5000, seed=0)'
    held_out: int | float = setting(above=0, help='images, or their part', remedy='every such record has it')
    seed: int = setting(at_least=0, help='of the draw', remedy='every such record has it')
    total: int | None = setting(None, at_least=1, help='training images')
    images_sha256: str | None = setting(None, help='of their names or content')

    def check(self, name: str) -> None:
        check_part(f'{name}.held_out', self.held_out)


@dataclass(frozen=True, kw_only=True)
class ManifestFacts(Settings):
    """Of a whole trajectory. Further keys are facts that nothing here reads."""
    example = 'dict(model=dict(...), snapshots=[...])'
    snapshots: list | None = setting(None, help='a dict for each')
    model: dict | None = setting(None, help='config of the network')
    classes: list | None = setting(None, help='names in the order of the logits')
    max_epochs: int | None = setting(None, at_least=1, help='length of the training')
    planned_epochs: int | None = setting(None, at_least=1, help='of one that was stopped early')
    max_iters: int | None = setting(None, at_least=1, help='length of a training by iterations')
    planned_iters: int | None = setting(None, at_least=1, help='of one that was stopped early')
    snapshot_epochs: list | None = setting(None, help='of the snapshots that were planned')
    snapshot_iters: list | None = setting(None, help='of the snapshots that were planned')
    ema: bool | None = setting(None, help='whether they are averaged weights')
    held_out: HeldOutFacts | None = setting(None, help='images that it was not trained on')
    seed: int | None = setting(None, at_least=0, help='of the training')
    versions: dict | None = setting(None, help='of packages')

    def check(self, name: str) -> None:
        for index, value in enumerate(self.classes or ()):
            if not isinstance(value, str):
                raise ConfigError(f'classes[{index}]={value!r} should be the name of a class')
        for key in ('snapshot_epochs', 'snapshot_iters'):
            for index, value in enumerate(getattr(self, key) or ()):
                check_int(f'{key}[{index}]', value, 1)
        found = [SnapshotFacts.read(f'snapshots[{index}]', entry)
                 for index, entry in enumerate(self.snapshots or ())]
        if len({snapshot.unit for snapshot in found}) > 1:
            raise ConfigError('snapshots: some have an epoch and others only an iteration; a training counts '
                              'one of them')
        unit = found[0].unit if found else EPOCH
        for key in ('epoch' if unit == EPOCH else 'iteration', 'file'):
            value, times = _most_common(getattr(snapshot, key) for snapshot in found)
            if times > 1:
                raise ConfigError(f'snapshots: {times} have {key}={value!r}, each should have its own')
        least = max((snapshot.iteration if unit == ITER else snapshot.epoch for snapshot in found), default=0)
        for key in (f'max_{unit}s', f'planned_{unit}s'):
            if (value := getattr(self, key)) is not None and value < least:
                raise ConfigError(f'{key}={value} should be at least {least}')
            least = value or least


def _most_common(values: Any) -> tuple[Any, int]:
    return next(iter(Counter(values).most_common(1)), (None, 0))
