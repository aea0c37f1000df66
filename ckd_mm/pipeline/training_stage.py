"""Stages that train a network as an ordinary mmengine run."""

import copy
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier
from mmengine.runner import IterBasedTrainLoop
from torch import Tensor, nn

from ..compat import versions
from ..counting import ITER, finished, length_of, times_of, unit_of
from ..data.labels import classes_of, require_labels
from ..distributed import on_main
from ..evaluation import evaluate
from ..files import problem_of_file
from ..settings import RUNNER_KEYS
from ..training import overrides_of, result_settings, trained_model, type_name, unwrap
from ..trajectory import model_config_of, write_snapshot
from . import rehearsal
from .changes import Changes, named_by_type, training_changes
from .network_checks import check_network
from .owner import owner_of
from .run import Run
from .schedule_check import check_learning_rate
from .stage import Check, R, Result, Stage
from .stage_runner import StageRunner, latest_checkpoint

# mmengine deletes the old checkpoint before the new one is there: with 1 a kill loses both
KEPT_CHECKPOINTS = 2


@dataclass(kw_only=True)
class NetworkResult(Result):
    """A trained network.

    Args:
        metrics: on the test set, last weights, in mmengine's names.
        epochs: that it was trained, or iterations.
        checkpoint: its file in the work_dir, weights only.
        sha256: of this file.
        work_dir: of the training.
    """
    metrics: dict[str, float]
    epochs: int
    checkpoint: str | None = None
    sha256: str | None = None
    work_dir: str | None = None

    @property
    def files(self) -> dict[str, str]:
        return {} if None in (self.checkpoint, self.sha256) else {self.checkpoint: self.sha256}


class TrainingStage(Stage[R]):
    """A stage that trains.

    Attributes:
        key: of the config's dict that overrides the student's training, say 'teacher' or 'assistants[0]'; ''
            if there is none.
    """
    key = ''

    def training(self, run: Run) -> Config:
        """Its images, optimizer and network, as if it had no teachers."""
        raise NotImplementedError

    def config(self, run: Run) -> Config:
        """An ordinary mmengine config of the whole training."""
        raise NotImplementedError

    def finish(self, run: Run, runner: StageRunner) -> R:
        """What the finished training leaves."""
        raise NotImplementedError

    def depends_on(self, run: Run) -> dict[str, Any]:
        return result_settings(self.config(run))

    def changes(self, run: Run, before: dict[str, Any], now: dict[str, Any]) -> Changes:
        changes = training_changes(named_by_type(before), named_by_type(now))
        keys = {re.split(r'[ .]', change)[0] for change in changes.refused} & {*RUNNER_KEYS}
        inherited = sorted(key for key in keys if self.key and self.setting(run, key) == key)
        if inherited:
            own = ', '.join(f'{key}=...' for key in inherited)
            changes = changes._replace(remedy=f' (for this stage alone in {self.key}=dict({own}))')
        return changes

    def execute(self, run: Run) -> R:
        return self.finish(run, train(run, self.config(run)))

    def is_current(self, run: Run, result: R) -> bool:
        """False where a file that it left is gone, but its last checkpoint is there, from which it is written
        again; warns of one that cannot be written again, or has changed."""
        problems = {name: problem_of_file(run.work_dir / name, sha256)
                    for name, sha256 in result.files.items()}
        gone = [name for name in problems if not (run.work_dir / name).exists()]
        trained = result.epochs == length_of(self.training(run).train_cfg)  # not stopped early
        if gone and trained and latest_checkpoint(run.work_dir / self.name) is not None:
            run.warn(f'{run.work_dir / gone[0]}, which the {self.title} left, is gone: it is written again '
                     'from the last checkpoint')
            return False
        for name, problem in problems.items():
            if problem is not None:
                run.warn(f'{run.work_dir / name}, which the {self.title} left, {problem}; the results are of '
                         'the one that it left')
        return True

    def checks(self, run: Run) -> Iterator[Check]:
        config = self.training(run)
        yield Check('network', lambda: check_network(self.title, run, config))
        yield Check('learning rate', lambda: check_learning_rate(self, run, config))
        if (why := self.needs_labels(run)) is not None:
            images = 'train_dataloader.dataset'
            yield Check('labels', lambda: require_labels(self.setting(run, images), run.data_set(
                config.train_dataloader.dataset, self.setting(run, images)), why))

    def needs_labels(self, run: Run) -> str | None:
        """What needs the labels of the training images, for a message; None if nothing does."""
        return f'the {self.title} learns from'

    def rehearse(self, run: Run) -> str | None:
        runner, found = self.rehearse_training(run)
        found += self.look_at(run, unwrap(runner.model))
        with rehearsal.testing(self.title, run):
            run.results[self.name] = self.finish(run, runner)
        return found

    def rehearse_training(self, run: Run) -> tuple[StageRunner, str]:
        return rehearsal.rehearse(self.title, self.config(run), lambda key: self.setting(run, key), run)

    def look_at(self, run: Run, model: nn.Module) -> str:
        """What more there is to say of a model that was trained in a rehearsal. Raises CkdError."""
        return ''

    def checkpoint_weights(self, run: Run) -> dict[str, Tensor]:
        """Weights as they are in the checkpoints of the training, not their values."""
        return run.network(self.title, model_config_of(self.training(run))).state_dict()

    def setting(self, run: Run, key: str) -> str:
        """The name of a key for messages: 'teacher.train_dataloader', or 'train_dataloader' if inherited."""
        return f'{self.key}.{key}' if key in overrides_of(run.config).get(self.key, {}) else key


def stage_config(run: Run, config: Config, name: str, hooks: list[dict]) -> Config:
    """``config`` as a training in the stage's own folder, with these further hooks; in place."""
    config.work_dir = str(run.work_dir / name)
    # mmengine mixes up the logs of runs of one name that start together
    config.experiment_name = f'{run.work_dir.name}_{name}'
    custom = list(config.get('custom_hooks') or [])
    if not any(type_name(hook) == 'SyncBuffersHook' for hook in custom):
        # each process has its own BatchNorm statistics: averaged, those evaluated are also those written. In
        # one process it does nothing, and is there so that the run may go on with several
        custom.insert(0, dict(type='SyncBuffersHook'))
    config.custom_hooks = custom + hooks + [
        dict(type='ckd_mm.FiniteLossHook'), dict(type='ckd_mm.StageStateHook')]
    checkpoint = (config.get('default_hooks') or {}).get('checkpoint')
    if checkpoint and checkpoint.get('max_keep_ckpts') == 1:
        checkpoint['max_keep_ckpts'] = KEPT_CHECKPOINTS
    if config.train_cfg.get('by_epoch') and 'type' not in config.train_cfg:
        del config.train_cfg['by_epoch']
        config.train_cfg.type = 'ckd_mm.ResumableEpochLoop'
    elif unit_of(config.train_cfg) == ITER:
        count_iterations(config)
    # the final accuracy is measured once, afterwards
    config.test_dataloader = config.test_cfg = config.test_evaluator = None
    return config


def count_iterations(config: Config) -> None:
    """Let loop and logs of a training count iterations, in place. Where logs do not say what they count they
    would count epochs, of which there are none."""
    loop = config.train_cfg
    if 'type' not in loop:
        del loop['by_epoch']
    if type_name({'type': IterBasedTrainLoop, **loop}) == 'IterBasedTrainLoop':
        loop.type = 'ckd_mm.ResumableIterLoop'
    config.log_processor = dict(dict(by_epoch=False), **(config.get('log_processor') or {}))
    logger = config.setdefault('default_hooks', ConfigDict()).get('logger', {})
    if logger is not None:
        config.default_hooks.logger = dict(dict(type='LoggerHook', log_metric_by_epoch=False), **logger)


def train(run: Run, config: Config, resume_from: str | None = None) -> StageRunner:
    """Train; a resumed run goes on from the last checkpoint, if it came that far, or from ``resume_from``."""
    elsewhere = write_apart(run, config)
    if run.resumes:
        checkpoint = resume_from or on_main(lambda: latest_checkpoint(config.work_dir, run.warn, elsewhere))
        config.resume = checkpoint is not None
        if config.resume:
            config.load_from = checkpoint
    runner = StageRunner.from_cfg(config)
    runner.train(run.stop)
    barrier()  # rank 0 may still be writing
    return runner


def write_apart(run: Run, config: Config) -> Path | None:
    """Let a training write its checkpoints below ``CheckpointHook(out_dir=...)`` where no other run does, in
    place; returns that folder, or None if there is no ``out_dir``."""
    checkpoint = (config.get('default_hooks') or {}).get('checkpoint')
    if not (checkpoint and checkpoint.get('out_dir')):
        return None
    checkpoint.out_dir = os.path.join(checkpoint.out_dir, on_main(lambda: owner_of(run.work_dir)['name']))
    return Path(checkpoint.out_dir, Path(config.work_dir).name)  # the name is added by the hook


def evaluated(run: Run, runner: StageRunner, config: Config, publish: Path,
              network: nn.Module | None = None) -> NetworkResult:
    """Evaluate the last weights, and write them, alone, to the file ``publish``.

    Args:
        config: of the network, and of its test set.
        network: the part of the runner's model that counts; default: all of it.
    """
    seconds = runner.seconds  # before the evaluation
    network = trained_model(runner) if network is None else network
    what = f'the {publish.stem.replace("_", " ")}'
    metrics = evaluate(network, config, run.log, what, few=run.rehearses)
    sha256 = on_main(lambda: write_network(publish, runner, network, config, metrics=metrics))
    return NetworkResult(metrics=metrics, epochs=finished(runner), checkpoint=publish.name, sha256=sha256,
                         work_dir=runner.work_dir, stage_seconds=seconds)


def write_network(file: Path, runner: StageRunner, network: nn.Module, config: Config, **extra: Any) -> str:
    """Write the weights for mmpretrain's tools, and return the SHA-256 of the file.

    Raises:
        DivergedError: they are not finite.
    """
    classes = classes_of(runner.train_dataloader.dataset)
    return write_snapshot(file, network.state_dict(), **times_of(finished(runner), runner), lr=None,
                          model=copy.deepcopy(model_config_of(config)), classes=classes,
                          extra=dict(extra, cfg=config.pretty_text, versions=versions())).sha256
