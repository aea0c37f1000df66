"""What predictions for labelled images tell: chance, another order of the classes, a better network."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMAS = 4  # of the difference of two networks on the same images
SMALLEST_GAIN = 0.05  # of the images
FEWEST_IMAGES = 64  # on which chance can be told from a weak network; surely on three times as many


@dataclass(frozen=True)
class Answers:
    """Logits (N, C) of a network for N images, and their labels (N,)."""
    logits: Tensor
    labels: Tensor

    @property
    def predicted(self) -> Tensor:
        return self.logits.argmax(dim=1)

    @property
    def right(self) -> Tensor:
        return self.predicted == self.labels

    @property
    def accuracy(self) -> float:
        """From 0 to 1."""
        return self.right.double().mean().item()

    @property
    def are_constant(self) -> bool:
        """Whether every image gets the same logits, but for rounding."""
        return bool((self.logits - self.logits[:1]).abs().max() <= 1e-6 * self.logits.abs().max())

    @property
    def chance(self) -> float:
        """The accuracy of the same predictions if they were dealt to the images at random, from 0 to 1."""
        classes = self.logits.shape[1]
        shares = [torch.bincount(found, minlength=classes).double() / len(self.labels)
                  for found in (self.predicted, self.labels)]
        return (shares[0] * shares[1]).sum().item()

    @property
    def are_chance(self) -> bool:
        """Whether the accuracy is less than two standard deviations above chance. False on few images, or on
        images of one class."""
        if len(self.labels) < FEWEST_IMAGES or len(self.labels.unique()) == 1:
            return False
        deviation = math.sqrt(self.chance * (1 - self.chance) / len(self.labels))
        return self.accuracy <= self.chance + 2 * deviation


def is_better(new: Tensor, old: Tensor) -> bool:
    """Whether of the same N images many more are right (N,) in ``new``: by four standard deviations of the
    images that differ (McNemar, 1947), and by 5 % of all."""
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    return gained - lost >= max(SMALLEST_GAIN * len(new), SIGMAS * math.sqrt(gained + lost), 1)


def halves_errors(new: Tensor, old: Tensor) -> bool:
    return 2 * int((~new).sum()) <= int((~old).sum())


@dataclass(frozen=True)
class Reordered:
    """An order of the classes in which predictions are right.

    Args:
        accuracy, before: in this order, and as they are, from 0 to 1.
        predicted, label: the pair of different classes that is most often seen.
        is_certain: it halves the errors.
    """
    accuracy: float
    before: float
    predicted: int
    label: int
    is_certain: bool


def reordered(answers: Answers) -> Reordered | None:
    """The order of the classes in which the predictions are right, where they are wrong as they are.

    What the predicted class of an image stands for is the most frequent label of all other images with that
    prediction, so that no order is found where there is none. None unless different predictions stand for
    different labels.
    """
    predicted, labels, classes = answers.predicted, answers.labels, answers.logits.shape[1]
    counts = label_counts(predicted, labels, classes)
    others = counts[predicted] - F.one_hot(labels, classes)  # (N, C)
    right, known = others.argmax(dim=1) == labels, others.sum(dim=1) > 0
    new, old = right[known], answers.right[known]
    if not len(new) or not is_better(new, old):
        return None
    stands_for, seen = counts.argmax(dim=1), counts.sum(dim=1) > 0
    different = len(stands_for[seen].unique())
    if different < 2 or 2 * different <= int(seen.sum()):  # such predictions are of few classes
        return None
    moved = torch.where(stands_for == torch.arange(classes), -1, counts.max(dim=1).values)
    pair = int(moved.argmax())
    return Reordered(new.double().mean().item(), old.double().mean().item(), pair, int(stands_for[pair]),
                     halves_errors(new, old))


def label_counts(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(C, C): how often each predicted class (row) has each label (column)."""
    return torch.bincount(predicted * classes + labels, minlength=classes**2).view(classes, classes)
