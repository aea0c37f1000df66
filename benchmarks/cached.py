"""What a step costs whose targets are cached."""

import copy
import tempfile
from pathlib import Path

import torch
from measure import Contender, Pair, paired_ratios
from mmpretrain.structures import DataSample
from steps import CE_WEIGHT, KD_WEIGHT, TAU, mmengine_contender
from workload import Workload, build

from ckd_mm.losses import soft_target
from ckd_mm.students import CheckpointDistill
from ckd_mm.targets import Layout, TargetWriter
from ckd_mm.targets.layout import image_checksum

VIEWS, TEACHERS = 4, 4
ROWS = 200_000  # 50,000 images in four views


def cached_vs_plain(work: Workload, rows: int = ROWS) -> list[float]:
    """``CheckpointDistill.train_step`` with the targets of four teachers, read for random images in random
    views from files of about ``rows`` rows / ``train_step`` of the mmpretrain classifier."""
    student = build(work.student)
    with tempfile.TemporaryDirectory() as folder:
        layout = write_targets(Path(folder), work, rows)

        def make_pair() -> Pair:
            ours = CheckpointDistill(copy.deepcopy(student), targets=folder,
                                     kd_loss=dict(type='ckd_mm.CohortKDLoss', tau=TAU), ce_weight=CE_WEIGHT,
                                     kd_weight=KD_WEIGHT)
            step = mmengine_contender(ours, work).step
            return (Contender(step, lambda: in_views(work, layout)),
                    mmengine_contender(copy.deepcopy(student), work))

        return paired_ratios(make_pair, work.repeats, work.steps, work.device)


def write_targets(folder: Path, work: Workload, rows: int) -> Layout:
    """Of whole batches of images; they are all the images of the one batch, again and again."""
    size, classes = len(work.images), work.student['head']['num_classes']
    layout = Layout(rows // VIEWS // size * size, VIEWS, classes, TEACHERS)
    writer = TargetWriter(folder, layout, {}, size)
    inputs = build(work.student).data_preprocessor(work.collated(), True)['inputs']
    checksums = image_checksum(inputs)
    for block in writer.prepare():
        for rows in writer.batches_of(block):
            target = soft_target(torch.randn(TEACHERS, size, classes), TAU)
            writer.write(rows.start, target._replace(predicted=target.log_p.argmax(dim=1)), checksums)
        writer.done(block)
    writer.finish()
    return layout


def in_views(work: Workload, layout: Layout) -> dict:
    """The batch, each image under the number of any of those that it stands for."""
    size = len(work.images)
    copies = torch.randint(layout.images // size, (size, )).tolist()
    views = torch.randint(VIEWS, (size, )).tolist()
    samples = [DataSample(metainfo=dict(sample_idx=place + size * number, view=view)).set_gt_label(label)
               for place, (number, view, label) in enumerate(zip(copies, views, work.labels))]
    return dict(inputs=work.images, data_samples=samples)
