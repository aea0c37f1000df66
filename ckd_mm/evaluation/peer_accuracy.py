"""Accuracy of the students beside the first, in the same pass over the data."""

from collections.abc import Sequence

from mmpretrain.evaluation import Accuracy

from ..registry import METRICS


@METRICS.register_module()
class PeerAccuracy(Accuracy):
    """mmpretrain's ``Accuracy``, ``peer/top1``, of a peer in :class:`ckd_mm.students.DeepMutualLearning`,
    counted from 0; the first student is none. ``settings`` are those of ``Accuracy``, such as ``topk``."""
    default_prefix = 'peer'

    def __init__(self, peer: int = 0, **settings) -> None:
        super().__init__(**settings)
        self.peer = peer

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        samples = [dict(sample, pred_score=sample['peer_scores'][self.peer]) for sample in data_samples]
        super().process(data_batch, samples)
