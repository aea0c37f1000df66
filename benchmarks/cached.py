"""What a step costs whose teachers have been asked before."""

import copy
import tempfile
from pathlib import Path

import torch
from measure import Contender, Pair, paired_ratios
from mmpretrain.structures import DataSample
from steps import CE_WEIGHT, KD_WEIGHT, TAU, mmengine_contender
from torch import Tensor
from workload import Workload, build

from ckd_mm.losses import soft_target
from ckd_mm.students import CheckpointDistill
from ckd_mm.targets import Layout, TargetWriter
from ckd_mm.targets.layout import image_checksum

VIEWS, TEACHERS = 4, 4
ROWS = 200_000  # 50,000 images in four views


def cached_vs_plain(work: Workload, rows: int = ROWS) -> list[float]:
    """``CheckpointDistill.train_step`` with the targets of four teachers read from files, of random images in
    random views / ``train_step`` of the plain mmpretrain classifier.

    Args:
        rows: targets in the files, about, of ``rows / 4`` images in four views each.
    """
    student = build(work.student)
    with tempfile.TemporaryDirectory() as folder:
        layout = write_targets(Path(folder), work, rows)

        def make_pair() -> Pair:
            ours = CheckpointDistill(copy.deepcopy(student),
                                     targets=folder,
                                     kd_loss=dict(type='ckd_mm.CohortKDLoss', tau=TAU),
                                     ce_weight=CE_WEIGHT,
                                     kd_weight=KD_WEIGHT)
            step = mmengine_contender(ours, work).step
            return Contender(step, lambda: in_views(work, layout)), mmengine_contender(
                copy.deepcopy(student), work)

        return paired_ratios(make_pair, work.repeats, work.steps, work.device)


def write_targets(folder: Path, work: Workload, rows: int) -> Layout:
    """Of so many images that there are whole batches of them; they are all the images of the one batch, again
    and again."""
    size, classes = len(work.images), work.student['head']['num_classes']
    layout = Layout(rows // VIEWS // size * size, VIEWS, classes, TEACHERS)
    writer = TargetWriter(folder, layout, {}, size)
    blocks, checksums = writer.prepare(), checksums_of(work)
    for block in blocks:
        places = writer.rows_of(block)
        target = soft_target(torch.randn(TEACHERS, len(places), classes), TAU)
        writer.write(places.start, target._replace(predicted=target.log_p.argmax(dim=1)),
                     checksums.repeat(len(places) // size))
        writer.done(block)
    writer.finish()
    return layout


def checksums_of(work: Workload) -> Tensor:
    data = build(work.student).data_preprocessor(work.collated(), True)
    return image_checksum(data['inputs'])


def in_views(work: Workload, layout: Layout) -> dict:
    """The batch, each image under the name of any of those that it stands for."""
    size = len(work.images)
    copies = layout.images // size
    chosen, views = torch.randint(copies, (size, )).tolist(), torch.randint(VIEWS, (size, )).tolist()
    samples = [DataSample(metainfo=dict(sample_idx=place + size * copy_, view=view)).set_gt_label(label)
               for place, (copy_, view, label) in enumerate(zip(chosen, views, work.labels))]
    return dict(inputs=work.images, data_samples=samples)
