"""The images on which teachers are looked at, and the statistics that are tried; whole runs:
faults/teachers.py."""

import random

import torch
from mmpretrain.structures import DataSample

from ckd_mm.evaluation.teacher_check import ValidationImages, other_statistics


class Sorted:
    """Images of ten classes, one class after the other. Every hundredth image has two labels."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict:
        random.random(), torch.rand(1)
        labels = [index // 100, 0] if index % 100 == 99 else [index // 100]
        return dict(inputs=torch.full((3, 2, 2), index // 100),
                    data_samples=DataSample().set_gt_label(labels))


def test_some_batches_of_sorted_images_stand_for_all_and_no_random_number_is_drawn():
    random.seed(0), torch.manual_seed(0)
    images = ValidationImages(Sorted(), 256)
    drawn = random.random(), torch.rand(1)
    random.seed(0), torch.manual_seed(0)
    assert drawn == (random.random(), torch.rand(1))
    assert set(images.labels[:128].tolist()) == set(range(10))
    assert torch.equal(torch.cat([batch['inputs'][:, 0, 0, 0] for batch in images.batches]), images.labels)


def test_images_of_several_labels_are_left_out():
    assert len(ValidationImages(Sorted(), 1000)) == 990


def test_statistics_that_are_tried():
    """Each pair of numbers once with each order of channels, without the teacher's own."""
    own = dict(mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1], to_rgb=True, num_classes=10)
    tried = dict(other_statistics(own, dict(mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1], to_rgb=True)))
    assert own not in tried.values() and len(tried) == 13  # 7 pairs of numbers, of which the student's is own
    assert tried['to_rgb=False'] == dict(own, to_rgb=False)
    assert tried['mean and std times 255 (mean=[127.5, 102.0, 76.5], std=[51.0, 51.0, 25.5])'] == dict(
        own, mean=[127.5, 102.0, 76.5], std=[51.0, 51.0, 25.5])
