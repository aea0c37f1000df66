"""A teacher and the classifier heads on its feature maps (DIH, Sec. 3.2)."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from ..errors import ConfigError, SnapshotError
from ..registry import MODELS
from .base_cohort import BaseCohort
from .feature_network import FeatureNetwork
from .head_file import HeadFile, read_heads
from .snapshot_ensemble import SnapshotLike, find_snapshot

TEACHER = 'teacher'


@MODELS.register_module()
class DIHTeacher(BaseCohort):
    """A teacher and k trained heads on its backbone: k + 1 teachers from one forward pass.

    "Distilling Knowledge via Intermediate Classifier Heads" (arXiv 2103.00497). Logits come from the
    shallowest head to the deepest, the teacher's last. If only heads teach, its neck and head do not run.

    Args:
        snapshot, model: the teacher, see :func:`find_snapshot`.
        heads: file that :class:`HeadTraining` wrote.
        use: who teaches: 'teacher' and heads by their output of the backbone, say ``['teacher', 0, 2]``;
            default: all.
        data_preprocessor: of the inputs; default: the teacher's.

    Raises:
        ConfigError: ``use`` names a head that is not there.
        SnapshotError: a file is missing or damaged, or the heads do not belong to the snapshot.
    """

    def __init__(self, snapshot: SnapshotLike, heads: str | Path, use: Sequence[str | int] | None = None,
                 model: dict | None = None, data_preprocessor: dict | nn.Module | None = None) -> None:
        super().__init__(data_preprocessor)
        self.snapshot = find_snapshot(snapshot, model)
        self.head_file = read_heads(heads)
        used = read_use(use, self.head_file)
        self.indices = [index for index in self.head_file.out_indices if index in used]
        try:  # where no head teaches, the network is still checked to be that of the heads
            network = FeatureNetwork(self.snapshot, self.indices or self.head_file.out_indices,
                                     self.head_file.input_shape)
        except ConfigError as error:  # what it names are settings of the file, not of the user
            raise SnapshotError(f'heads {heads} do not fit the teacher {self.snapshot}: {error}. Use the '
                                f'snapshot they were trained on, {self.head_file.teacher_file}, or train '
                                'heads for this one') from error
        self.head_file.check_teacher(self.snapshot, network)
        self.classes = self.snapshot.classes or self.head_file.classes
        trained = self.head_file.build()
        self.heads = nn.ModuleDict({str(index): trained[str(index)] for index in self.indices})
        if TEACHER not in used:
            network.neck = network.head = None
        self.networks = nn.ModuleList([network])
        if data_preprocessor is None:
            self.data_preprocessor = network.data_preprocessor
        self.expect_inputs_of(self.data_preprocessor)

    @property
    def member_names(self) -> list[str]:
        heads = [f'head {index}' for index in self.indices]
        return heads if self.networks[0].head is None else [*heads, TEACHER]

    @property
    def sources(self) -> list[str]:
        return [f'{name} of snapshot {self.snapshot}' for name in self.member_names]

    def expect_inputs_of(self, preprocessor: nn.Module) -> None:
        self.networks[0].expect_inputs_of(preprocessor)
        self.freeze()

    def member_logits(self, inputs: Tensor) -> list[Tensor]:
        maps, logits = self.networks[0](inputs)
        heads = [head((features, )) for head, features in zip(self.heads.values(), maps)]
        return heads if logits is None else [*heads, logits]


def read_use(use: Sequence[str | int] | None, heads: HeadFile) -> list[str | int]:
    """Who teaches: 'teacher' and heads of the file, each at most once."""
    known = [*heads.out_indices, TEACHER]
    if use is None:
        return known
    if not isinstance(use, (list, tuple)) or not use or len(set(use)) != len(use) or any(
            item not in known for item in use):
        raise ConfigError(f'use={use!r} should list one or more of {known}, the heads by their out_indices '
                          'and the teacher itself, each once; None for all')
    return list(use)
