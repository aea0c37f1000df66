"""Cache what the teachers predict for every image in every view, before the training that learns from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict

from ..classifier_heads import number_of_classes
from ..data.labels import classes_of
from ..data.views import ReplayableDataset, Views, random_state_kept
from ..data.wrappers import replayable_part
from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..pipeline.changes import Changes
from ..pipeline.run import Run
from ..pipeline.stage import STUDENT, Check, Result, Stage
from ..pipeline.training_stage import stage_config
from ..record import differences, flatten, listed
from ..report.section import Section
from ..settings import Settings, setting
from ..targets import Layout, TargetFile
from ..targets.target_file import FILE
from ..training import type_name
from ..trajectory import model_config_of
from ..validate import check_int
from .checks import check_disk
from .target_making import SEED, make_targets, targets_fingerprint

if TYPE_CHECKING:
    from .student import StudentStage

# hooks that show the student other images from some epoch on, and the settings that say which
SWITCHES = dict(SwitchRecipeHook=('train_pipeline', 'batch_augments'),
                PipelineSwitchHook=('switch_pipeline', ))
# of image and view that are augmented twice: a mirror image with a chance of 1/2 is missed once in 2**32
PAIRS = 32


@dataclass(frozen=True, kw_only=True)
class CacheSettings(Settings):
    """``distill.cache``: teacher forwards are done once for each image in each of a few views."""
    views: int = setting(at_least=1, help='each image is seen in so many augmentations: epoch e shows view e '
                                          'mod views',
                         remedy='say in how many views each image is seen, distill.cache=dict(views=4)')
    dtype: str = setting('float32', choices=('float32', 'float16'), help='of the log-probabilities on disk')
    top_k: int | None = setting(None, at_least=1, help=(
        'store only so many classes of each image, and the sum of the other probabilities'))
    file: str | Path | None = setting(None, help='the folder `targets` of an earlier run with the same '
                                                 'teachers, loss and images')

    def show_views(self, config: Config) -> Config:
        """``config`` with training images in these views; in place, and once or twice alike.

        Raises:
            ConfigError: they are drawn in a way that cannot be replayed.
        """
        loader = config.train_dataloader
        for key in ('batch_sampler', 'num_batch_per_epoch'):
            if loader.get(key) is not None:
                raise ConfigError(f'train_dataloader.{key}={loader[key]!r}: distill.cache counts the views '
                                  f'of an image by epochs; take {key} or distill.cache out')
        check_int('distill.cache: train_dataloader.batch_size', loader.get('batch_size'), 1)
        sampler = dict(loader.get('sampler') or {})
        if type_name(sampler) not in ('DefaultSampler', 'ViewSampler') or \
                sampler.get('views') not in (None, self.views):
            raise ConfigError(f'train_dataloader.sampler={sampler!r}: with distill.cache it should be a '
                              f'DefaultSampler, which is replaced by ckd_mm.ViewSampler(views={self.views})')
        replayable = replayable_part(loader.dataset)
        if replayable is None:
            loader.dataset = ConfigDict(type='ckd_mm.Views', dataset=loader.dataset, seed=SEED)
        elif replayable.get('seed') is None:
            replayable['seed'] = SEED
        loader.sampler = ConfigDict(sampler, type='ckd_mm.ViewSampler', views=self.views)
        return config


@dataclass(kw_only=True)
class TargetsResult(Result):
    """
    Args:
        file: folder of the targets.
        bytes: of all files.
        sha256: of each file, by its name.
        images, views, classes, teachers, dtype, top_k, spread: see :class:`ckd_mm.targets.Layout`.
    """
    file: str
    bytes: int
    sha256: dict[str, str]
    images: int
    views: int
    classes: int
    teachers: int
    dtype: str
    top_k: int | None
    spread: bool


class TargetsStage(Stage[TargetsResult]):
    """Compute a student's targets once, before its training, or verify those of ``distill.cache.file``.

    Args:
        settings: ``distill.cache``.
        student: the stage that learns from them; it names the teachers.
    """
    Result = TargetsResult

    def __init__(self, settings: CacheSettings, student: 'StudentStage') -> None:
        self.settings, self.student = settings, student
        self.name = 'targets' if student.name == STUDENT else f'{student.name}_targets'
        self.requires = (student.teachers.name, )

    def folder(self, run: Run) -> Path:
        return run.work_dir / self.name if self.settings.file is None else Path(self.settings.file)

    def config(self, run: Run) -> Config:
        """The student's training, of which only images and teachers are used."""
        config = self.student.training(run)
        config.load_from = config.val_dataloader = config.val_cfg = config.val_evaluator = None
        self.student.distilled(self.settings.show_views(config), self.student.teachers.cohort(run),
                               self.student.weighted)
        return stage_config(run, config, self.name, [])

    def depends_on(self, run: Run) -> dict[str, Any]:
        config = self.config(run)
        return dict(fingerprint=self._fingerprint(run, config), dtype=self.settings.dtype,
                    top_k=self.settings.top_k, batch_size=config.train_dataloader.batch_size)

    def changes(self, run: Run, before: dict[str, Any], now: dict[str, Any]) -> Changes:
        """Finished targets serve every batch size: they differ by rounding."""
        changes = super().changes(run, before, now)
        if before.get('batch_size') == now.get('batch_size') or not TargetFile(self.folder(run)).is_complete:
            return changes
        rounding = [change for change in changes.refused if change.startswith('batch_size ')]
        return Changes([change for change in changes.refused if change not in rounding], rounding)

    def _fingerprint(self, run: Run, config: Config) -> dict[str, Any]:
        return targets_fingerprint(config, on_main(lambda: self.student.teachers.fingerprint(run)))

    def is_current(self, run: Run, result: TargetsResult) -> bool:
        return self.student.name in run.done or TargetFile(self.folder(run)).is_complete

    def execute(self, run: Run) -> TargetsResult:
        config, folder, seconds = self.config(run), self.folder(run), None
        fingerprint = self._fingerprint(run, config)
        if self.settings.file is not None:
            record = on_main(lambda: self._given(run, fingerprint, config.train_dataloader.batch_size))
        else:
            on_main(lambda: self.student.teachers.verify(run))
            record = make_targets(config, folder, self.settings, fingerprint, run.log)
            seconds = record['seconds']
        return TargetsResult(file=str(folder), bytes=Layout(**record['layout']).bytes,
                             sha256=record['sha256'], **record['layout'], stage_seconds=seconds)

    def _given(self, run: Run, fingerprint: dict[str, Any], batch: int) -> dict[str, Any]:
        """The record of the targets of an earlier run, which are whole and of these teachers and images."""
        file = TargetFile(self.settings.file)
        record = file.record()
        self._require_same(record['fingerprint'], fingerprint)
        file.check()
        if record['batch'] != batch:
            run.warn(f'The targets in {file.folder} were made {record["batch"]} images at a time and this '
                     f'run has batches of {batch}: they differ from its own by rounding')
        return record

    def _require_same(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        changed = differences(flatten(found), flatten(wanted))
        if changed:
            raise ConfigError(f'distill.cache.file={str(self.settings.file)!r} was made with other settings: '
                              f'{listed(changed)}. Restore them, or leave distill.cache.file out to make new '
                              'targets')

    def verify(self, run: Run) -> None:
        """Given targets may have been moved since. Called on rank 0.

        Raises:
            CkdError: they are damaged, or others.
        """
        file = TargetFile(self.folder(run))
        if file.record()['sha256'] != run.results[self.name].sha256:
            raise CkdError(f'the targets in {file.folder} are not those that this run began with: their '
                           'SHA-256 is another. Restore them, or choose another --work-dir')
        file.check()

    # ------------------------------------------------------------ before anything is trained
    def checks(self, run: Run) -> Iterator[Check]:
        if self.student.name not in run.done:  # afterwards its targets may be removed
            yield Check('targets', lambda: self._check(run))

    def _check(self, run: Run) -> str:
        """Images can be augmented twice in the same way, and there is room."""
        config, distilled = self.student.training(run), self.student.distilled_for(run)
        require_unmixed_images(config)
        self.settings.show_views(config)
        if self.settings.views > distilled:
            raise ConfigError(f'distill.cache.views={self.settings.views}: the {self.student.title} learns '
                              f'from its teachers for {distilled} epochs, so the views after the first '
                              f'{distilled} would never be seen; the fewer views, the less the teachers work')
        layout = self._layout(run)
        if self.settings.file is not None:
            self._check_file(layout)
        self._check_replay(self._dataset(run))
        check_disk(run.work_dir, self._needed(run), 'the targets of distill.cache',
                   "store less of them (fewer views, dtype='float16', top_k=16)")
        return f'{layout.images} images in {layout.views} views, {layout.bytes / 2**20:.1f} MiB'

    def _dataset(self, run: Run) -> Any:
        return run.data_set(self.student.training(run).train_dataloader.dataset, 'train_dataloader.dataset')

    def _layout(self, run: Run) -> Layout:
        """But for the number of teachers."""
        dataset, settings = self._dataset(run), self.settings
        classes = number_of_classes(self.student.training(run).model)
        return Layout(len(dataset), settings.views, classes or len(classes_of(dataset) or ()),
                      dtype=settings.dtype, top_k=settings.top_k,
                      spread=self.student.distillation.settings.kd_loss.get('aggregation') == 'loss')

    def _check_file(self, layout: Layout) -> None:
        file = TargetFile(self.settings.file)
        if not file.is_complete:
            raise ConfigError(f'distill.cache.file={str(file.folder)!r} should be the folder of finished '
                              f'targets, with {FILE}; name the folder `targets` of an earlier run with '
                              'distill.cache')
        self._require_same(*({key: getattr(of, key) for key in ('images', 'views', 'dtype', 'top_k')}
                             for of in (file.layout, layout)))

    def _needed(self, run: Run) -> int:
        """Bytes that are still to be written, of these targets and of those of the students before."""
        before: TargetsStage | None = getattr(self.student.teachers, 'targets', None)
        needed = 0 if before is None else before._needed(run)
        if self.student.name in run.done or TargetFile(self.folder(run)).is_complete:
            return needed
        # an earlier run may have made a part: files have their size from the start, and holes
        there = sum(file.stat().st_blocks * 512 for file in self.folder(run).glob('*.npy'))
        return needed + max(self._layout(run).bytes - there, 0)

    def _check_replay(self, dataset: Any) -> None:
        dataset = dataset if isinstance(dataset, ReplayableDataset) else Views(dataset)
        dataset.replay(SEED)
        places = np.linspace(0, len(dataset) * self.settings.views - 1, PAIRS).astype(int).tolist()
        with random_state_kept():
            first = [dataset[place]['inputs'] for place in places]
            again = [dataset[place]['inputs'] for place in reversed(places)][::-1]
        if not all(map(torch.equal, first, again)):
            raise ConfigError(f'distill.cache: an image of the {self.student.title} is augmented in two ways '
                              'in the same view: a transform of train_dataloader.dataset.pipeline has random '
                              'numbers of its own, which are not of python, numpy or torch')

    def report(self, run: Run, result: TargetsResult) -> Section:
        return Section(cost=dict(student_hours=run.seconds[self.name] / 3600))


def views_of(config: Config) -> int | None:
    """In how many views a run shows its images; None: a new one each time."""
    sampler = config.train_dataloader.get('sampler') or {}
    return sampler.get('views') if type_name(sampler) == 'ViewSampler' else None


def require_unmixed_images(config: Config) -> None:
    """
    Args:
        config: of a student's training.

    Raises:
        ConfigError: targets of single images do not fit: it is trained on mixed ones, or later on others.
    """
    for place, key in (('data_preprocessor', 'batch_augments'), ('train_cfg', 'augments')):
        value = (model_config_of(config).get(place) or {}).get(key)
        if value:
            name = f'{"" if place == "data_preprocessor" else "model."}{place}.{key}'
            raise ConfigError(f'{name}={value!r}: images are mixed anew in every step, so targets of single '
                              f'images cannot be cached; take {name} or distill.cache out')
    for hook in config.get('custom_hooks') or []:
        for key in SWITCHES.get(type_name(hook), ()):
            if any(part.get(key) for part in hook.get('schedule', [hook])):
                raise ConfigError(f'custom_hooks: {type_name(hook)} changes {key} while the student learns, '
                                  'and targets are cached of images as they are at its start; take the hook '
                                  'or distill.cache out')
