"""Teachers of other classes than the student's, or of the same in another order."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError, SnapshotError


@dataclass(frozen=True)
class ClassMap:
    r"""What the classes of a student are called by its teachers.

    Let :math:`z_k` be a teacher's logits of its own classes, :math:`t(c)` its class for the student's class
    c, and S the student's classes that all teachers have. A teacher answers with the logits
    :math:`z_{t(c)}`, c in S, so that its softened probabilities are those of its classes divided by their
    sum over S:

    .. math:: P(c) = \frac{\exp(z_{t(c)} / \tau)}{\sum_{s \in S} \exp(z_{t(s)} / \tau)}, \quad c \in S

    The student's logits are restricted to S in the same way where they are compared with a teacher's. Its own
    loss is of all its classes.

    Args:
        names: of the teachers' classes, one for each of the student's; None where they have none.
    """
    names: tuple[str | None, ...]

    @classmethod
    def of(cls, names: Sequence[str | None] | None) -> 'ClassMap | None':
        return None if names is None else cls(tuple(names))

    @property
    def shared(self) -> list[int] | None:
        """The student's classes in S; None if these are all."""
        found = [index for index, name in enumerate(self.names) if name is not None]
        return found if len(found) < len(self.names) else None

    def columns(self, classes: Sequence[str] | None, source: str) -> list[int]:
        """The t(c) of a teacher. Raises SnapshotError where it does not have one of them."""
        wanted = [name for name in self.names if name is not None]
        if classes is None:
            raise SnapshotError(f'{source} does not name its classes, and class_map goes by their names')
        if missing := [name for name in wanted if name not in classes]:
            raise SnapshotError(f'{source} has no class {missing[0]!r}, which class_map names')
        return [list(classes).index(name) for name in wanted]


def class_map_of(classes: Sequence[str], teachers: Sequence[tuple[str, Sequence[str] | None]],
                 renamed: dict[str, str]) -> list[str | None]:
    """The ``names`` of a :class:`ClassMap`, with S as large as can be.

    Args:
        classes: the student's.
        teachers: the name of each for messages, and its classes.
        renamed: from the student's names of classes to the teachers', where they differ.

    Raises:
        ConfigError: a teacher does not name its classes, a name is none of theirs, or less than two classes
            are shared.
    """
    for source, own in teachers:
        if own is None:
            raise ConfigError(f'teacher.class_map: {source} does not name its classes, by which they are '
                              "matched; write them into the file, meta['dataset_meta']=dict(classes=[...])")
        for ours, theirs in renamed.items():
            if ours not in classes or theirs not in own:
                lacking = f'{ours!r} is no class of train_dataloader.dataset' if ours not in classes else \
                    f'{theirs!r} is no class of {source}'
                raise ConfigError(f'teacher.class_map: {lacking}; give the names as they are written there')
    names = [renamed.get(name, name) for name in classes]
    shared = [name if all(name in own for _, own in teachers) else None for name in names]
    if len(set(shared) - {None}) < 2:
        source, own = teachers[0]
        raise ConfigError(f'teacher.class_map: {source} ({_first(own)}) and train_dataloader.dataset '
                          f'({_first(classes)}) share {len(set(shared) - {None})} class(es), and logits are '
                          'compared of two or more; say which are the same, teacher.class_map='
                          "{'name here': 'name there'}")
    return shared


def _first(names: Sequence[str]) -> str:
    return ', '.join(map(repr, names[:3])) + (', ...' if len(names) > 3 else '')


def in_all_classes(scores: Tensor, class_map: ClassMap | None) -> Tensor:
    """Probabilities of the classes in S as those of all the student's classes (N, C), 0 of the others."""
    if class_map is None or class_map.shared is None:
        return scores
    filled = scores.new_zeros(len(scores), len(class_map.names))
    return filled.index_copy(1, torch.tensor(class_map.shared, device=scores.device), scores)


class Columns(nn.Module):
    """Logits (N, K) of these classes only."""

    def __init__(self, columns: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer('columns', torch.tensor(columns), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        return logits[:, self.columns.to(logits.device)]


class RestrictedNetwork(nn.Module):
    """A teacher that answers with the logits of S only."""

    def __init__(self, network: nn.Module, columns: Sequence[int]) -> None:
        super().__init__()
        self.network, self.columns = network, Columns(columns)
        self.data_preprocessor = network.data_preprocessor

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> Tensor:
        return self.columns(self.network(inputs, mode=mode))
