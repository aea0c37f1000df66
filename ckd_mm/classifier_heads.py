"""Heads of mmpretrain that it only predicts with, or that return several logits, as they are trained here."""

from mmpretrain.models import (
    ClsHead,
    ConformerHead,
    CrossEntropyLoss,
    DeiTClsHead,
    EfficientFormerClsHead,
    LeViTClsHead,
)
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ConfigError
from .registry import MODELS


class TwoTokens:
    """A head with logits of a class token and of a distillation token (DeiT, arXiv 2012.12877, Sec. 4).

    It predicts the mean of both logits, and trained on labels alone it is trained on this mean, as in timm.
    While ``apart`` it gives both in training: the loss of labels is of the class token, and the distillation
    token is left to the loss of the teachers.
    """
    apart = False

    def tokens(self, feats) -> tuple[Tensor, Tensor]:
        """Logits (N, C) of class token and distillation token."""
        raise NotImplementedError

    def forward(self, feats) -> Tensor | tuple[Tensor, Tensor]:
        logits = self.tokens(feats)
        return logits if self.training and self.apart else (logits[0] + logits[1]) / 2

    loss = ClsHead.loss  # EfficientFormer's refuses

    def _get_loss(self, cls_score, data_samples: list, **kwargs) -> dict:
        own = cls_score[0] if isinstance(cls_score, tuple) else cls_score
        return super()._get_loss(own, data_samples, **kwargs)


class DeiTTokens(TwoTokens, DeiTClsHead):

    def tokens(self, feats):
        class_token, distillation_token = self.pre_logits(feats)
        return self.layers.head(class_token), self.layers.head_dist(distillation_token)


class LeViTTokens(TwoTokens, LeViTClsHead):

    def tokens(self, feats):
        feature = self.pre_logits(feats)
        return self.head(feature), self.head_dist(feature)


class EfficientFormerTokens(TwoTokens, EfficientFormerClsHead):

    def tokens(self, feats):
        feature = self.pre_logits(feats)
        return self.head(feature), self.dist_head(feature)


class TwoBranches(ConformerHead):
    """Conformer's: it predicts the sum of the logits of both branches. In training it gives both: its loss is
    the sum of their losses."""

    def forward(self, feats) -> Tensor | tuple[Tensor, Tensor]:
        logits = super().forward(feats)
        return logits if self.training else logits[0] + logits[1]

    predict = ClsHead.predict


class ScoresOfLabels(CrossEntropyLoss):
    """Takes labels (N,) where it compares shares of classes (N, C): as one-hot vectors."""

    def forward(self, cls_score: Tensor, label: Tensor, *args, **kwargs) -> Tensor:
        if label.dim() == 1:
            label = F.one_hot(label, cls_score.shape[1]).to(cls_score.dtype)
        return super().forward(cls_score, label, *args, **kwargs)


def trainable(network: nn.Module) -> nn.Module:
    """``network`` with its heads and losses as above, in place; weights and their names stay as they are."""
    for module in network.modules():
        kind = type(module)
        if kind is DeiTClsHead:
            module.__class__ = DeiTTokens
        elif kind is LeViTClsHead and module.distillation:
            module.__class__ = LeViTTokens
        elif kind is EfficientFormerClsHead and module.dist:
            module.__class__ = EfficientFormerTokens
        elif kind is ConformerHead:
            module.__class__ = TwoBranches
        elif kind is CrossEntropyLoss and (module.use_sigmoid or module.use_soft):
            module.__class__ = ScoresOfLabels
    return network


def logits_module(network: nn.Module) -> nn.Module:
    """The module whose output are a classifier's logits: its head; of mmpretrain's TimmClassifier and
    HuggingFaceClassifier, which have none, the ``model`` of the other package. Raises ConfigError where there
    is neither."""
    for name in ('head', 'model'):
        if isinstance(module := getattr(network, name, None), nn.Module):
            return module
    raise ConfigError(f'{type(network).__name__} has no `head`, and no `model` as TimmClassifier, whose '
                      'logits could be distilled; give an ImageClassifier with a head')


def number_of_classes(described: nn.Module | dict) -> int | None:
    """Of a classifier or its config; None if it does not tell."""
    get = dict.get if isinstance(described, dict) else getattr
    parts = (get(described, 'head', None), get(described, 'model', None), described)
    numbers = (get(part, key, None) for part in parts if isinstance(part, (dict, nn.Module))
               for key in ('num_classes', 'num_labels'))  # the second is transformers' word
    return next((number for number in numbers if number is not None), None)


def predicted_logits(output: Tensor | tuple[Tensor, ...], head: nn.Module) -> Tensor:
    """Logits (N, C) that a head predicts with, of what it returned in training."""
    output = getattr(output, 'logits', output)  # transformers' output
    if isinstance(head, TwoTokens) and isinstance(output, tuple):
        return (output[0] + output[1]) / 2
    return output[0] + output[1] if isinstance(head, TwoBranches) and isinstance(output, tuple) else output


def taught_logits(output: Tensor | tuple[Tensor, ...], head: nn.Module) -> Tensor:
    """Logits (N, C) that learn from teachers: those of the distillation token, where there is one."""
    if isinstance(head, TwoTokens) and isinstance(output, tuple):
        return output[1]
    return predicted_logits(output, head)


@MODELS.register_module()
class AuxiliaryClsHead(ClsHead):
    """Of a backbone that gives the logits of an auxiliary classifier before its own in training, such as
    mmpretrain's ``InceptionV3(aux_logits=True)`` (arXiv 1512.00567, Sec. 4).

    Args:
        aux_weight: of the auxiliary loss, ``loss_aux``, which is of labels alone; torchvision trains
            Inception with 0.4.
    """

    def __init__(self, aux_weight: float = 0.4, **settings) -> None:
        super().__init__(**settings)
        self.aux_weight = aux_weight

    def loss(self, feats: tuple[Tensor, ...], data_samples: list, **kwargs) -> dict:
        losses = super().loss(feats, data_samples, **kwargs)
        losses['loss_aux'] = self.aux_weight * self._get_loss(feats[0], data_samples, **kwargs)['loss']
        return losses
