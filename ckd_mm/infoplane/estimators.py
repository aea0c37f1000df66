"""How much a network's last features tell about the image, I(X;F), and about the label, I(Y;F)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..flops import forward_flops, network_flops
from ..progress import Progress
from .decoder import new_decoder
from .layers import feature_layer, on_output
from .settings import ProbeSettings


@dataclass
class ProbeImages:
    """
    Args:
        pixels: (N, C, H, W), uint8, as the pipeline gives them, before any normalisation.
        labels: (N,), int64.
    """
    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Features(NamedTuple):
    """On the CPU: maps (N, F, h, w), or vectors (N, F), of a layer, and predicted labels (N,)."""
    maps: Tensor
    predictions: Tensor
    layer: str


@torch.no_grad()
def extract_features(network: nn.Module, images: ProbeImages, device: torch.device, batch: int = 128,
                     log: Callable[[str], None] = print, layer: str | None = None) -> Features:
    """One pass in eval mode.

    Args:
        layer: path of the module whose output the features are; by default :func:`feature_layer` finds it.

    Raises:
        ConfigError: there is none.
    """
    network, maps, predictions = network.to(device).eval(), [], []
    inputs = _inputs(network, images.pixels[:2])
    found = feature_layer(network, inputs, layer)
    progress = Progress(log, f'Probe: features of {found.path or "the network"}, batch',
                        math.ceil(len(images) / batch))
    called: list[Tensor] = []

    def keep(_: str, output: Any) -> None:
        called.append(found.features(output, inputs).float().clone())  # what follows may work in place

    with on_output({found.path: network.get_submodule(found.path)}, keep):
        for pixels in images.pixels.split(batch):
            inputs = _inputs(network, pixels)
            logits = network(inputs, mode='tensor')
            maps.append(called[-1].cpu())
            predictions.append(logits.argmax(dim=1).cpu())
            called.clear()
            progress.step()
    return Features(torch.cat(maps), torch.cat(predictions), found.path)


def _inputs(network: nn.Module, pixels: Tensor) -> Tensor:
    return network.data_preprocessor(dict(inputs=pixels), training=False)['inputs']


def information_y(predictions: Tensor, labels: Tensor) -> float:
    """I(Y;F) as the papers measure it: accuracy, 0 to 1."""
    return (predictions == labels).double().mean().item()


def information_x(maps: Tensor, images: ProbeImages, settings: ProbeSettings, device: torch.device,
                  log: Callable[[str], None] = print) -> dict[str, float]:
    """I(X;F) up to the constant H(X): how much better than without features a decoder reconstructs the image.

    H(X|F) is at most the binary cross-entropy R of any decoder (InfoPro, Eq. 8), so I(X;F) >= H(X) - R. The
    loss of the mean image stands for H(X). Everything random comes from ``settings.seed``, so two sets of
    features are compared with the same images, order and initial weights.

    Returns:
        ``reconstruction_loss``, ``baseline_loss`` and their difference ``information_x``, nats per pixel and
        channel.
    """
    targets = F.adaptive_avg_pool2d(images.pixels.float() / 255, target_size(images, settings))
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(images), generator=generator)
    cut = round(settings.fit_fraction * len(images))
    fit, rest = order[:cut], order[cut:]
    if len(fit) < 2 or len(rest) < 1:
        raise ConfigError(f'probe: {len(images)} images are too few to fit and measure a decoder with '
                          f'fit_fraction={settings.fit_fraction}')
    decoder = _fitted_decoder(maps, targets, fit, settings, generator, device, log).eval()
    with torch.no_grad():
        total = sum(_loss(decoder, maps, targets, batch, device).item() * len(batch)
                    for batch in rest.split(settings.decoder_batch))
    reconstruction = total / len(rest)
    mean_image = targets[fit].mean(dim=0, keepdim=True).expand(len(rest), -1, -1, -1)
    baseline = F.binary_cross_entropy(mean_image.clamp(1e-4, 1 - 1e-4), targets[rest]).item()
    return dict(reconstruction_loss=reconstruction, baseline_loss=baseline,
                information_x=baseline - reconstruction)


def target_size(images: ProbeImages, settings: ProbeSettings) -> tuple[int, int]:
    """Height and width of the images that are reconstructed."""
    size, wanted = tuple(images.pixels.shape[-2:]), settings.reconstruct_size
    return (wanted, wanted) if wanted is not None and wanted < min(size) else size


def _fitted_decoder(maps: Tensor, targets: Tensor, rows: Tensor, settings: ProbeSettings,
                    generator: torch.Generator, device: torch.device,
                    log: Callable[[str], None]) -> nn.Module:
    """A decoder trained to reconstruct these rows of ``targets`` from ``maps``."""
    decoder = new_decoder(maps, targets.shape[1:], settings).to(device).train()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=settings.decoder_lr)
    steps = settings.decoder_epochs * math.ceil(len(rows) / settings.decoder_batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    progress = Progress(log, 'Probe: decoder step', steps)
    for _ in range(settings.decoder_epochs):
        epoch = rows[torch.randperm(len(rows), generator=generator)]
        for batch in epoch.split(settings.decoder_batch):
            if len(batch) > 1:  # BatchNorm
                optimizer.zero_grad()
                _loss(decoder, maps, targets, batch, device).backward()
                optimizer.step()
            schedule.step()
            progress.step()
    return decoder


def _loss(decoder: nn.Module, maps: Tensor, targets: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    return F.binary_cross_entropy_with_logits(decoder(maps[rows].to(device)), targets[rows].to(device))


def estimate_point(network: nn.Module, images: ProbeImages, settings: ProbeSettings, device: torch.device,
                   log: Callable[[str], None] = print) -> dict[str, float]:
    """A network's place on the information plane. The caller's random state is left as it was.

    Returns:
        What :func:`information_x` returns, ``information_y``, and the cost ``teacher_forwards``, in forward
        passes of one image; a backward pass counts as two.
    """
    features = extract_features(network, images, device, log=log, layer=settings.layer)
    values = information_x(features.maps, images, settings, device, log)
    decoder = new_decoder(features.maps, (images.pixels.shape[1], *target_size(images, settings)), settings)
    passes = 3 * settings.fit_fraction * settings.decoder_epochs + 1 - settings.fit_fraction
    decoding = forward_flops(decoder.eval(), features.maps[:1]) * len(images) * passes
    forwards = len(images) + decoding / max(network_flops(network, images.pixels), 1)
    return dict(values, information_y=information_y(features.predictions, images.labels),
                teacher_forwards=forwards)
