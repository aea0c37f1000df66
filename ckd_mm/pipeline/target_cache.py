"""``distill.cache``: teacher targets that are kept."""

from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..data.wrappers import replayable_part
from ..errors import ConfigError
from ..targets.target_file import FILE, TargetFile
from ..trajectory import model_config_of
from .settings import require_known, type_name, whole_number

KEYS = ('views', 'dtype', 'top_k', 'file')
# hooks that show the student other images from some epoch on, and the settings that say which
SWITCHES = dict(SwitchRecipeHook=('train_pipeline', 'batch_augments'),
                PipelineSwitchHook=('switch_pipeline', ))
SEED = 0  # of the augmentation: the same for all seeds of a student, so that they can share what is kept


class TargetCache:
    """
    Args:
        settings: ``views``: each image is seen in so many, epoch e shows view e mod ``views``; ``dtype``,
            ``top_k``: of
            :class:`ckd_mm.targets.Layout`; ``file``: the folder ``targets`` of an earlier run with the same
            teachers and images.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        require_known('distill.cache', settings, KEYS)
        if settings.get('views') is None:
            raise ConfigError('distill.cache.views is missing: say in how many views each image is seen, '
                              'distill.cache=dict(views=4)')
        self.views: int = whole_number('distill.cache.views', settings['views'], 1)
        self.dtype: str = settings.get('dtype') or 'float32'
        self.top_k: int | None = settings.get('top_k')
        if self.top_k is not None:
            whole_number('distill.cache.top_k', self.top_k, 1)
        self.file: Path | None = None if settings.get('file') is None else Path(settings['file'])

    def check_file(self, images: int) -> None:
        """Of targets that are given.

        Args:
            images: in the student's training set.

        Raises:
            ConfigError: they are not finished, or of another size.
            CkdError: a file is missing or damaged.
        """
        found = TargetFile(self.file)
        if not found.is_complete:
            raise ConfigError(f'distill.cache.file={str(self.file)!r} should be the folder of finished '
                              f'targets, with {FILE}; name the '
                              'folder `targets` of an earlier run with distill.cache')
        layout = found.layout
        for name in ('views', 'dtype', 'top_k'):
            if getattr(self, name) != getattr(layout, name):
                raise ConfigError(f'distill.cache.{name}={getattr(self, name)!r}, and the targets in '
                                  f'distill.cache.file={str(self.file)!r} '
                                  f'have {getattr(layout, name)!r}; say the same')
        if layout.images != images:
            raise ConfigError(f'distill.cache.file={str(self.file)!r} has targets of {layout.images} '
                              'images, and the student is trained on '
                              f'{images}: name the targets of this data set, or leave distill.cache.file '
                              'out to make them')

    def show_views(self, config: Config) -> Config:
        """``config`` with training images in these views; in place, and once or twice alike.

        Raises:
            ConfigError: they are drawn in a way that cannot be replayed.
        """
        loader = config.train_dataloader
        for key in ('batch_sampler', 'num_batch_per_epoch'):
            if loader.get(key) is not None:
                raise ConfigError(f'train_dataloader.{key}={loader[key]!r}: distill.cache counts the views '
                                  'of an image by epochs; take '
                                  f'{key} or distill.cache out')
        if type(loader.get('batch_size')) is not int:
            raise ConfigError(f'train_dataloader.batch_size={loader.get("batch_size")!r} should be a whole '
                              'number: with distill.cache the '
                              'teachers are asked about so many images at a time')
        sampler = dict(loader.get('sampler') or {})
        if type_name(sampler) not in ('DefaultSampler',
                                      'ViewSampler') or sampler.get('views') not in (None, self.views):
            raise ConfigError(f'train_dataloader.sampler={sampler!r}: with distill.cache it should be a '
                              'DefaultSampler, which is replaced '
                              f'by ckd_mm.ViewSampler(views={self.views})')
        replayable = replayable_part(loader.dataset)
        if replayable is None:
            loader.dataset = ConfigDict(type='ckd_mm.Views', dataset=loader.dataset, seed=SEED)
        elif replayable.get('seed') is None:
            replayable['seed'] = SEED
        loader.sampler = ConfigDict(sampler, type='ckd_mm.ViewSampler', views=self.views)
        return config


def require_plain_images(config: Config) -> None:
    """
    Args:
        config: of a student's training.

    Raises:
        ConfigError: it is trained on mixed images, of which no teacher could speak beforehand, or later on
            others than at first.
    """
    model = model_config_of(config)
    found = {'data_preprocessor.batch_augments': (model.get('data_preprocessor') or {}).get('batch_augments'),
             'model.train_cfg.augments': (model.get('train_cfg') or {}).get('augments')}
    for name, value in found.items():
        if value:
            raise ConfigError(f'{name}={value!r}: images are mixed anew in every step, so targets of single '
                              'images cannot be kept; take '
                              f'{name} or distill.cache out')
    for hook in config.get('custom_hooks') or []:
        if type_name(hook) in SWITCHES:
            parts = hook.get('schedule', [hook])
            switched = [key for key in SWITCHES[type_name(hook)] for part in parts if part.get(key)]
            if switched:
                raise ConfigError(f'custom_hooks: {type_name(hook)} changes {switched[0]} while the student '
                                  'learns, and targets are kept '
                                  'of images as they are at its start; take the hook or distill.cache out')


def views_of(config: Config) -> int | None:
    """In how many views a run shows its images; None: a new one each time."""
    sampler = config.train_dataloader.get('sampler') or {}
    return sampler.get('views') if type_name(sampler) == 'ViewSampler' else None
