"""The student's config as selectors see it: a network and a short training."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier
from mmengine.hooks import EMAHook
from mmengine.runner import load_checkpoint
from mmpretrain.registry import DATASETS
from torch import nn

from ..evaluation import evaluate, top1
from ..flops import network_flops
from ..infoplane import held_out_part
from ..selection import SelectionContext
from ..trajectory import Snapshot, Trajectory, model_config_of
from .distillation_plan import DistillationPlan, as_teacher
from .stage_runner import StageRunner, latest_checkpoint


class StudentTask:
    """
    Args:
        plan: of the config whose student it is; with a probe.
        folder: of the short trainings.
    """

    def __init__(self, plan: DistillationPlan, folder: Path, log: Callable[[str], None] = print) -> None:
        self.plan, self.folder, self.log = plan, Path(folder), log
        self._flops: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the student's training depends on besides its teacher."""
        config = self.plan.plain()
        keys = ('model', 'data_preprocessor', 'train_dataloader', 'train_cfg', 'optim_wrapper',
                'param_scheduler', 'randomness', 'custom_hooks')
        return dict({key: config.get(key)
                     for key in keys}, initial_weights=self.plan.initial_weights, kd_loss=self.plan.kd_loss,
                    **self.plan.weights)

    @property
    def epochs(self) -> int:
        """Length of the student's whole training."""
        return self.plan.student_epochs

    @property
    def flops(self) -> int:
        """Of a forward pass of one image."""
        if self._flops is None:
            self._flops = network_flops(self._network(), self.plan.probe.images.pixels)
        return self._flops

    def _network(self) -> nn.Module:
        """As at the start of its training."""
        from mmpretrain.registry import MODELS
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((self.plan.config.get('randomness') or {}).get('seed') or 0)
            network = MODELS.build(copy.deepcopy(model_config_of(self.plan.plain())))
            network.init_weights()
        if self.plan.initial_weights is not None:
            load_checkpoint(network, self.plan.initial_weights, map_location='cpu')
        return network

    def distil(self, trajectory: Trajectory, snapshot: Snapshot, epochs: int) -> tuple[float, int, int]:
        """Distil from one snapshot for the first ``epochs`` epochs of the student's schedule, going on from
        where an earlier
        call for fewer epochs stopped.

        Returns:
            Accuracy in percent on the images of the probe's split, all of them; images trained on from the
            start; images judged.
        """
        config = self.plan.student_config([as_teacher(trajectory, snapshot)], scheduled=False)
        config = self._short(config, f'epoch_{snapshot.epoch}', epochs)
        runner = self._run(config)
        averaged = next((hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)),
                        runner.model)
        dataset = DATASETS.build(copy.deepcopy(self.plan.probe.dataset))
        loader = dict(self.plan.config.get('test_dataloader') or self.plan.config.val_dataloader,
                      dataset=dataset)
        metrics = evaluate(averaged,
                           dict(test_dataloader=loader, test_evaluator=dict(type='Accuracy', topk=(1, ))),
                           self.log, 'the student')
        return top1(metrics), epochs * len(runner.train_dataloader.dataset), len(dataset)

    def _short(self, config: Config, name: str, epochs: int) -> Config:
        config.work_dir = str(self.folder / name)
        config.experiment_name = f'{self.plan.work_dir.name}_select_{name}_{epochs}'
        config.train_cfg.max_epochs = epochs
        for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
            config[key] = None
        config.custom_hooks = [
            hook for hook in config.custom_hooks if hook.get('type') != 'ckd_mm.SnapshotHook'
        ]
        probe = self.plan.probe
        if probe.probe_split == 'held_out':
            config.train_dataloader.dataset = ConfigDict(
                held_out_part(self.plan.plain().train_dataloader.dataset, probe.held_out, probe.seed, 'rest'))
            if self.plan.cache is not None:
                self.plan.cache.show_views(config)
        checkpoint = latest_checkpoint(config.work_dir, self.log)
        config.resume = checkpoint is not None
        config.load_from = checkpoint or self.plan.initial_weights
        return config

    def _run(self, config: Config) -> StageRunner:
        runner = StageRunner.from_cfg(config)
        schedulers = runner.param_schedulers or []
        for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
            # the first part of the whole schedule, not the whole in short
            scheduler.setdefault(
                'end', self.epochs * (1 if scheduler.get('by_epoch', True) else len(runner.train_dataloader)))
        runner.train()
        barrier()  # rank 0 may still be writing what the next call looks for
        return runner


def selection_context(plan: DistillationPlan, folder: Path,
                      log: Callable[[str], None] = print) -> SelectionContext:
    """What the plan's selector may look at, but for the information plane; scores and short trainings are
    kept in ``folder``."""
    if plan.probe is not None:
        plan.probe.log = log
    return SelectionContext(probe=plan.probe,
                            student=StudentTask(plan, folder, log) if plan.probe is not None else None,
                            folder=Path(folder), log=log)
