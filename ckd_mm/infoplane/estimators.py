"""How much a network's last features tell about the image, I(X;F), and about the label, I(Y;F)."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..flops import forward_flops, network_flops
from ..progress import Progress
from ..validate import check_int, check_number
from .decoder import Decoder


@dataclass(frozen=True)
class EstimatorSettings:
    """
    Args:
        decoder_epochs: passes of the decoder over its part of the images.
        decoder_lr: learning rate of Adam, decayed to 0 by a cosine.
        decoder_batch: images a step.
        decoder_widen: 12 times this many channels inside the decoder.
        fit_fraction: part of the probe images that the decoder learns from; its loss is measured on the rest.
        reconstruct_size: height and width in pixels to which images are averaged down before they are
            reconstructed; default: the image's own (the decoder's work and memory grow with them).
        seed: of the decoder's start, of the split and of the order; the same for every snapshot.
    """
    decoder_epochs: int = 10
    decoder_lr: float = 0.003
    decoder_batch: int = 64
    decoder_widen: int = 1
    fit_fraction: float = 0.8
    reconstruct_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ('decoder_epochs', 'decoder_batch', 'decoder_widen'):
            check_int(f'probe: {name}', getattr(self, name), 1)
        check_number('probe: decoder_lr', self.decoder_lr, above=0)
        if not isinstance(self.fit_fraction, float) or not 0 < self.fit_fraction < 1:
            raise ConfigError(f'probe: fit_fraction={self.fit_fraction!r} should lie between 0 and 1')
        if self.reconstruct_size is not None:
            check_int('probe: reconstruct_size', self.reconstruct_size, 1, ' of pixels')

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass
class ProbeImages:
    """The images on which every snapshot is measured.

    Args:
        pixels: (N, C, H, W), uint8, as the pipeline gives them, before any normalisation.
        labels: (N,), int64.
    """
    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Features:
    """Of the probe images, on the CPU: last maps (N, F, h, w) and predicted labels (N,)."""
    maps: Tensor
    predictions: Tensor


@torch.no_grad()
def extract_features(network: nn.Module, images: ProbeImages, device: torch.device, batch: int = 128,
                     log: Callable[[str], None] = print) -> Features:
    """One pass over the images in eval mode; maps are those of the last convolution, before the neck."""
    network, maps, predictions = network.to(device).eval(), [], []
    progress = Progress(log, 'Probe: features of batch', math.ceil(len(images) / batch))
    for pixels in images.pixels.split(batch):
        inputs = network.data_preprocessor(dict(inputs=pixels), training=False)['inputs']
        stages = network.extract_feat(inputs, stage='backbone')
        last = stages[-1] if isinstance(stages, (tuple, list)) else stages
        if not isinstance(last, Tensor) or last.dim() != 4:
            raise ConfigError(f'the last output of {type(network.backbone).__name__} is no feature map (N, '
                              'C, H, W), so images cannot be reconstructed from it; use a selector that '
                              'needs no information plane')
        logits = network.head(network.neck(stages) if network.with_neck else stages)
        maps.append(last.float().cpu())
        predictions.append(logits.argmax(dim=1).cpu())
        progress.step()
    return Features(torch.cat(maps), torch.cat(predictions))


def information_y(predictions: Tensor, labels: Tensor) -> float:
    """I(Y;F) as the papers measure it: accuracy, 0 to 1."""
    return (predictions == labels).double().mean().item()


def information_x(maps: Tensor, images: ProbeImages, settings: EstimatorSettings, device: torch.device,
                  log: Callable[[str], None] = print) -> dict[str, float]:
    """I(X;F) up to the constant H(X): how much better than without features a decoder reconstructs the image.

    H(X|F) is at most the binary cross-entropy R of any decoder (InfoPro, Eq. 8), so I(X;F) >= H(X) - R. The
    loss of the mean image stands for H(X). Everything random comes from ``settings.seed``, so two sets of
    features are compared with the same images, order and start.

    Returns:
        ``reconstruction_loss``, ``baseline_loss`` and their difference ``information_x``, nats per pixel and
        channel.
    """
    targets = images.pixels.float() / 255
    targets = F.adaptive_avg_pool2d(targets, target_size(images, settings))
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(images), generator=generator)
    cut = round(settings.fit_fraction * len(images))
    fit, rest = order[:cut], order[cut:]
    if len(fit) < 2 or len(rest) < 1:
        raise ConfigError(f'probe: {len(images)} images are too few to fit and measure a decoder with '
                          f'fit_fraction={settings.fit_fraction}')
    decoder = fitted_decoder(maps, targets, fit, settings, generator, device, log)
    reconstruction = _reconstruction_loss(decoder.eval(), maps, targets, rest, settings.decoder_batch, device)
    mean_image = targets[fit].mean(dim=0, keepdim=True).expand(len(rest), -1, -1, -1)
    baseline = F.binary_cross_entropy(mean_image.clamp(1e-4, 1 - 1e-4), targets[rest]).item()
    return dict(reconstruction_loss=reconstruction, baseline_loss=baseline,
                information_x=baseline - reconstruction)


def target_size(images: ProbeImages, settings: EstimatorSettings) -> tuple[int, int]:
    """Height and width of the images that are reconstructed."""
    size, wanted = tuple(images.pixels.shape[-2:]), settings.reconstruct_size
    return (wanted, wanted) if wanted is not None and wanted < min(size) else size


def fitted_decoder(maps: Tensor, targets: Tensor, rows: Tensor, settings: EstimatorSettings,
                   generator: torch.Generator, device: torch.device, log: Callable[[str], None]) -> Decoder:
    """A decoder that was trained to make ``targets`` of ``maps``, of these rows alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        decoder = Decoder(maps.shape[1], targets.shape[1], targets.shape[-2:], settings.decoder_widen)
    decoder = decoder.to(device).train()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=settings.decoder_lr)
    steps = settings.decoder_epochs * math.ceil(len(rows) / settings.decoder_batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    progress = Progress(log, 'Probe: decoder step', steps)
    for _ in range(settings.decoder_epochs):
        epoch = rows[torch.randperm(len(rows), generator=generator)]
        for batch in epoch.split(settings.decoder_batch):
            if len(batch) > 1:  # BatchNorm
                loss = F.binary_cross_entropy_with_logits(decoder(maps[batch].to(device)),
                                                          targets[batch].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            progress.step()
    return decoder


@torch.no_grad()
def _reconstruction_loss(decoder: Decoder, maps: Tensor, targets: Tensor, rows: Tensor, batch: int,
                         device: torch.device) -> float:
    total = 0.0
    for part in rows.split(batch):
        loss = F.binary_cross_entropy_with_logits(decoder(maps[part].to(device)), targets[part].to(device))
        total += loss.item() * len(part)
    return total / len(rows)


def estimate_point(network: nn.Module, images: ProbeImages, settings: EstimatorSettings, device: torch.device,
                   log: Callable[[str], None] = print) -> dict[str, float]:
    """A network's place on the information plane. The caller's random state is left as it was."""
    features = extract_features(network, images, device, log=log)
    found = information_x(features.maps, images, settings, device, log)
    forwards = len(images) + _decoder_flops(features.maps, images, settings) / max(
        network_flops(network, images.pixels), 1)
    return dict(found, information_y=information_y(features.predictions, images.labels),
                teacher_forwards=forwards)


def _decoder_flops(maps: Tensor, images: ProbeImages, settings: EstimatorSettings) -> float:
    """Of fitting and measuring; a backward pass counts as two forward passes."""
    with torch.random.fork_rng(devices=[]):
        decoder = Decoder(maps.shape[1], images.pixels.shape[1], target_size(images, settings),
                          settings.decoder_widen).eval()
    passes = 3 * settings.fit_fraction * settings.decoder_epochs + 1 - settings.fit_fraction
    return forward_flops(decoder, maps[:1]) * len(images) * passes
