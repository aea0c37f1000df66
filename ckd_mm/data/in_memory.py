"""Small images, decoded once and augmented a batch at a time."""

import copy
from collections.abc import Sequence
from typing import Any

import mmcv.transforms
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.dist import get_rank
from mmpretrain.structures import DataSample
from torch import Tensor

from ..errors import ConfigError
from ..registry import DATASETS
from .batched_transforms import BATCHED, PackInputs, divided
from .collated_batch import CollatedBatch
from .counter_random import uniforms
from .decoded import LEAVE_OUT, Decoded, decoded
from .views import ReplayableDataset
from .wrappers import is_replayable, kind_of, replayable_part, undivided

OWN_KEYS = ('type', '_scope_', 'dataset', 'device', 'seed')


@DATASETS.register_module()
class InMemory(ReplayableDataset):
    """A data set of small images as one tensor of bytes, augmented a batch at a time with mmpretrain's
    distribution. Use it with ``num_workers=0`` and ``collate_fn=dict(type='ckd_mm.whole_batch')``.

    With :class:`ckd_mm.data.ViewSampler` augmentation can be replayed. With other samplers each batch takes
    one number of torch's global generator, which a resumed run restores. Data samples have ``gt_label``,
    ``sample_idx`` and, if replayed, ``view``.

    Args:
        dataset: config of a data set with a ``pipeline``, or of a part of one (``ckd_mm.split_dataset``).
        device: where images are kept and augmented, as 'cuda' (with ``pin_memory=False``); None: host
            memory, shared by all data sets of the same images.
        seed: see :class:`ReplayableDataset`.
        settings: of the data set, instead of those in ``dataset``.

    Raises:
        ConfigError: naming the transform, image or setting.
    """

    def __init__(self, dataset: dict, device: str | None = None, seed: int | None = None, **settings) -> None:
        super().__init__(seed)
        self.device = _device(device)
        self._config = _config(dataset, settings)
        self._set_pipeline(undivided(self._config)['pipeline'])
        self.chosen = np.arange(len(self.images.dataset))  # numbers among `images`
        self.held_out = getattr(self.images.dataset, 'held_out', None)

    def _set_pipeline(self, pipeline: Sequence[Any]) -> None:
        decoding, random = divided(pipeline)
        self._pipeline = Compose([*decoding, *random, PackInputs()])
        self._augmentation = [BATCHED[type(transform)](transform) for transform in random]
        config = copy.deepcopy(self._config)
        undivided(config)['pipeline'] = decoding
        self.images: Decoded = decoded(config)
        self._moved: Tensor | None = None  # the chosen images on `device`

    @property
    def metainfo(self) -> dict:
        return self.images.dataset.metainfo

    @property
    def CLASSES(self) -> Sequence[str] | None:
        return self.metainfo.get('classes')

    @property
    def folder_to_idx(self) -> dict[str, int] | None:
        return getattr(self.images.dataset, 'folder_to_idx', None)

    @property
    def pipeline(self) -> Compose:
        """Of all transforms; hooks may set another (mmpretrain's ``SwitchRecipeHook``)."""
        return self._pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Compose | Sequence[Any]) -> None:
        if type(pipeline) not in (Compose, mmcv.transforms.Compose, list, tuple):
            raise ConfigError(f'ckd_mm.InMemory: pipeline={type(pipeline).__name__} would be shown one image '
                              f'at a time, and images are augmented a batch at a time here; {LEAVE_OUT}')
        self._set_pipeline(getattr(pipeline, 'transforms', pipeline))
        self.full_init()  # or each worker process would decode by itself

    def full_init(self) -> None:
        """Decode all images that are not decoded yet."""
        self.images.read(self.chosen)
        if self.device is not None and self._moved is None:
            self._moved = self.images.pixels[torch.from_numpy(self.chosen)].to(self.device)

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Keep these; or the first so many, or with a negative number the last."""
        if isinstance(indices, int):
            self.chosen = self.chosen[:indices] if indices >= 0 else self.chosen[indices:]
        else:
            self.chosen = self.chosen[np.asarray(indices, dtype=np.int64)]
        self._moved = None

    def get_subset(self, indices: int | Sequence[int]) -> 'InMemory':
        part = copy.copy(self)
        part.get_subset_(indices)
        return part

    def get_data_info(self, index: int) -> dict:
        image = self.image_of(index)
        return dict(self.images.dataset.get_data_info(int(self.chosen[image])), sample_idx=image)

    def get_cat_ids(self, index: int) -> list[int]:
        return self.images.dataset.get_cat_ids(int(self.chosen[self.image_of(index)]))

    def get_gt_labels(self) -> np.ndarray:
        """(N, ) of all images."""
        self.images.read(self.chosen)
        return self.images.labels.numpy()[self.chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitems__(self, indices: Sequence[int]) -> CollatedBatch:
        images, views = self.images_and_views(indices)
        rows = self.chosen[images]
        pixels, draws = self._pixels(images, rows), self._draws(images, views)
        for transform in self._augmentation:
            pixels, draws = transform(pixels, draws[:, :transform.draws]), draws[:, transform.draws:]
        samples = data_samples(self.images.labels[torch.from_numpy(rows)], images.tolist(),
                               views.tolist() if self.is_replayed else None)
        return CollatedBatch(pixels, samples)

    def _pixels(self, images: np.ndarray, rows: np.ndarray) -> Tensor:
        if self.device is None:
            self.images.read(rows)
            return self.images.pixels.index_select(0, torch.from_numpy(rows))
        if torch.utils.data.get_worker_info() is not None:
            raise ConfigError(f'ckd_mm.InMemory: with device={str(self.device)!r} the images are on the '
                              'device and worker processes cannot give them on; set num_workers=0, '
                              'persistent_workers=False and pin_memory=False')
        self.full_init()
        return self._moved.index_select(0, torch.from_numpy(images).to(self.device))

    def _draws(self, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        """The random numbers of all transforms together, (N, draws)."""
        count = sum(transform.draws for transform in self._augmentation)
        if self.is_replayed:
            return uniforms(self.seed, images, views, count)
        if count == 0:
            return np.empty((len(images), 0))
        # mmengine seeds all processes alike; one number from each keeps their generators in step
        own = torch.Generator().manual_seed(int(torch.randint(2**62, ())) + get_rank())
        return torch.rand(len(images), count, dtype=torch.float64, generator=own).numpy()


def data_samples(labels: Tensor, images: Sequence[int], views: Sequence[int] | None) -> list[DataSample]:
    """``DataSample(metainfo=dict(sample_idx=..., view=...)).set_gt_label(...)`` without its checks, which
    would take five times as long; no ``view`` where ``views`` is None."""
    made = []
    for place, (label, image) in enumerate(zip(labels.unsqueeze(1).unbind(), images)):
        metainfo = {'sample_idx': image} if views is None else {'sample_idx': image, 'view': views[place]}
        sample = DataSample.__new__(DataSample)
        object.__setattr__(sample, '__dict__', {'_data_fields': {'gt_label'}, 'gt_label': label,
                                                '_metainfo_fields': set(metainfo), **metainfo})
        made.append(sample)
    return made


def _config(dataset: Any, settings: dict) -> dict:
    if not isinstance(dataset, dict):
        raise ConfigError(f'ckd_mm.InMemory: dataset={type(dataset).__name__} should be the config of a data '
                          'set')
    step = dataset
    while isinstance(step, dict):
        if is_replayable(step):
            raise ConfigError(f'ckd_mm.InMemory: its data set is a ckd_mm.{kind_of(step).__name__}; it needs '
                              'none, its own images can be replayed')
        step = step.get('dataset')
    config = settled(dict(settings, type=InMemory, dataset=dataset))['dataset']
    inner = undivided(config)
    if 'pipeline' not in inner:
        raise ConfigError(f'ckd_mm.InMemory: a data set of type {inner.get("type")} has no pipeline of its '
                          f'own (and asks those inside of it for one image at a time); {LEAVE_OUT}')
    return config


def settled(dataset: dict) -> dict:
    """A copy of the config of a data set, in which settings of ``ckd_mm.InMemory`` that are not its own
    (``--cfg-options train_dataloader.dataset.data_root=...``, or ``...dataset.pipeline.0.padding=2``) are
    those of the data set inside.

    Raises:
        ConfigError: the pipeline has no such transform.
    """
    result = copy.deepcopy(dataset)
    outer = replayable_part(result)
    if outer is not None and issubclass(kind_of(outer), InMemory):
        settings = {key: outer.pop(key) for key in list(outer) if key not in OWN_KEYS}
        inner = undivided(outer)
        if isinstance(settings.get('pipeline'), dict):
            settings['pipeline'] = _changed(inner.get('pipeline') or [], settings['pipeline'])
        inner.update(settings)
    return result


def _changed(pipeline: Sequence[Any], changes: dict) -> list:
    """A pipeline with other settings, ``{'0': dict(padding=2)}`` as the command line gives them."""
    config = Config(dict(pipeline=list(pipeline)))
    try:
        config.merge_from_dict({f'pipeline.{place}': change for place, change in changes.items()})
    except (AttributeError, KeyError, TypeError) as error:
        names = ', '.join(f'{place}: {step.get("type") if isinstance(step, dict) else step}'
                          for place, step in enumerate(pipeline))
        raise ConfigError(f'ckd_mm.InMemory: pipeline={dict(changes)!r} should be a list of transforms, or '
                          f'change some of those that the data set has ({names}), as in '
                          'train_dataloader.dataset.dataset.pipeline.0.padding=2') from error
    return config.pipeline


def _device(device: str | None) -> torch.device | None:
    if device is None:
        return None
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"ckd_mm.InMemory: device={device!r} should be 'cuda', 'cuda:1', ..., or None for "
                          "host memory") from error
    if place.type == 'cuda' and not torch.cuda.is_available():
        raise ConfigError(f'ckd_mm.InMemory: device={device!r}, but torch sees no GPU here; leave device out')
    return None if place.type == 'cpu' else place
