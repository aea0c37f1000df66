"""Changing a frozen network and looking whether it still gives its outputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

# of the largest output, float32; rounding alone was below 1e-6 in the networks that were tried
TOLERANCE = 1e-4


class Trial:
    """What a network returns for a few images before anything in it is changed.

    Args:
        network: in eval mode, for good, outside of autocast; called with images it returns tensors, in
            whatever containers.
        images: a few, (N, 3, H, W), where the network is.

    Raises:
        Exception: of whatever type, if the network cannot be run on them.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self.network, self.images = network, images
        self.expected = self.outputs()
        if not self.expected:
            raise TypeError('it returns no tensors')

    @torch.no_grad()
    def outputs(self) -> list[Tensor]:
        return tensors(self.network(self.images))

    def refuses(self, put_back: Callable[[], None]) -> str | None:
        """Run the network, which has been changed. None if its outputs are the same but for rounding;
        otherwise, and whatever else
        happens meanwhile, the change is undone.

        Returns:
            why it was.
        """
        problem = 'interrupted'
        try:
            problem = None if agree(self.expected, self.outputs()) else 'its outputs would change'
        # networks look into their modules, assert or stumble as each of them likes
        except Exception as error:
            problem = in_a_line(error)
        finally:
            if problem is not None:
                put_back()
        return problem


def trial_images(inputs: Tensor) -> Tensor:
    """Noise, faint and loud, and plain areas, as large as these; always the same, so that two processes, or a
    run and the same run
    resumed, come to the same decision."""
    noise = torch.randn(4, *inputs.shape[1:], generator=torch.Generator().manual_seed(0))
    noise[2] *= 4
    noise[3] = torch.linspace(-3, 3, noise.shape[-1])
    return noise.to(inputs)


def agree(before: list[Tensor], after: list[Tensor]) -> bool:
    """Whether outputs are the same but for rounding. A NaN agrees with nothing."""
    return len(before) == len(after) and all(
        ((left - right).abs().max() <= TOLERANCE * left.abs().max()).item()
        for left, right in zip(before, after))


def tensors(outputs: Any) -> list[Tensor]:
    """What a network returns, without its containers."""
    return [leaf for leaf in tree_flatten(outputs)[0] if isinstance(leaf, Tensor)]


def in_a_line(error: Exception) -> str:
    return f'{type(error).__name__}: {(str(error).splitlines() or ["no detail"])[0]}'
