"""Chance, another order of the classes and a better network, against counts by hand and simulations."""

import pytest
import torch
import torch.nn.functional as F

from ckd_mm.evaluation.answers import Answers, halves_errors, is_better, reordered


def answers(predicted: torch.Tensor, labels: torch.Tensor, classes: int) -> Answers:
    return Answers(F.one_hot(predicted, classes).double(), labels)


def noisy(classes: int, images: int, accuracy: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions that are right with this probability, else any class; labels."""
    generator = torch.Generator().manual_seed(seed)
    labels, other = (torch.randint(classes, (images, ), generator=generator) for _ in range(2))
    return torch.where(torch.rand(images, generator=generator) < accuracy, labels, other), labels


def test_chance_by_hand():
    """Two thirds of the predictions are of class 0, and a third of the labels: 2/3 1/3 + 1/3 2/3 = 4/9."""
    found = answers(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
    assert found.chance == pytest.approx(4 / 9) and found.accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize('classes', [2, 10, 1000])
def test_chance_is_told_from_weak_teachers(classes):
    """Over 100 seeds: of guesses nearly all are found, of teachers that know a little none."""
    guesses = [answers(*noisy(classes, 512, 0.0, seed), classes).are_chance for seed in range(100)]
    weak = [answers(*noisy(classes, 512, 0.2, seed), classes).are_chance for seed in range(100)]
    assert sum(guesses) >= 90 and sum(weak) == 0


def test_one_class_for_all_is_chance_whatever_the_shares_of_the_classes_are():
    labels = (torch.arange(500) % 10 == 0).long()  # 90 % are right
    assert answers(torch.zeros_like(labels), labels, 2).are_chance
    assert not answers(labels, labels, 2).are_chance


def test_chance_is_not_told_of_few_images_or_of_one_class():
    assert not answers(*noisy(10, 16, 0.0), 10).are_chance
    assert not answers(torch.arange(100) % 10, torch.zeros(100).long(), 10).are_chance


@pytest.mark.parametrize('gained, lost, better', [
    (80, 0, True), (100, 40, True), (60, 40, False), (40, 0, False)])
def test_better_by_hand(gained, lost, better):
    """Of 1,000: (80 - 0) > 4 sqrt(80) = 36; (100 - 40) > 4 sqrt(140) = 47; 20 < 40; 40 are only 4 %."""
    old, new = torch.zeros(1000, dtype=torch.bool), torch.zeros(1000, dtype=torch.bool)
    new[:gained], old[gained:gained + lost] = True, True
    assert is_better(new, old) is better


def test_halved_errors():
    right = torch.arange(10)
    assert halves_errors(right < 8, right < 6) and not halves_errors(right < 7, right < 6)


@pytest.mark.parametrize('classes, accuracy', [(10, 0.9), (10, 0.3), (100, 0.7), (1000, 0.75)])
def test_another_order_is_found_and_only_there(classes, accuracy):
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(1)).roll(1)
    for seed in range(20):
        predicted, labels = noisy(classes, 512, accuracy, seed)
        assert reordered(answers(predicted, labels, classes)) is None
        found = reordered(answers(order[predicted], labels, classes))
        assert found is not None and found.before < found.accuracy
        assert order[found.label] == found.predicted and found.is_certain is (accuracy > 0.5)


@pytest.mark.parametrize('classes', [2, 10, 1000])
def test_no_order_is_found_in_guesses(classes):
    for seed in range(50):
        assert reordered(answers(*noisy(classes, 512, 0.0, seed), classes)) is None


def test_no_order_is_found_where_all_predictions_are_one_class():
    labels = (torch.arange(500) % 10 == 0).long()  # renamed they would be right on 90 %
    assert reordered(answers(torch.ones_like(labels), labels, 2)) is None


def test_a_young_network_that_knows_two_classes_has_no_other_order():
    labels = torch.arange(500) % 10
    predicted = torch.where(labels < 5, 0, 9)
    assert reordered(answers(predicted, labels, 10)) is None
