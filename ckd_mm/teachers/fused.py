"""Convolution and BatchNorm of a frozen network as one convolution."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .trial import Trial

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# 10 find one pair among 1,000; a network that forgives no rounding (graphs of neighbours) should not take
# minutes
MOST_SPLITS = 16
PLAIN = (
    _BatchNorm.forward, nn.SyncBatchNorm.forward)  # those that normalise and do no more (an activation, say)
Pair = tuple[nn.Module, nn.Module]


def fuse_conv_bn(trial: Trial) -> tuple[int, list[str]]:
    r"""Let convolutions of a network do what the BatchNorm layers behind them do, in place: with running mean
    :math:`\mu` and variance
    :math:`\sigma^2`, :math:`\gamma (W x + b - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta = W' x + b'` where
    :math:`W' = W \gamma / \sqrt{\sigma^2 + \epsilon}`. A BatchNorm becomes an ``nn.Identity`` of the same
    name. Outputs stay what they were but for rounding; outputs of the convolutions themselves do not.

    Which BatchNorm follows which convolution is not guessed from names or the order of modules, which is
    wrong for networks that normalise first (pre-activation ResNets, WideResNet, DenseNet): the network runs
    once, and pairs are those where the tensor that one returned is the one that the other is given. Then it
    runs again and must still give its outputs. If it does not, since something else reads what a convolution
    returned (the first of a WideResNet whose shortcut begins there), or stumbles, the two halves of the pairs
    are tried, and so on.

    Returns:
        How many BatchNorm layers are gone, and of each that stays though it follows a convolution why it
        does.
    """
    pairs = _pairs(trial)
    groups, splits = [pairs] if pairs else [], 0
    refused: list[str] = []
    while groups:
        group = groups.pop(0)
        problem = _fuse_group(trial, group)
        if problem is not None and len(group) > 1 and splits < MOST_SPLITS:
            splits += 1
            groups += [group[:len(group) // 2], group[len(group) // 2:]]
        elif problem is not None:
            refused += [problem] * len(group)
    return len(pairs) - len(refused), refused


def _fuse_group(trial: Trial, pairs: list[Pair]) -> str | None:
    """All or none of these. Returns why none."""
    undo = [_fuse(trial.network, *pair) for pair in pairs]

    def put_back() -> None:
        for step in undo:
            step()

    return trial.refuses(put_back)


def _pairs(trial: Trial) -> list[Pair]:
    """Each convolution with the BatchNorm that is given its output, if both are called once and are in one
    pair."""
    returned: dict[int, tuple[nn.Module, Tensor, int]] = {
    }  # with the tensor itself, or another might get its id
    calls: dict[nn.Module, int] = {}
    pairs: list[Pair] = []
    handles = []

    def convolved(module: nn.Module, _inputs, output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        if isinstance(output, Tensor):
            returned[id(output)] = module, output, output._version

    def normalised(module: nn.Module, inputs, named) -> None:
        calls[module] = calls.get(module, 0) + 1
        given = inputs[0] if inputs else named.get('input')
        convolution, _, version = returned.get(id(given), (None, None, None))
        # or something was done to it in place (ReLU)
        if convolution is not None and given._version == version:
            pairs.append((convolution, module))

    for module in trial.network.modules():
        if isinstance(module, CONVOLUTIONS) and isinstance(module._parameters.get('weight'),
                                                           nn.Parameter):  # not made of other weights
            handles.append(module.register_forward_hook(convolved))
        elif isinstance(module,
                        _BatchNorm) and module.running_mean is not None and type(module).forward in PLAIN:
            handles.append(module.register_forward_pre_hook(normalised, with_kwargs=True))
    try:
        trial.outputs()
    finally:
        for handle in handles:
            handle.remove()
    users = [convolution for convolution, _ in pairs]
    return [
        pair for pair in pairs if all(calls[module] == 1 for module in pair) and users.count(pair[0]) == 1
    ]


def _fuse(network: nn.Module, convolution: nn.Module, norm: nn.Module) -> Callable[[], None]:
    """Returns what puts everything back."""
    before = convolution.weight, convolution.bias
    places = [(parent, name) for parent in network.modules() for name, child in parent._modules.items()
              if child is norm]
    convolution.weight, convolution.bias = _fused_weights(convolution, norm)
    for parent, name in places:
        parent._modules[name] = nn.Identity()

    def put_back() -> None:
        convolution.weight, convolution.bias = before
        for parent, name in places:
            parent._modules[name] = norm

    return put_back


def _fused_weights(convolution: nn.Module, norm: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    """In double precision, so that they are rounded once, and on the CPU: not every device has it."""

    def exact(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().cpu().double()

    weight, bias = fuse_conv_bn_weights(exact(convolution.weight), exact(convolution.bias),
                                        exact(norm.running_mean), exact(norm.running_var), norm.eps,
                                        exact(norm.weight), exact(norm.bias))
    return tuple(
        nn.Parameter(part.detach().to(convolution.weight), requires_grad=False) for part in (weight, bias))
