"""How well a teacher's gradients at the student agree."""

import time
from typing import Any

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from ..errors import ConfigError
from ..flops import network_flops
from ..registry import SELECTORS
from .score_selector import ScoreSelector
from .selector import whole_number


def gradient_spread(gradients: Tensor, folds: int, smoothing: float) -> Tensor:
    r"""How large gradients are in directions that the others do not have; lower is better.

    The gradients are cut in ``folds`` parts. Of each part i the second moments
    :math:`S_i = mean(g g^T)` are measured with the inverse of the others' second moments of direction:
    :math:`mean_i\, Tr(S_i \tilde S_{-i}^{-1}) / d` with
    :math:`\tilde S_{-i} = (1 - \nu)\, mean(\hat g \hat g^T) + \nu I / d` and :math:`\hat g = g / |g|`.
    Small gradients that agree over the parts are cheap to follow. After the leave-one-out score of "In Good
    GRACEs" (2025), which was made for language models; the form here is ours.

    Args:
        gradients: (n, d), n at least 2 * ``folds``.
        smoothing: nu, above 0 and at most 1.
    """
    size = gradients.shape[1]
    directions = gradients / gradients.norm(dim=1, keepdim=True).clamp(min=torch.finfo(gradients.dtype).tiny)
    part = torch.arange(len(gradients)) % folds
    eye = torch.eye(size, dtype=gradients.dtype)
    total = gradients.new_zeros(())
    for index in range(folds):
        inside, others = gradients[part == index], directions[part != index]
        moments = (1 - smoothing) * others.T @ others / len(others) + smoothing * eye / size
        total = total + torch.linalg.solve(moments, inside.T @ inside / len(inside)).trace() / size
    return total / folds


class CountSketch:
    """A random projection of (length,) to (size,) that keeps inner products on average (Charikar et al.,
    2002); the same for
    the same seed."""

    def __init__(self, length: int, size: int, seed: int, device: Any = 'cpu') -> None:
        generator = torch.Generator().manual_seed(seed)
        self.size = size
        self.bucket = torch.randint(size, (length, ), generator=generator).to(device)
        self.sign = (torch.randint(2, (length, ), generator=generator, dtype=torch.int8) * 2 - 1).to(device)

    def __call__(self, vector: Tensor) -> Tensor:
        return vector.new_zeros(self.size).index_add_(0, self.bucket, vector * self.sign)


@SELECTORS.register_module(name='student_gradient')
class StudentGradientSelector(ScoreSelector):
    """The snapshot whose distillation loss gives *this* student gradients that agree: minus the
    :func:`gradient_spread` of
    small groups of held-out images.

    Args:
        warmup_epochs: the student is first trained alone for so many epochs, once for all snapshots; 0: as
            initialised.
        group_size: images a gradient.
        num_images: at most this many of the held-out images.
        dimensions: gradients are projected to so many by :class:`CountSketch`.
        folds, smoothing: see :func:`gradient_spread`.
    """

    name, unit = 'student_gradient', 'negated spread'
    needs_student = True
    needs_kd_loss = True

    def __init__(self, warmup_epochs: int = 1, group_size: int = 8, num_images: int = 2048,
                 dimensions: int = 256, folds: int = 4, smoothing: float = 0.1) -> None:
        self.warmup_epochs = whole_number('warmup_epochs', warmup_epochs, 0)
        self.group_size = whole_number('group_size', group_size)
        self.num_images = whole_number('num_images', num_images)
        self.dimensions = whole_number('dimensions', dimensions)
        self.folds = whole_number('folds', folds, 2)
        if isinstance(smoothing, bool) or not isinstance(smoothing, (int, float)) or not 0 < smoothing <= 1:
            raise ConfigError(f'selector: smoothing={smoothing!r} should be above 0 and at most 1')
        self.smoothing = smoothing
        self._student: nn.Module | None = None
        self._warmup = dict(images=0.0, seconds=0.0)

    def fill(self, todo, table, trajectory, context) -> None:
        groups = min(len(context.probe.images), self.num_images) // self.group_size
        if groups < 2 * self.folds:
            raise ConfigError(f'selector: student_gradient has {groups} groups of {self.group_size} images '
                              'and needs at least '
                              f'{2 * self.folds}; hold out more images (probe.held_out), or make group_size '
                              'smaller')
        started = time.perf_counter()
        self._student, images = context.student.warmed_up(self.warmup_epochs)
        # it serves all snapshots together
        self._warmup = dict(images=images / len(todo), seconds=(time.perf_counter() - started) / len(todo))
        super().fill(todo, table, trajectory, context)

    def score(self, snapshot, context) -> dict[str, Any]:
        device = torch.device(get_device())
        teacher, student = snapshot.build().to(device), self._student.to(device).eval()
        images = context.probe.images
        pixels, labels = images.pixels[:self.num_images], images.labels[:self.num_images]
        parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
        gradients, sketch = [], None
        for start in range(0, len(labels) - self.group_size + 1, self.group_size):
            group = slice(start, start + self.group_size)
            with torch.no_grad():
                wanted = teacher(teacher.data_preprocessor(dict(inputs=pixels[group]), False)['inputs'],
                                 mode='tensor')
            logits = student(student.data_preprocessor(dict(inputs=pixels[group]), False)['inputs'],
                             mode='tensor')
            loss = context.student.loss(logits, wanted, labels[group].to(device))
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            flat = torch.cat([gradient.reshape(-1) for gradient in found if gradient is not None])
            sketch = sketch or CountSketch(len(flat), self.dimensions, 0, flat.device)
            gradients.append(sketch(flat).double().cpu())
        spread = gradient_spread(torch.stack(gradients), self.folds, self.smoothing).item()
        seen = len(gradients) * self.group_size
        relative = context.student.flops / max(network_flops(teacher, pixels), 1)
        return dict(score=-spread,
                    teacher_forwards=seen * (1 + 3 * relative) + 3 * relative * self._warmup['images'],
                    warmup_seconds=self._warmup['seconds'])
