"""How cached targets lie on disk."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..compat import full_precision
from ..errors import ConfigError
from ..losses import SoftTarget


@dataclass(frozen=True)
class Layout:
    r"""One row for each image in each view, ``image + view * images``, whatever the number of teachers.

    In float32 the C log-probabilities are stored bit for bit; in float16 they are rounded (to one part in
    2,048) and scaled so that the probabilities sum to one again. With ``top_k=k`` only the k largest are
    stored, their classes t, and the log of what is left to all others, r, of which each gets the same share:

    .. math:: \hat p_c = p_c \text{ for } c \in t, \quad \hat p_c = r / (C - k) \text{ for } c \notin t, \quad
              r = \sum_{c \notin t} p_c

    Args:
        images, views: N images in K views each.
        classes: C.
        teachers: M, whose common target it is.
        dtype: of the log-probabilities, 'float32' or 'float16'.
        top_k: None to store all.
        spread: whether the target has one (``aggregation='loss'`` of several teachers).

    Raises:
        ConfigError: ``top_k`` does not fit the number of classes.
    """
    images: int
    views: int
    classes: int
    teachers: int = 1
    dtype: str = 'float32'
    top_k: int | None = None
    spread: bool = False

    def __post_init__(self) -> None:
        if self.top_k is not None and not 0 < self.top_k < self.classes:
            raise ConfigError(f'distill.cache.top_k={self.top_k} should be at least 1 and below the number '
                              f'of classes, {self.classes}, or None to keep all')

    @property
    def rows(self) -> int:
        return self.images * self.views

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of each array, by its name."""
        index = np.dtype(np.int16 if self.classes <= np.iinfo(np.int16).max else np.int32)
        columns = self.classes if self.top_k is None else self.top_k + 1  # the last: what is left
        arrays = dict(log_p=((self.rows, columns), np.dtype(self.dtype)), predicted=((self.rows, ), index),
                      checksum=((self.rows, ), np.dtype(np.float32)))
        if self.top_k is not None:
            arrays['top'] = ((self.rows, self.top_k), index)
        if self.spread:
            arrays['spread'] = ((self.rows, ), np.dtype(np.float32))
        return arrays

    @property
    def bytes(self) -> int:
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.arrays.values())

    def encode(self, target: SoftTarget, checksums: Tensor) -> dict[str, np.ndarray]:
        """Rows of the arrays, from a target with ``predicted`` and the checksums of its images."""
        log_p = target.log_p.float()
        found = dict(predicted=target.predicted, checksum=checksums, spread=target.spread)
        if self.top_k is not None:
            largest, found['top'] = log_p.topk(self.top_k, dim=1)
            rest = log_p.scatter(1, found['top'], -math.inf).logsumexp(dim=1, keepdim=True)
            log_p = torch.cat([largest, rest], dim=1)
        # the smallest of its type, not -inf: 0 times the log of 0 would be NaN
        found['log_p'] = log_p.clamp_min(torch.finfo(getattr(torch, self.dtype)).min)
        return {name: found[name].cpu().numpy().astype(dtype) for name, (_, dtype) in self.arrays.items()}

    def decode(self, rows: dict[str, np.ndarray], device: str | torch.device = 'cpu') -> SoftTarget:
        """The target of rows of the arrays, in float32, made on the device."""
        given = {name: torch.from_numpy(row).to(device, non_blocking=True) for name, row in rows.items()}
        log_p = given['log_p'].float()
        if self.top_k is not None:
            share = log_p[:, -1:] - math.log(self.classes - self.top_k)
            log_p = share.repeat(1, self.classes).scatter_(1, given['top'].long(), log_p[:, :-1])
        if self.top_k is not None or self.dtype != 'float32':
            log_p = F.log_softmax(log_p, dim=1)
        return SoftTarget(log_p, given.get('spread'), given['predicted'].long())


def image_checksum(inputs: Tensor) -> Tensor:
    r"""A number by which an augmented image is recognised, (N,): with P pixels x and a random sign s for each
    pixel, :math:`\sum_i s_i x_i / \sqrt P`.

    Neighbours have unrelated signs, so the checksum of a mirrored or shifted image differs, by about the root
    mean square of the difference of its pixels; weights that change slowly along a row would hardly notice.

    Args:
        inputs: as the networks get them, (N, 3, H, W) or (N, P).
    """
    pixels = inputs.detach().float().flatten(1)
    with full_precision(pixels.device.type):
        return pixels @ _signs(pixels.shape[1], pixels.device) / math.sqrt(pixels.shape[1])


@functools.lru_cache(maxsize=4)
def _signs(count: int, device: torch.device) -> Tensor:
    """Of a generator whose numbers never change: numpy keeps those of ``RandomState`` (NEP 19)."""
    return torch.from_numpy(np.random.RandomState(0).randint(0, 2, count) * 2 - 1).to(device, torch.float32)
