"""Teacher forward passes over every image in every view, into files."""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.dist import get_rank, get_world_size
from torch import Tensor

from ..data.wrappers import replayable_part
from ..distributed import on_all, on_main
from ..errors import NotFiniteError, in_a_line
from ..hooks.channels_last_hook import ChannelsLastHook
from ..losses import SoftTarget
from ..pipeline.stage_runner import StageRunner, close_log
from ..progress import Progress
from ..registry import MODELS
from ..targets import Layout, TargetWriter
from ..targets.layout import image_checksum
from ..training import type_name, unwrap

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


def make_targets(config: Config, folder: Path, settings: Any, fingerprint: dict[str, Any],
                 log: Callable[[str], None]) -> dict[str, Any]:
    """Write the targets of all images in all views; blocks that an earlier run had finished are kept. The
    processes of a distributed run share the images in contiguous ranges.

    Args:
        config: of the stage.
        settings: the :class:`ckd_mm.stages.targets.CacheSettings`.
        fingerprint: see :func:`targets_fingerprint`.

    Returns:
        The content of ``targets.json``.
    """
    started = time.perf_counter()
    runner = StageRunner.from_cfg(config)
    dataset, size = runner.train_dataloader.dataset, config.train_dataloader.batch_size
    with teacher_forward(runner) as forward:
        target, _, teachers = forward(default_collate([dataset[0]]))
        layout = Layout(len(dataset), settings.views, target.log_p.shape[1], teachers, settings.dtype,
                        settings.top_k, target.spread is not None)
        writer = TargetWriter(folder, layout, fingerprint, size, started)
        blocks, rank, world = on_main(writer.prepare), get_rank(), get_world_size()

        def write_own() -> None:
            try:
                own = blocks[rank * len(blocks) // world:(rank + 1) * len(blocks) // world]
                write_blocks(runner, forward, writer, own, log)
            except Exception as error:
                # at once: others may take hours, or the launcher may end this process before they are done
                runner.logger.error(f'Making targets failed in process {rank}: {in_a_line(error)}')
                raise
            finally:
                writer.close()

        on_all(write_own)
    record = on_main(writer.finish)
    log(f'Targets of {layout.images} images in {layout.views} views, {layout.classes} classes, '
        f'{layout.teachers} teachers: {layout.bytes / 2**20:.1f} MiB in {folder}')
    return record


@contextlib.contextmanager
def teacher_forward(runner: StageRunner) -> Iterator[Callable[[dict], tuple[SoftTarget, Tensor, int]]]:
    """A function that gives target, image checksums (N,) and number of teachers of a batch, computed exactly
    as in the student's training: with its batch size, mixed precision and memory format."""
    model, wrapper = unwrap(runner.model), runner.build_optim_wrapper(runner.optim_wrapper)
    hooks = [hook for hook in runner.hooks if isinstance(hook, ChannelsLastHook)]

    @torch.no_grad()
    def forward(batch: dict) -> tuple[SoftTarget, Tensor, int]:
        inputs = model.data_preprocessor(batch, True)['inputs']
        with wrapper.optim_context(runner.model):
            target, teachers = model.soft_target(inputs)
        return target, image_checksum(inputs), teachers

    for hook in hooks:
        hook.before_test(runner)
    try:
        yield forward
    finally:
        for hook in hooks:
            hook.after_run(runner)
        close_log(runner.logger)


def write_blocks(runner: StageRunner, forward: Callable, writer: TargetWriter, blocks: list[int],
                 log: Callable[[str], None]) -> None:
    """A row of the targets is also the index of an image in a view."""
    rows = {block: writer.batches_of(block) for block in blocks}
    config = {key: value for key, value in runner.cfg.train_dataloader.items()
              if key not in ('batch_size', 'drop_last')}
    config.update(dataset=runner.train_dataloader.dataset, sampler=None,
                  batch_sampler=[places for block in blocks for places in rows[block]])
    loader = runner.build_dataloader(config, seed=runner.seed)
    batches, progress = iter(loader), Progress(log, 'Targets: batch', len(loader))
    for block in blocks:
        for places in rows[block]:
            batch = next(batches)
            target, checksums, _ = forward(batch)
            try:
                writer.write(places.start, target, checksums)
            except NotFiniteError as error:
                teachers = unwrap(runner.model).broken_teachers(batch) or ['mixed precision (--amp)']
                raise NotFiniteError(f'{error}, because of {", ".join(teachers)}; choose another teacher '
                                     '(selector), or leave --amp out') from error
            progress.step()
        writer.done(block)
