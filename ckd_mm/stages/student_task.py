"""The student as selectors see it: a network, and a short training by one snapshot."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier
from mmpretrain.registry import DATASETS, MODELS
from torch import nn

from ..evaluation import evaluate, top1
from ..flops import network_flops
from ..infoplane import held_out_part
from ..infoplane.probe import Probe
from ..pipeline.run import Run
from ..pipeline.stage_runner import StageRunner, latest_checkpoint
from ..training import averaged_weights, result_settings
from ..trajectory import Snapshot, Trajectory, model_config_of
from .select import as_teacher

if TYPE_CHECKING:
    from .student import StudentStage


class StudentTask:
    """
    Args:
        run: whose student it is.
        stage: that trains the student.
        probe: held-out images that the student is measured on.
        folder: of the short trainings.
    """

    def __init__(self, run: Run, stage: 'StudentStage', probe: Probe, folder: Path) -> None:
        self.run, self.stage, self.probe, self.folder = run, stage, probe, Path(folder)
        self.log: Callable[[str], None] = run.log
        self._flops: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the student's training depends on besides its teacher."""
        distill = self.stage.distillation.settings
        return dict(result_settings(self.run.student_training()), initial_weights=self.run.initial_weights,
                    kd_loss=distill.kd_loss, **distill.weights())

    @property
    def epochs(self) -> int:
        """Length of the student's whole training."""
        return self.run.student_epochs

    @property
    def flops(self) -> int:
        """Of a forward pass of one image."""
        if self._flops is None:
            with torch.random.fork_rng(devices=[]):
                network: nn.Module = MODELS.build(copy.deepcopy(model_config_of(self.run.student_training())))
            self._flops = network_flops(network, self.probe.images.pixels)
        return self._flops

    def distil(self, trajectory: Trajectory, snapshot: Snapshot, epochs: int) -> tuple[float, int, int]:
        """Distil from one snapshot for the first ``epochs`` epochs of the student's schedule, going on from
        where an earlier call for fewer epochs stopped.

        Returns:
            Accuracy in percent on the images of the probe's split, all of them; images trained on from the
            start; images it was measured on.
        """
        config = self.stage.short_config(self.run, [as_teacher(trajectory, snapshot)])
        runner = self._train(self._short(config, f'epoch_{snapshot.epoch}', epochs))
        network = averaged_weights(runner) or runner.model
        dataset = DATASETS.build(copy.deepcopy(self.probe.dataset))
        own = self.run.config
        loader = dict(own.get('test_dataloader') or own.val_dataloader, dataset=dataset)
        metrics = evaluate(network,
                           dict(test_dataloader=loader, test_evaluator=dict(type='Accuracy', topk=(1, ))),
                           self.log, 'the student')
        return top1(metrics), epochs * len(runner.train_dataloader.dataset), len(dataset)

    def _short(self, config: Config, name: str, epochs: int) -> Config:
        config.work_dir = str(self.folder / name)
        config.experiment_name = f'{self.run.work_dir.name}_select_{name}_{epochs}'
        config.train_cfg.max_epochs = epochs
        for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
            config[key] = None
        config.custom_hooks = [
            hook for hook in config.custom_hooks if hook.get('type') != 'ckd_mm.SnapshotHook'
        ]
        probe, cache = self.probe, self.stage.cache
        if probe.probe_split == 'held_out':
            images = self.run.student_training().train_dataloader.dataset
            config.train_dataloader.dataset = ConfigDict(
                held_out_part(images, probe.held_out, probe.seed, 'rest'))
            if cache is not None:
                cache.show_views(config)
        checkpoint = latest_checkpoint(config.work_dir, self.log)
        config.resume = checkpoint is not None
        config.load_from = checkpoint or self.run.initial_weights
        return config

    def _train(self, config: Config) -> StageRunner:
        runner = StageRunner.from_cfg(config)
        schedulers = runner.param_schedulers or []
        for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
            # the first part of the whole schedule, not the whole in short
            by_epoch = scheduler.get('by_epoch', True)
            scheduler.setdefault('end', self.epochs * (1 if by_epoch else len(runner.train_dataloader)))
        runner.train()
        barrier()  # rank 0 may still be writing what the next call looks for
        return runner
