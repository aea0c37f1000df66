"""Tiny-ImageNet, in the layouts that are in use."""

from collections.abc import Iterator
from pathlib import Path

from mmpretrain.datasets import BaseDataset

from ..errors import ConfigError
from ..registry import DATASETS
from ..validate import check_choice

NAME = '*.[jJ][pP]*[gG]'  # .JPEG in the original


@DATASETS.register_module()
class TinyImageNet(BaseDataset):
    """Tiny-ImageNet (Le and Yang, Stanford CS 231N, 2015): 64x64 pixels, 200 classes of 500 training and 50
    validation images.

    Images are read from ``<split>/<wnid>/`` or ``<split>/<wnid>/images/``, those of validation also from
    ``val/images/`` with ``val/val_annotations.txt``, as the archive unpacks. The classes are the folders of
    ``train/`` in alphabetical order, all 200 or some.

    Args:
        split: 'train' or 'val'.
        data_root: folder that holds ``train`` and ``val``.

    Raises:
        ConfigError: there are no such images, or not those of the classes in ``wnids.txt``.
    """

    def __init__(self, split: str, data_root: str = '', **kwargs) -> None:
        self.split = check_choice('TinyImageNet: split', split, ('train', 'val'))
        self.folder = Path(data_root).expanduser()
        super().__init__(ann_file='', data_root=data_root, classes=self._wnids(), **kwargs)

    def _wnids(self) -> list[str]:
        train = self.folder / 'train'
        found = sorted(path.name for path in train.glob('*') if path.is_dir())
        if not found:
            raise self._nothing_in(f'{train}/<wnid>')
        file = self.folder / 'wnids.txt'
        listed = sorted(file.read_text(encoding='utf-8').split()) if file.is_file() else found
        if listed != found:
            raise ConfigError(f'TinyImageNet: {train} has {len(found)} folders, and not just those of the '
                              f'{len(listed)} classes in {file}; unpack the archive again')
        return found

    def load_data_list(self) -> list[dict]:
        labels = self.class_to_idx
        data = [dict(img_path=str(path), gt_label=labels[wnid]) for path, wnid in self._images()]
        if not data:
            raise self._nothing_in(self.folder / self.split)
        return data

    def _images(self) -> Iterator[tuple[Path, str]]:
        folder = self.folder / self.split
        annotations = folder / 'val_annotations.txt'
        if annotations.is_file() and not any((folder / wnid).is_dir() for wnid in self.CLASSES):
            for line in annotations.read_text(encoding='utf-8').splitlines():
                name, wnid = line.split()[:2]  # val_0.JPEG n03444034 and a box, separated by tabs
                yield folder / 'images' / name, wnid
        else:
            for wnid in self.CLASSES:
                for path in sorted((folder / wnid).rglob(NAME)):
                    yield path, wnid

    def _nothing_in(self, where) -> ConfigError:
        return ConfigError(f'TinyImageNet: no images in {where}; unpack tiny-imagenet-200.zip and name its '
                           'folder in `data_root`, or the folder that holds tiny-imagenet-200 in the '
                           'environment variable CKD_DATA_ROOT')
