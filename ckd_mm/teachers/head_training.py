"""Training classifier heads on a frozen teacher (DIH, Sec. 3.2)."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..registry import MODELS
from .base_cohort import ensemble_predictions, of_mmpretrain
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
    they learn what each would alone.

    Args:
        snapshot, model: the teacher, see :func:`find_snapshot`.
        out_indices: outputs of its backbone to mount heads on, in the backbone's own counting.
        input_shape: of the images as the backbone gets them, (3, H, W).
        kind, grid: see :class:`IntermediateHead`; default: :func:`default_kind` of the images.
        data_preprocessor: default: the teacher's. With another the teacher still gets its own statistics.

    Raises:
        ConfigError: naming the setting.
        SnapshotError: the snapshot cannot be used.
    """

    def __init__(self, snapshot: SnapshotLike, out_indices: Sequence[int], input_shape: Sequence[int],
                 kind: str | None = None, grid: int = GRID, model: dict | None = None,
                 data_preprocessor: dict | nn.Module | None = None) -> None:
        teacher = find_snapshot(snapshot, model)
        network = FeatureNetwork(teacher, out_indices, input_shape)
        super().__init__(of_mmpretrain(data_preprocessor) or copy.deepcopy(network.data_preprocessor))
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

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """``loss``: a cross-entropy a head; ``tensor``: logits (k + 1, N, C), heads from shallow to deep and
        the teacher; ``predict``: data samples with the mean of their probabilities (Sec. 4.4)."""
        if next(self.network.parameters()).device != inputs.device:
            self.network.to(inputs.device)
        if any(module.training for module in self.network.modules()):  # set on a part, or by force
            self.network.train(False)
        with torch.no_grad():
            maps, teacher = self.network(inputs)
        features = [(features, ) for features in maps]
        if mode == 'loss':
            return {f'loss_head_{index}': head.loss(given, data_samples)['loss']
                    for (index, head), given in zip(self.heads.items(), features)}
        logits = torch.stack([*(head(given) for head, given in zip(self.heads.values(), features)), teacher])
        return ensemble_predictions(logits, data_samples) if mode == 'predict' else logits

    def write(self, path: Path) -> HeadFile:
        """The file for :class:`DIHTeacher`."""
        return write_heads(path, self.heads, self.network, self.snapshot)
