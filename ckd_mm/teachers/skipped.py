"""Ending a backbone's pass at the last map that is used."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError


class Skipped(nn.Module):
    """Stands where a part of a network was that nobody needs. Returns one image of its input, a copy:
    whatever is done with it
    afterwards, also in place, costs nothing and changes no map."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, inputs: Tensor, *args, **kwargs) -> Tensor:
        return inputs[:1].clone()

    def register_forward_hook(self, *args, **kwargs):
        raise ConfigError(f'{self.name} of the teacher does not run, since only heads before it are used; a '
                          'distiller cannot read it. '
                          "Let 'teacher' be among those that teach (`use`), or read an earlier layer")

    register_forward_pre_hook = register_forward_hook


def skip_the_rest(backbone: nn.Module, outputs: Callable[[Tensor], Sequence[Tensor]], images: Tensor) -> bool:
    """Put :class:`Skipped` where modules run that ``outputs`` does not depend on.

    Modules that the backbone itself calls are taken in the order of their first calls; how many of them are
    needed is found by bisection, and each try is run: the outputs must stay what they are, bit for bit.

    Args:
        outputs: runs the backbone on images and returns what is needed of it.

    Returns:
        False if nothing could be skipped.
    """
    with torch.no_grad():
        expected = [output.clone() for output in outputs(images)]
        called = _called_modules(backbone, lambda: outputs(images))
        fewest, most = 0, len(called)  # of the modules that are needed
        while fewest < most:
            tried = (fewest + most) // 2
            if _same_without(backbone, called[tried:], outputs, images, expected):
                most = tried
            else:
                fewest = tried + 1
    for name in called[most:]:
        _replace(backbone, name, Skipped(name))
    return most < len(called)


def _called_modules(backbone: nn.Module, run: Callable[[], object]) -> list[str]:
    """Names of the modules that the forward of ``backbone`` calls itself, in the order of their first
    calls."""
    names: dict[nn.Module, str] = {module: name for name, module in backbone.named_modules() if name}
    called: list[str] = []
    inside: list[nn.Module] = []
    handles = []

    def enter(module: nn.Module, _inputs) -> None:
        if not inside and names[module] not in called:
            called.append(names[module])
        inside.append(module)

    def leave(_module: nn.Module, _inputs, _output) -> None:
        inside.pop()

    for module in names:
        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return called


def _same_without(backbone: nn.Module, skipped: Sequence[str], outputs: Callable[[Tensor], Sequence[Tensor]],
                  images: Tensor, expected: Sequence[Tensor]) -> bool:
    modules = {name: backbone.get_submodule(name) for name in skipped}
    for name in skipped:
        _replace(backbone, name, Skipped(name))
    try:
        return all(torch.equal(left, right) for left, right in zip(outputs(images), expected))
    except Exception:  # what stumbles without a module needs it
        return False
    finally:
        for name, module in modules.items():
            _replace(backbone, name, module)


def _replace(backbone: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition('.')
    backbone.get_submodule(parent)._modules[child] = module
