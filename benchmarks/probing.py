"""What it costs to probe one checkpoint, beside the epoch that made it."""

import torch
from measure import Contender, Pair, paired_ratios
from steps import mmengine_contender
from workload import Workload, build

from ckd_mm.infoplane import ProbeImages, ProbeSettings, estimate_point

HELD_OUT = 0.1  # of the training set, the probe's default


def probe_vs_epoch(work: Workload) -> list[float]:
    """:func:`estimate_point` on the held-out tenth of a training set / one epoch of the teacher on the other
    nine tenths.

    Our side makes one pass for the features, fits the decoder and measures it, all as by default (on
    224-pixel images with the ``reconstruct_size`` of configs/ckd/r34_r18_imagenet.py). Of the epoch a ninth
    is timed, mmpretrain's ``train_step`` on as many images as are held out, and counted nine times: its
    batches are all alike. A tenth of the usual repetitions: these take ten times as long as a step and
    scatter less.
    """
    count = 1024 if work.device.type == 'cuda' else 256
    pixels = torch.randint(256, (count, *work.images.shape[1:]), dtype=torch.uint8)
    images = ProbeImages(pixels, torch.randint(work.teacher['head']['num_classes'], (count, )))
    settings = ProbeSettings(reconstruct_size=56 if work.preset.startswith('imagenet') else None)

    def make_pair() -> Pair:
        network = build(work.teacher).requires_grad_(False)
        training = mmengine_contender(build(work.teacher), work)
        probe = Contender(lambda _: estimate_point(network, images, settings, work.device, lambda line: None),
                          lambda: None)
        ninth = Contender(lambda batches: [training.step(batch) for batch in batches],
                          lambda: [training.batch() for _ in range(count // len(work.labels))])
        return probe, ninth

    ratios = paired_ratios(make_pair, max(1, work.repeats // 10), 1, work.device)
    return [ratio * HELD_OUT / (1 - HELD_OUT) for ratio in ratios]
