"""Teacher forwards over every image in every view, into files."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from ..data.wrappers import replayable_part
from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..hooks.channels_last_hook import ChannelsLastHook
from ..pipeline.stage_runner import StageRunner
from ..progress import Progress
from ..record import differences, flatten, listed
from ..registry import MODELS
from ..students.checkpoint_distill import CheckpointDistill
from ..targets import Layout, TargetFile, TargetWriter
from ..targets.layout import image_checksum
from ..training import type_name

SEED = 0  # of the augmentation: the same for all seeds of a student, so that they can share cached targets


def targets_fingerprint(config: Config, teachers: Sequence[dict]) -> dict[str, Any]:
    """All that targets depend on, but for rounding.

    Args:
        config: of the stage, see :meth:`ckd_mm.stages.targets.TargetsStage.config`.
        teachers: SHA-256 of the files of snapshots and heads, and what else decides what they compute.
    """
    wrapper, dataset = config.get('optim_wrapper') or {}, copy.deepcopy(config.train_dataloader.dataset)
    replayable_part(dataset).pop('device', None)  # of ckd_mm.InMemory: where its images are, not which
    amp = type_name(wrapper) == 'AmpOptimWrapper'
    return dict(teachers=list(teachers),
                target=MODELS.build(copy.deepcopy(config.model.kd_loss)).target_settings, dataset=dataset,
                views=config.train_dataloader.sampler.views,
                data_preprocessor=config.model.student.get('data_preprocessor'),
                precision=f'autocast {wrapper.get("dtype") or "float16"}' if amp else 'float32')


def take_over(folder: Path, wanted: dict[str, Any], batch: int, warn: Callable[[str],
                                                                               None]) -> dict[str, Any]:
    """Targets of an earlier run.

    Args:
        wanted: the :func:`targets_fingerprint`.
        batch: images that a process of this run has in a batch. Those of another number differ by rounding.

    Returns:
        For the log of stages.

    Raises:
        ConfigError: they are of other teachers, images, ...
        CkdError: they are damaged.
    """
    file = TargetFile(folder)
    record = file.record()
    changed = differences(flatten(record['fingerprint']), flatten(wanted))
    if changed:
        raise ConfigError(f'distill.cache.file={str(folder)!r} was made with other settings: '
                          f'{listed(changed)}. Restore them, or leave distill.cache.file out to make new '
                          'targets')
    file.check()
    if record['batch'] != batch:
        warn(f'The targets in {folder} were made {record["batch"]} images at a time and this run has batches '
             f'of {batch}: they differ from its own by rounding')
    return _result(folder, record)


def make_targets(config: Config, folder: Path, settings: Any, wanted: dict[str, Any],
                 log: Callable[[str], None]) -> dict[str, Any]:
    """Ask the teachers, in eval mode and without gradients, with the student's mixed precision and batch
    size; the processes of a distributed run share the images in contiguous ranges. What an earlier run had
    finished is not asked again.

    Args:
        config: of the stage.
        folder: for the targets.
        wanted: the :func:`targets_fingerprint`.

    Returns:
        For the log of stages, with the seconds of all runs it took.
    """
    started = time.perf_counter()
    runner = StageRunner.from_cfg(config)
    asking = _Asking(runner, config)
    target, checksums, teachers = asking.answer(asking.first_batch())
    layout = Layout(len(asking.dataset), settings.views, target.log_p.shape[1], teachers, settings.dtype,
                    settings.top_k, target.spread is not None)
    writer = TargetWriter(folder, layout, wanted, config.train_dataloader.batch_size, started)
    mine = _share(on_main(writer.prepare))
    problem: Exception | None = None
    try:
        asking.run(writer, mine, log)
    except Exception as error:  # the others should not wait for this process
        problem = error
        # they may still have hours to do, or the launcher's patience ends before: nobody would know why
        runner.logger.error(f'Making targets failed in process {get_rank()}: {type(error).__name__}: {error}')
    finally:
        asking.close()
        writer.close()
    found = all_gather_object(None if problem is None else f'{type(problem).__name__}: {problem}')
    if problem is not None:
        raise problem
    for text in found:
        if text is not None:
            raise CkdError(f'making targets failed in another process: {text}')
    record = on_main(writer.finish)
    log(f'Targets of {layout.images} images in {layout.views} views, {layout.classes} classes, '
        f'{layout.teachers} teachers: {layout.bytes / 2**20:.1f} MiB in {folder}')
    return dict(_result(folder, record), stage_seconds=record['seconds'])


class _Asking:
    """The teachers, as the training asks them."""

    def __init__(self, runner: StageRunner, config: Config) -> None:
        self.runner = runner
        self.model: CheckpointDistill = getattr(runner.model, 'module', runner.model)
        self.loader = copy.deepcopy(config.train_dataloader)
        self.batch = self.loader.pop('batch_size')
        for key in ('sampler', 'drop_last'):
            self.loader.pop(key, None)
        self.dataset = DATASETS.build(self.loader.pop('dataset'))
        self.dataset.full_init()
        self.dataset.replay(SEED)  # as the sampler of the training does
        self.wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        self.hooks = [hook for hook in runner.hooks if isinstance(hook, ChannelsLastHook)]
        for hook in self.hooks:
            hook.before_test(runner)

    def close(self) -> None:
        for hook in self.hooks:
            hook.after_run(self.runner)

    def first_batch(self) -> dict:
        """Which says how many classes and teachers there are."""
        loader = dict(num_workers=0
                      )  # for one batch no workers are started, and none of their settings may be given then
        if 'collate_fn' in self.loader:
            loader['collate_fn'] = self.loader['collate_fn']
        return next(iter(self._batches([range(min(self.batch, len(self.dataset)))], loader)))

    def _batches(self, rows: list[range], loader: dict) -> DataLoader:
        """A row of the targets is also the index of an image in a view."""
        return self.runner.build_dataloader(dict(loader, dataset=self.dataset, sampler=None,
                                                 batch_sampler=_Rows(rows, self.batch)),
                                            seed=self.runner.seed)

    @torch.no_grad()
    def answer(self, batch: dict):
        """Target, image checksums and number of teachers."""
        data = self.model.data_preprocessor(batch, True)
        with self.wrapper.optim_context(self.runner.model):
            target, teachers = self.model.soft_target(data['inputs'])
        return target, image_checksum(data['inputs']), teachers

    def run(self, writer: TargetWriter, blocks: list[int], log: Callable[[str], None]) -> None:
        if not blocks:
            return
        loader = self._batches([writer.rows_of(block) for block in blocks], self.loader)
        batches, progress = iter(loader), Progress(log, 'Targets: batch', len(loader))
        for block in blocks:
            rows = writer.rows_of(block)
            for start in range(rows.start, rows.stop, self.batch):
                target, checksums, _ = self.answer(next(batches))
                writer.write(start, target, checksums)
                progress.step()
            writer.done(block)


class _Rows:
    """Batches of consecutive rows, as a data loader takes them."""

    def __init__(self, ranges: list[range], batch: int) -> None:
        self.ranges, self.batch = ranges, batch

    def __len__(self) -> int:
        return sum(-(-len(rows) // self.batch) for rows in self.ranges)

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.ranges:
            for start in range(rows.start, rows.stop, self.batch):
                yield list(range(start, min(start + self.batch, rows.stop)))


def _share(blocks: list[int]) -> list[int]:
    """This process's: neighbours stay together."""
    rank, world = get_rank(), get_world_size()
    return blocks[rank * len(blocks) // world:(rank + 1) * len(blocks) // world]


def _result(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    layout = record['layout']
    return dict(file=str(folder), bytes=Layout(**layout).bytes, sha256=record['sha256'], **layout)
