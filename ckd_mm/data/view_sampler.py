"""The images of an epoch, and the view of each."""

from collections.abc import Iterator

from mmengine.dataset import DefaultSampler

from ..errors import ConfigError
from ..registry import DATA_SAMPLERS
from ..validate import check_int
from .views import ReplayableDataset


@DATA_SAMPLERS.register_module()
class ViewSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` over a replayable data set: the same images in the same order, each with
    the view of the epoch.

    Args:
        dataset: :class:`ckd_mm.data.Views` or :class:`ckd_mm.data.InMemory`.
        views: of each image, K: epoch e (counted from 0) shows view e mod K; None: a new one every epoch.
        seed: of the order, and of the augmentation if the data set has none; default: the run's.
        shuffle, round_up: as of mmengine's.

    Raises:
        ConfigError: the data set cannot be replayed, or ``views`` is no number of views.
    """

    def __init__(self, dataset: ReplayableDataset, views: int | None = None, shuffle: bool = True,
                 seed: int | None = None, round_up: bool = True) -> None:
        if not isinstance(dataset, ReplayableDataset):
            raise ConfigError(f'sampler ckd_mm.ViewSampler: the images of a {type(dataset).__name__} cannot '
                              "be augmented twice in the same way; wrap it: dataset=dict("
                              "type='ckd_mm.Views', dataset=dict(...))")
        if views is not None:
            check_int('sampler ckd_mm.ViewSampler: views', views, 1)
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=round_up)
        self.views = views
        dataset.replay(self.seed)

    def __iter__(self) -> Iterator[int]:
        view = self.epoch if self.views is None else self.epoch % self.views
        first = view * len(self.dataset)
        return (first + index for index in super().__iter__())
