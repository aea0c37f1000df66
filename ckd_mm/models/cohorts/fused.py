"""Convolution and BatchNorm of a frozen network as one convolution."""

from typing import Callable, Dict, List, Tuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ...compat import exact_convolutions

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TOLERANCE = 1e-4  # of the largest output, float32; rounding alone was below 1e-6 in the networks that were tried


def has_hooks(network: nn.Module) -> bool:
    """Whether somebody looks at what is computed inside."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def fuse_conv_bn(network: nn.Module, images: Tensor) -> Tuple[int, int]:
    r"""Let convolutions do what the BatchNorm layers behind them do, in place: with running mean :math:`\mu` and variance
    :math:`\sigma^2`, :math:`\gamma (W x + b - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta = W' x + b'` where
    :math:`W' = W \gamma / \sqrt{\sigma^2 + \epsilon}`. A BatchNorm becomes an ``nn.Identity`` of the same name. Outputs stay what they
    were but for rounding; outputs of the convolutions themselves do not.

    Which BatchNorm follows which convolution is not guessed from names or the order of modules, which is wrong for networks that
    normalise first (pre-activation ResNets, WideResNet, DenseNet): the network runs once, and pairs are those where the tensor that one
    returned is the one that the other is given. Then it runs again and must still give its outputs. If it does not, since something else
    reads what a convolution returned (the first of a WideResNet whose shortcut begins there), pairs are tried one by one.

    Args:
        network: in eval mode, for good, outside of autocast; called with images it returns tensors, or tuples or lists of them.
        images: a few, (N, 3, H, W), where the network is.

    Returns:
        How many BatchNorm layers are gone, and how many stay though they follow a convolution.
    """
    with torch.no_grad(), exact_convolutions(images.device.type):  # rounding to ten bits would hide a mistake
        pairs, before = _pairs_and_outputs(network, images)
        undo = [_fuse(network, *pair) for pair in pairs]
        if not pairs or agree(before, tensors(network(images))):
            return len(pairs), 0
        for put_back in undo:
            put_back()
        fused = 0
        for pair in pairs:
            put_back = _fuse(network, *pair)
            if agree(before, tensors(network(images))):
                fused += 1
            else:
                put_back()
        return fused, len(pairs) - fused


def _pairs_and_outputs(network: nn.Module, images: Tensor) -> Tuple[List[Tuple[nn.Module, nn.Module]], List[Tensor]]:
    """Each convolution with the BatchNorm that is given its output, if both are called once; and what the network returns."""
    returned: Dict[int, Tuple[nn.Module, Tensor]] = {}  # with the tensor itself, or another might get its id
    calls: Dict[nn.Module, int] = {}
    pairs, handles = [], []

    def convolved(module: nn.Module, _inputs, output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        returned[id(output)] = module, output

    def normalised(module: nn.Module, inputs) -> None:
        calls[module] = calls.get(module, 0) + 1
        if id(inputs[0]) in returned:
            pairs.append((returned[id(inputs[0])][0], module))

    for module in network.modules():
        if isinstance(module, CONVOLUTIONS) and isinstance(module._parameters.get('weight'), nn.Parameter):  # not made of other weights
            handles.append(module.register_forward_hook(convolved))
        elif isinstance(module, _BatchNorm) and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(normalised))
    try:
        outputs = tensors(network(images))
    finally:
        for handle in handles:
            handle.remove()
    return [pair for pair in pairs if all(calls[module] == 1 for module in pair)], outputs


def _fuse(network: nn.Module, convolution: nn.Module, norm: nn.Module) -> Callable[[], None]:
    """Returns what puts everything back."""
    before = convolution.weight, convolution.bias
    places = [(parent, name) for parent in network.modules() for name, child in parent._modules.items() if child is norm]
    convolution.weight, convolution.bias = _fused_weights(convolution, norm)
    for parent, name in places:
        parent._modules[name] = nn.Identity()

    def put_back() -> None:
        convolution.weight, convolution.bias = before
        for parent, name in places:
            parent._modules[name] = norm

    return put_back


def _fused_weights(convolution: nn.Module, norm: nn.Module) -> Tuple[nn.Parameter, nn.Parameter]:
    """In double precision, so that they are rounded once."""

    def exact(tensor):
        return None if tensor is None else tensor.detach().double()

    weight, bias = fuse_conv_bn_weights(exact(convolution.weight), exact(convolution.bias), exact(norm.running_mean),
                                        exact(norm.running_var), norm.eps, exact(norm.weight), exact(norm.bias))
    return tuple(nn.Parameter(part.detach().to(convolution.weight.dtype), requires_grad=False) for part in (weight, bias))


def agree(before: List[Tensor], after: List[Tensor]) -> bool:
    """Whether outputs are the same but for rounding. A NaN agrees with nothing."""
    return all(((left - right).abs().max() <= TOLERANCE * left.abs().max()).item() for left, right in zip(before, after))


def tensors(outputs) -> List[Tensor]:
    """What a network returns, without its tuples and lists; None counts as nothing."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return [tensor for item in outputs or () for tensor in tensors(item)]
