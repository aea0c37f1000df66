"""What it costs to look at one checkpoint, beside the epoch that made it and beside one forward pass."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F
from measure import Contender, Pair, paired_ratios
from steps import mmengine_contender
from torch import Tensor, nn
from workload import Workload, build, normaliser

from ckd_mm.infoplane import EstimatorSettings, ProbeImages, estimate_point
from ckd_mm.selection import SelectionContext, build_selector, score_selector

HELD_OUT = 0.1  # of the training set, the probe's default
BATCH = 128  # images a forward pass, as the selectors take them


def probe_vs_epoch(work: Workload) -> list[float]:
    """:func:`estimate_point` on the held-out tenth of a training set / one epoch of the teacher on the other
    nine tenths.

    Our side makes one pass for the features, fits the decoder and measures it, all as by default (on
    224-pixel images with the ``reconstruct_size`` of configs/ckd/r34_r18_imagenet.py). Of the epoch a ninth
    is timed, mmpretrain's ``train_step`` on as many images as are held out, and counted nine times: its
    batches are all alike.
    """
    count = 1024 if work.device.type == 'cuda' else 256
    images = held_out_images(work, count)
    settings = EstimatorSettings(reconstruct_size=56 if work.preset.startswith('imagenet') else None)

    def make_pair() -> Pair:
        network, training = build(work.teacher).requires_grad_(False), mmengine_contender(
            build(work.teacher), work)
        probe = Contender(lambda _: estimate_point(network, images, settings, work.device, quiet),
                          lambda: None)
        ninth = Contender(lambda batches: [training.step(batch) for batch in batches],
                          lambda: [training.batch() for _ in range(count // len(work.labels))])
        return probe, ninth

    ratios = paired_ratios(make_pair, fewer(work), 1, work.device)
    return [ratio * HELD_OUT / (1 - HELD_OUT) for ratio in ratios]


def cmi_vs_forward(work: Workload) -> list[float]:
    """``score`` of the selector ``cmi`` / :func:`hand_written_score`."""
    return score_vs_forward(work, 'cmi', hand_written_cmi)


def calibration_vs_forward(work: Workload) -> list[float]:
    """``score`` of the selector ``calibration`` / :func:`hand_written_score`."""
    return score_vs_forward(work, 'calibration', lambda logits, labels: -F.cross_entropy(logits, labels))


def score_vs_forward(work: Workload, name: str, measure: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    """On a network in memory: reading a checkpoint is no part of it on either side."""
    images = held_out_images(work, 4096 if work.device.type == 'cuda' else 512)
    selector, context = build_selector(name), SelectionContext(probe=SimpleNamespace(images=images),
                                                               log=quiet)

    def make_pair() -> Pair:
        network = build(work.teacher).to(work.device).eval().requires_grad_(False)
        ours = Contender(lambda _: torch.tensor(selector.score(BuiltSnapshot(network), context)['score']),
                         lambda: None)
        return ours, Contender(hand_written_score(network, images, measure, work), lambda: None)

    with mock.patch.object(score_selector, 'get_device',
                           lambda: str(work.device)):  # it would take the GPU that --device cpu leaves
        return paired_ratios(make_pair, fewer(work), 1, work.device, tolerance=1e-3)


def hand_written_score(network: nn.Module, images: ProbeImages, measure: Callable[[Tensor, Tensor], Tensor],
                       work: Workload) -> Callable[[None], Tensor]:
    """The floor: a forward pass over the same batches as one writes it with torch alone, and the number that
    is made of it."""
    normalise = normaliser(work.teacher, work.device)

    @torch.no_grad()
    def step(_: None) -> Tensor:
        logits = [network(normalise(pixels.to(work.device))) for pixels in images.pixels.split(BATCH)]
        return measure(torch.cat(logits).cpu().double(), images.labels)

    return step


def hand_written_cmi(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean divergence of the predictions from the mean prediction for their class."""
    probs, members = logits.softmax(dim=1), F.one_hot(labels, logits.shape[1]).double()
    means = members.T @ probs / members.sum(dim=0).clamp(min=1)[:, None]
    return F.kl_div((members @ means).log(), probs, reduction='batchmean')


@dataclass(frozen=True)
class BuiltSnapshot:
    """A snapshot whose network has been read."""
    network: nn.Module

    def build(self) -> nn.Module:
        return self.network


def held_out_images(work: Workload, count: int) -> ProbeImages:
    pixels = torch.randint(256, (count, *work.images.shape[1:]), dtype=torch.uint8)
    return ProbeImages(pixels, torch.randint(work.teacher['head']['num_classes'], (count, )))


def fewer(work: Workload) -> int:
    """Repetitions: these take ten times as long as a step and scatter less."""
    return max(1, work.repeats // 10)


def quiet(line: str) -> None:
    pass
