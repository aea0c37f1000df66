"""Weights of networks that were trained with other packages, under the names that mmpretrain's have."""

import re
from collections.abc import Callable, Iterator
from os.path import commonprefix

from torch import Tensor

Weights = dict[str, Tensor]
# timm's (also DeiT's, MAE's) vision transformers as mmpretrain's VisionTransformer; the last that fits counts
TRANSFORMER = ((r'^(.*)$', r'backbone.\1'),
               (r'^backbone\.patch_embed\.proj\.', 'backbone.patch_embed.projection.'),
               (r'^backbone\.blocks\.', 'backbone.layers.'), (r'\.norm([12])\.', r'.ln\1.'),
               (r'^backbone\.norm\.', 'backbone.ln1.'), (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
               (r'\.mlp\.fc2\.', '.ffn.layers.1.'), (r'^backbone\.head\.', 'head.layers.head.'))


def _numbered(template: str, number: Callable[[int], int]) -> Callable[[re.Match], str]:
    """What takes the place of a name in which packages number otherwise."""
    return lambda match: template.format(*(number(int(group)) for group in match.groups()))


# torchvision's, by the networks
DENSENET = ((r'^features\.conv0\.', 'backbone.stem.0.'), (r'^features\.norm0\.', 'backbone.stem.1.'),
            (r'^features\.denseblock(\d+)\.denselayer(\d+)\.',
             _numbered('backbone.stages.{}.block.{}.', lambda number: number - 1)),
            (r'^features\.transition(\d+)\.',
             _numbered('backbone.transitions.{}.', lambda number: number - 1)),
            (r'^features\.norm5\.', 'backbone.transitions.3.0.'), (r'^classifier\.', 'head.fc.'))
CONVNEXT = ((r'^features\.(\d*[02468])\.',
             _numbered('backbone.downsample_layers.{}.', lambda number: number // 2)),
            (r'^features\.(\d*[13579])\.', _numbered('backbone.stages.{}.', lambda number: number // 2)),
            (r'\.block\.0\.', '.depthwise_conv.'), (r'\.block\.2\.', '.norm.'), (r'\.layer_scale$', '.gamma'),
            (r'\.block\.3\.', '.pointwise_conv1.'), (r'\.block\.5\.', '.pointwise_conv2.'),
            (r'^classifier\.0\.', 'backbone.norm3.'), (r'^classifier\.2\.', 'head.fc.'))
REGNET = ((r'^stem\.0\.', 'backbone.conv1.'), (r'^stem\.1\.', 'backbone.bn1.'), (r'\.proj\.', '.downsample.'),
          (r'^trunk_output\.block\d+\.block(\d+)-(\d+)\.', r'backbone.layer\1.\2.'),
          *((rf'\.f\.{letter}\.{part}\.', f'.{name}{number}.') for number, letter in enumerate('abc', 1)
            for part, name in enumerate(('conv', 'bn'))), (r'^fc\.', 'head.fc.'))
VIT = ((r'^class_token$', 'backbone.cls_token'), (r'^conv_proj\.', 'backbone.patch_embed.projection.'),
       (r'^encoder\.pos_embedding$', 'backbone.pos_embed'), (r'^encoder\.ln\.', 'backbone.ln1.'),
       (r'^encoder\.layers\.encoder_layer_(\d+)\.', r'backbone.layers.\1.'), (r'\.ln_([12])\.', r'.ln\1.'),
       (r'\.self_attention\.in_proj_', '.attn.qkv.'), (r'\.self_attention\.out_proj\.', '.attn.proj.'),
       (r'\.mlp\.0\.', '.ffn.layers.0.0.'), (r'\.mlp\.3\.', '.ffn.layers.1.'),
       (r'^heads\.head\.', 'head.layers.head.'))
BARE = ((r'^(.*)$', r'backbone.\1'), (r'^backbone\.(fc|head|classifier)\.(weight|bias)$', r'head.fc.\2'))


def renamed(weights: Weights, wanted: Weights) -> Weights:
    """``weights`` under the names of the ``wanted`` ones, in the one of these ways that fits most of them:
    as they are, or

    - without a prefix that all of theirs have (``model.``, ``architecture.``), or with one that all of the
      wanted have (``model.`` of ``TimmClassifier`` and ``HuggingFaceClassifier``);
    - names of torchvision's and timm's residual networks and vision transformers, and of torchvision's
      DenseNet, ConvNeXt and RegNet, as mmpretrain's;
    - in their order, where shapes and the last parts of the names (``weight``, ``running_mean``) are the same
      throughout: two definitions of one network, as torchvision's VGG and mmpretrain's.
    """
    best, most = weights, -1
    for found in _candidates(weights, wanted):
        found = {name: _without_ones(value, wanted.get(name)) for name, value in found.items()}
        fitting = sum(name in wanted and wanted[name].shape == value.shape for name, value in found.items())
        if fitting == len(wanted) == len(found):
            return found
        if fitting > most:
            best, most = found, fitting
    return best


def _candidates(weights: Weights, wanted: Weights) -> Iterator[Weights]:
    yield weights
    theirs, ours = map(_prefix, (weights, wanted))
    bare = {name.removeprefix(theirs): value for name, value in weights.items()}
    for form in (weights, bare):
        yield {ours + name: value for name, value in form.items()}
        for rules in ((), BARE, TRANSFORMER, DENSENET, CONVNEXT, REGNET, VIT):
            yield {_apply(rules, name): value for name, value in form.items()}
    if [*map(_kind, weights.items())] == [*map(_kind, wanted.items())]:
        yield dict(zip(wanted, weights.values()))


def _without_ones(value: Tensor, wanted: Tensor | None) -> Tensor:
    """(96, 1, 1) as (96, ), where that is wanted."""
    alike = wanted is not None and value.dim() != wanted.dim() and value.squeeze().shape == wanted.shape
    return value.squeeze() if alike else value


def _prefix(weights: Weights) -> str:
    """That all names have, up to a dot."""
    return ''.join(commonprefix([*weights]).rpartition('.')[:2])


def _kind(item: tuple[str, Tensor]) -> tuple[str, tuple[int, ...]]:
    name, value = item
    return name.rpartition('.')[2], tuple(value.shape)


def _apply(rules: tuple, name: str) -> str:
    for pattern, becomes in rules:
        name = re.sub(pattern, becomes, name)
    return name
