"""Several snapshots' decoders at once, beside one after another: whether the probe would gain by it.

    python benchmarks/decoders.py [--device cpu|cuda] [--decoders 4] [--repeats 40]

The probe fits a small decoder on the features of each snapshot (`ckd_mm/infoplane/`). Here one step of Adam on the decoders of several
snapshots is taken in three ways, whose losses must agree: one after another, as the probe does; vmapped (``torch.func``); and written by
hand with grouped convolutions. Not in the probe: on a CPU it is slower, see docs/performance.md.
"""

import argparse
import copy
import os
import sys
from typing import Callable, List, Tuple

os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from measure import Contender, paired_ratios, summary  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.func import functional_call, stack_module_state, vmap  # noqa: E402

from ckd_mm.infoplane import Decoder, EstimatorSettings  # noqa: E402
from ckd_mm.infoplane.resized_convolution import resize_by_tap  # noqa: E402

SHAPES = {  # features (F, h, w) and image pixels of networks that the configs train
    'ResNet-34, 32 px': (512, 4, 32), 'ResNet-110, 32 px': (64, 8, 32), 'WRN-40-2, 32 px': (128, 8, 32),
    "the demo's, 8 px": (16, 4, 8), 'ResNet-34, 224 px to 56': (512, 7, 56)}


class GroupedDecoders(nn.Module):
    """Decoders of one shape side by side: their channels are groups of one convolution, and each channel has a BatchNorm of its own
    anyway."""

    def __init__(self, decoders: List[Decoder]) -> None:
        super().__init__()
        self.size = decoders[0].size
        first, last = ([decoder.layers[index] for decoder in decoders] for index in (0, 3))
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in first]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in first]))
        self.norm = nn.BatchNorm2d(self.bias.numel())
        self.last = nn.Conv2d(self.bias.numel(), sum(layer.out_channels for layer in last), 3, padding=1, groups=len(decoders))
        self.last.load_state_dict({name: torch.cat([getattr(layer, name).detach() for layer in last]) for name in ('weight', 'bias')})

    def forward(self, maps: Tensor) -> Tensor:
        """Features (M, N, F, h, w) to logits of pixels (M, N, C, H, W); the first convolution is ``resized_convolution``."""
        rows, columns = (resize_by_tap(small, large, 3, maps) for small, large in zip(maps.shape[-2:], self.size))
        mixed = torch.einsum('mofij,mnfhw->mnoihwj', self.weight, maps)
        wide = torch.einsum('mnoihwj,Wwj->mnoihW', mixed, columns)
        hidden = torch.einsum('mnoihW,Hhi->nmoHW', wide, rows) + self.bias[:, :, None, None]
        return self.last(F.relu(self.norm(hidden.flatten(1, 2)))).unflatten(1, (len(self.weight), -1)).transpose(0, 1)


def loss_of(logits: Tensor, pixels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, pixels)


def one_after_another(decoders: List[Decoder], pixels: Tensor) -> Callable[[Tensor], Tensor]:
    optimizers = [adam(decoder.parameters()) for decoder in decoders]

    def step(maps: Tensor) -> Tensor:
        losses = []
        for decoder, optimizer, own in zip(decoders, optimizers, maps):
            losses.append(loss_of(decoder(own), pixels))
            take(optimizer, losses[-1])
        return torch.stack(losses).detach().sum()

    return step


def grouped(decoders: List[Decoder], pixels: Tensor) -> Callable[[Tensor], Tensor]:
    together = GroupedDecoders(decoders).to(pixels.device)
    optimizer = adam(together.parameters())

    def step(maps: Tensor) -> Tensor:
        logits = together(maps)  # all have as many pixels, so the sum of their means is M times the mean of all
        loss = loss_of(logits, pixels.expand_as(logits)) * len(maps)
        take(optimizer, loss)
        return loss.detach()

    return step


def vmapped(decoders: List[Decoder], pixels: Tensor) -> Callable[[Tensor], Tensor]:
    parameters, buffers = stack_module_state(decoders)
    shape = copy.deepcopy(decoders[0]).to('meta')
    optimizer = adam(parameters.values())
    losses = vmap(lambda own, state, maps: loss_of(functional_call(shape, (own, state), (maps, )), pixels))

    def step(maps: Tensor) -> Tensor:
        loss = losses(parameters, buffers, maps).sum()
        take(optimizer, loss)
        return loss.detach()

    return step


def adam(parameters) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=EstimatorSettings.decoder_lr)


def take(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def ratios(shape: Tuple[int, int, int], count: int, repeats: int, device: torch.device, way: Callable) -> List[float]:
    """Time of ``way`` / one after another, on ``count`` decoders. Raises RuntimeError unless their losses agree."""
    features, small, large = shape
    torch.manual_seed(0)
    batch = EstimatorSettings.decoder_batch
    maps = torch.randn(count, batch, features, small, small, device=device).relu()
    pixels = torch.rand(batch, 3, large, large, device=device)
    decoders = [Decoder(features, 3, (large, large)).to(device).train() for _ in range(count)]

    def make_pair() -> Tuple[Contender, Contender]:
        return tuple(Contender(build(copy.deepcopy(decoders), pixels), lambda: maps) for build in (way, one_after_another))

    return paired_ratios(make_pair, repeats, 1, device, tolerance=1e-5)


def main() -> int:
    args = parse_args()
    print(f'{args.decoders} decoders at once / one after another, a training step')
    for name, shape in SHAPES.items():
        for way in (grouped, vmapped):
            found = summary(ratios(shape, args.decoders, args.repeats, torch.device(args.device), way))
            print(f'{name:<26} {way.__name__:<8} {found["median"]:.2f} ({found["low"]:.2f} to {found["high"]:.2f})', flush=True)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Several snapshots' decoders at once / one after another.")
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--decoders', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=40)
    return parser.parse_args()


if __name__ == '__main__':
    sys.exit(main())
