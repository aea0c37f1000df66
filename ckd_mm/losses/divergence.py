"""The Kullback-Leibler divergence of rows that may be almost equal."""

import torch
from torch import Tensor


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""KL(p || q) of each row, in nats, for log-probabilities (..., C).

    It is :math:`\sum_i p_i \log(p_i / q_i) + \sum_i (q_i - p_i)`. The second sum is 0 but for the rounding of
    both logarithms, which is most of the first where p is almost q: at a high temperature, with many classes.
    Its gradient is left out, so the gradient is that of ``F.kl_div``, bit for bit.
    """
    difference = log_p - log_q
    divergence = (log_p.exp() * difference).sum(dim=-1)
    with torch.no_grad():  # p - q from the larger of both, which overflows nowhere
        share = difference.abs().neg_().expm1_()
        change = torch.maximum(log_p, log_q).exp_().mul_(share).copysign_(difference)
    return divergence - change.sum(dim=-1)
