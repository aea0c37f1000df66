"""``distill.cache``: teacher targets that are kept."""

from pathlib import Path
from typing import Any, Dict, Optional

from mmengine.config import Config, ConfigDict
from mmpretrain.registry import DATASETS as CLASSIFICATION_DATASETS

from ..datasets.views import ReplayableDataset
from ..errors import ConfigError
from ..targets.layout import DTYPES
from ..targets.target_file import FILE, TargetFile
from ..trajectory import model_config_of
from .settings import require_known, type_name, whole_number

KEYS = ('views', 'dtype', 'top_k', 'file')
SEED = 0  # of the augmentation: the same for all seeds of a student, so that they can share what is kept


class TargetCache:
    """
    Args:
        settings: ``views``: each image is seen in so many, epoch e shows view e mod ``views``; ``dtype``, ``top_k``: of
            :class:`ckd_mm.targets.Layout`; ``file``: the folder ``targets`` of an earlier run with the same teachers and images.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, settings: Dict[str, Any]) -> None:
        require_known('distill.cache', settings, KEYS)
        if settings.get('views') is None:
            raise ConfigError('distill.cache.views is missing: say in how many views each image is seen, distill.cache=dict(views=4)')
        self.views: int = whole_number('distill.cache.views', settings['views'], 1)
        self.dtype: str = settings.get('dtype') or 'float32'
        if self.dtype not in DTYPES:
            raise ConfigError(f'distill.cache.dtype={self.dtype!r} should be one of {DTYPES}')
        self.top_k: Optional[int] = settings.get('top_k')
        if self.top_k is not None:
            whole_number('distill.cache.top_k', self.top_k, 1)
        self.file: Optional[Path] = None if settings.get('file') is None else Path(settings['file'])
        if self.file is not None:
            self._check_file()

    def _check_file(self) -> None:
        found = TargetFile(self.file)
        if not found.is_complete:
            raise ConfigError(f'distill.cache.file={str(self.file)!r} should be the folder of finished targets, with {FILE}; name the '
                              'folder `targets` of an earlier run with distill.cache')
        layout = found.layout
        for name in ('views', 'dtype', 'top_k'):
            if getattr(self, name) != getattr(layout, name):
                raise ConfigError(f'distill.cache.{name}={getattr(self, name)!r}, and the targets in distill.cache.file={str(self.file)!r} '
                                  f'have {getattr(layout, name)!r}; say the same')

    def show_views(self, config: Config) -> Config:
        """``config`` with training images in these views; in place, and once or twice alike.

        Raises:
            ConfigError: they are drawn in a way that cannot be replayed.
        """
        loader = config.train_dataloader
        for key in ('batch_sampler', 'num_batch_per_epoch'):
            if loader.get(key) is not None:
                raise ConfigError(f'train_dataloader.{key}={loader[key]!r}: distill.cache counts the views of an image by epochs; take '
                                  f'{key} or distill.cache out')
        if type(loader.get('batch_size')) is not int:
            raise ConfigError(f'train_dataloader.batch_size={loader.get("batch_size")!r} should be a whole number: with distill.cache the '
                              'teachers are asked about so many images at a time')
        sampler = dict(loader.get('sampler') or {})
        if type_name(sampler) not in ('DefaultSampler', 'ViewSampler') or sampler.get('views') not in (None, self.views):
            raise ConfigError(f'train_dataloader.sampler={sampler!r}: with distill.cache it should be a DefaultSampler, which is replaced '
                              f'by ckd_mm.ViewSampler(views={self.views})')
        replayable = replayable_part(loader.dataset)
        if replayable is None:
            loader.dataset = ConfigDict(type='ckd_mm.Views', dataset=loader.dataset, seed=SEED)
        elif replayable.get('seed') is None:
            replayable['seed'] = SEED
        loader.sampler = ConfigDict(sampler, type='ckd_mm.ViewSampler', views=self.views)
        return config


def replayable_part(dataset: Dict) -> Optional[Dict]:
    """The data set with the augmentation in a config, which may be divided further; None if it cannot be replayed."""
    while type_name(dataset) == 'split_dataset':
        dataset = dataset['dataset']
    kind = dataset['type']
    kind = CLASSIFICATION_DATASETS.get(kind) if isinstance(kind, str) else kind
    return dataset if isinstance(kind, type) and issubclass(kind, ReplayableDataset) else None


def require_plain_images(config: Config) -> None:
    """
    Args:
        config: of a student's training.

    Raises:
        ConfigError: it is trained on mixed images, of which no teacher could speak beforehand.
    """
    model = model_config_of(config)
    found = {'data_preprocessor.batch_augments': (model.get('data_preprocessor') or {}).get('batch_augments'),
             'model.train_cfg.augments': (model.get('train_cfg') or {}).get('augments')}
    for name, value in found.items():
        if value:
            raise ConfigError(f'{name}={value!r}: images are mixed anew in every step, so targets of single images cannot be kept; take '
                              f'{name} or distill.cache out')


def views_of(config: Config) -> Optional[int]:
    """In how many views a run shows its images; None: a new one each time."""
    sampler = config.train_dataloader.get('sampler') or {}
    return sampler.get('views') if type_name(sampler) == 'ViewSampler' else None
