"""Training classifier heads on a frozen teacher (DIH, Sec. 3.2)."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..registry import MODELS
from .base_cohort import head_name, with_predictions
from .dih_teacher import TEACHER
from .feature_network import FeatureNetwork
from .head_file import HeadFile, write_heads
from .intermediate_head import GRID, IntermediateHead, default_kind
from .outside import Outside
from .snapshot_ensemble import SnapshotLike, find_snapshot


@MODELS.register_module()
class HeadTraining(BaseModel):
    """k heads learn together, each by its own cross-entropy, from the feature maps of one frozen network.

    One forward pass of the backbone, in eval mode and without gradients, serves them all. It lives outside
    the module tree: optimizer, DDP and state dict see the heads alone. Heads share no weight, so together
    they learn what each would alone. :meth:`write` leaves the file for :class:`ckd_mm.teachers.DIHTeacher`.

    Args:
        snapshot: the teacher, as :func:`ckd_mm.teachers.snapshot_ensemble.find_snapshot` takes it.
        out_indices: outputs of its backbone to mount heads on, in the backbone's own counting.
        input_shape: of the images as the backbone gets them, (3, H, W).
        kind: ``flatten``, ``pool`` or None: by the size of the images; see
            :class:`ckd_mm.teachers.IntermediateHead`.
        grid: side of the grid of ``pool``.
        model: config of the network, for snapshots that do not say it.
        data_preprocessor: of the images; default: the teacher's. With another the teacher still gets its own
            input statistics.

    Raises:
        ConfigError: naming the setting.
        SnapshotError: the snapshot cannot be used.
    """

    def __init__(self, snapshot: SnapshotLike, out_indices: Sequence[int], input_shape: Sequence[int],
                 kind: str | None = None, grid: int = GRID, model: dict | None = None,
                 data_preprocessor=None) -> None:
        teacher = find_snapshot(snapshot, model)
        network = FeatureNetwork(teacher, out_indices, input_shape, model)
        if isinstance(data_preprocessor, dict):
            data_preprocessor = dict(dict(type='mmpretrain.ClsDataPreprocessor'), **data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor or copy.deepcopy(network.data_preprocessor))
        network.expect_inputs_of(self.data_preprocessor)
        self.snapshot = teacher
        self.outside = Outside(network)
        kind = kind or default_kind(network.input_shape)
        self.heads = nn.ModuleDict({str(index): IntermediateHead(network.num_classes, shape, kind, grid)
                                    for index, shape in network.shapes.items()})

    @property
    def network(self) -> FeatureNetwork:
        """The frozen teacher."""
        return self.outside.cohort

    @property
    def backbone(self) -> nn.Module:
        """The teacher's, where ``compile`` looks for one."""
        return self.network.backbone

    @property
    def member_names(self) -> list[str]:
        """In the order of the logits."""
        return [head_name(int(index)) for index in self.heads] + [TEACHER]

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """``loss``: a cross-entropy a head; ``tensor``: logits (k + 1, N, C), heads from shallow to deep and
        the teacher; ``predict``: data samples with the mean of their probabilities, the ensemble of Sec.
        4.4."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        logits = self.logits(inputs)
        if mode == 'tensor':
            return logits
        return with_predictions(logits.float().softmax(dim=2).mean(dim=0), data_samples)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        maps, _ = self._maps_and_logits(inputs)
        return {f'loss_head_{index}': head.loss((found, ), data_samples)['loss']
                for (index, head), found in zip(self.heads.items(), maps)}

    def logits(self, inputs: Tensor) -> Tensor:
        maps, logits = self._maps_and_logits(inputs)
        return torch.stack([head((found, )) for head, found in zip(self.heads.values(), maps)] + [logits])

    def _maps_and_logits(self, inputs: Tensor):
        if next(self.network.parameters()).device != inputs.device:
            self.network.to(inputs.device)
        if any(module.training for module in self.network.modules()):  # someone reached into the teacher
            self.network.train(False)
        with torch.no_grad():
            return self.network(inputs)

    def write(self, path: Path, extra: dict[str, Any] | None = None) -> HeadFile:
        """The trained heads as a file, see :func:`ckd_mm.teachers.write_heads`."""
        return write_heads(path, self.heads, self.network, self.snapshot, extra)
