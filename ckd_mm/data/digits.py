"""Handwritten digits that need no download."""

import numpy as np
from mmpretrain.datasets import BaseDataset

from ..registry import DATASETS
from ..validate import check_choice


@DATASETS.register_module()
class Digits(BaseDataset):
    """The 1,797 images of 8x8 pixels that scikit-learn ships (``sklearn.datasets.load_digits``; the test part
    of UCI's "Optical Recognition of Handwritten Digits"), as three equal channels.

    Args:
        split: 'train': the first 1,297 images; 'test': the last 500, mostly of other writers.
    """

    METAINFO = dict(classes=tuple('0123456789'))
    TRAIN_IMAGES = 1297

    def __init__(self, split: str, **kwargs) -> None:
        self.split = check_choice('Digits: split', split, ('train', 'test'))
        kwargs.setdefault('ann_file', '')
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        from sklearn.datasets import load_digits
        digits = load_digits()
        part = slice(None, self.TRAIN_IMAGES) if self.split == 'train' else slice(self.TRAIN_IMAGES, None)
        # grey levels from 0 to 16
        images = np.rint(digits.images[part] * (255 / 16)).astype(np.uint8)
        return [dict(img=np.repeat(image[:, :, None], 3, axis=2), gt_label=int(label))
                for image, label in zip(images, digits.target[part])]
