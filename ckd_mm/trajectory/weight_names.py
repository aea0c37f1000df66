"""Weights of networks that were trained with other packages, under the names that mmpretrain's have."""

import re
from collections.abc import Iterator
from os.path import commonprefix

from torch import Tensor

Weights = dict[str, Tensor]
# timm's (also DeiT's, MAE's) vision transformers as mmpretrain's VisionTransformer; the last that fits counts
TRANSFORMER = ((r'^(.*)$', r'backbone.\1'),
               (r'^backbone\.patch_embed\.proj\.', 'backbone.patch_embed.projection.'),
               (r'^backbone\.blocks\.', 'backbone.layers.'), (r'\.norm([12])\.', r'.ln\1.'),
               (r'^backbone\.norm\.', 'backbone.ln1.'), (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
               (r'\.mlp\.fc2\.', '.ffn.layers.1.'), (r'^backbone\.head\.', 'head.layers.head.'))
BARE = ((r'^(.*)$', r'backbone.\1'), (r'^backbone\.(fc|head|classifier)\.(weight|bias)$', r'head.fc.\2'))


def renamed(weights: Weights, wanted: Weights) -> Weights:
    """``weights`` under the names of the ``wanted`` ones, in the one of these ways that fits most of them:
    as they are, or

    - without a prefix that all of theirs have (``model.``, ``architecture.``), or with one that all of the
      wanted have (``model.`` of ``TimmClassifier`` and ``HuggingFaceClassifier``);
    - names of torchvision's and timm's residual networks, and of timm's vision transformers, as mmpretrain's;
    - in their order, where shapes and the last parts of the names (``weight``, ``running_mean``) are the same
      throughout: two definitions of one network, as torchvision's VGG and mmpretrain's.
    """
    best, most = weights, -1
    for found in _candidates(weights, wanted):
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
        for rules in ((), BARE, TRANSFORMER):
            yield {_apply(rules, name): value for name, value in form.items()}
    if [*map(_kind, weights.items())] == [*map(_kind, wanted.items())]:
        yield dict(zip(wanted, weights.values()))


def _prefix(weights: Weights) -> str:
    """That all names have, up to a dot."""
    return ''.join(commonprefix([*weights]).rpartition('.')[:2])


def _kind(item: tuple[str, Tensor]) -> tuple[str, tuple[int, ...]]:
    name, value = item
    return name.rpartition('.')[2], tuple(value.shape)


def _apply(rules: tuple[tuple[str, str], ...], name: str) -> str:
    for pattern, becomes in rules:
        name = re.sub(pattern, becomes, name)
    return name
