"""The student as selectors see it: a network, and a short training by one snapshot."""

import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier
from mmpretrain.registry import DATASETS, MODELS

from ..distributed import on_main
from ..evaluation import evaluate, top1
from ..flops import network_flops
from ..infoplane.probe import Probe
from ..pipeline.run import Run
from ..pipeline.stage_runner import StageRunner, latest_checkpoint
from ..pipeline.training_stage import stage_config
from ..training import averaged_weights, exclude_held_out, result_settings
from ..trajectory import Snapshot, Trajectory, model_config_of
from .select import as_teacher

if TYPE_CHECKING:
    from .student import StudentStage


class StudentTask:
    """Short trainings of the student for selectors that compare snapshots by their students.

    Args:
        stage: that trains the student.
        probe: images that the student is measured on.
        folder: of the short trainings.
    """

    def __init__(self, run: Run, stage: 'StudentStage', probe: Probe, folder: Path) -> None:
        self.run, self.stage, self.probe, self.folder = run, stage, probe, Path(folder)
        self.epochs = int(run.length)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the student's training depends on besides its teacher."""
        distill = self.stage.distillation.settings
        return dict(result_settings(self.run.student_training()), initial_weights=self.run.initial_weights,
                    kd_loss=distill.kd_loss, **distill.weights())

    @cached_property
    def flops(self) -> int:
        """Of a forward pass of one image."""
        with torch.random.fork_rng(devices=[]):
            network = MODELS.build(copy.deepcopy(model_config_of(self.run.student_training())))
        return network_flops(network, self.probe.images.pixels)

    def distil(self, trajectory: Trajectory, snapshot: Snapshot, epochs: int) -> tuple[float, int, int]:
        """Distil from one snapshot for the first ``epochs`` epochs of the student's schedule, going on from
        where an earlier call for fewer epochs stopped.

        Returns:
            Accuracy in percent on the images of the probe's split, all of them; images trained on from the
            start; images it was measured on.
        """
        teacher = as_teacher(trajectory, snapshot)
        runner = self._train(self._config(teacher, f'epoch_{snapshot.time}', epochs))
        dataset = DATASETS.build(copy.deepcopy(self.probe.dataset))
        own = self.run.config
        loader = dict(own.get('test_dataloader') or own.val_dataloader, dataset=dataset)
        metrics = evaluate(averaged_weights(runner) or runner.model,
                           dict(test_dataloader=loader, test_evaluator=dict(type='Accuracy', topk=(1, ))),
                           self.run.log, 'the student')
        return top1(metrics), epochs * len(runner.train_dataloader.dataset), len(dataset)

    def _config(self, teacher: dict, name: str, epochs: int) -> Config:
        """Distilled to the end from one snapshot, whatever the schedule, without the held-out images."""
        config = exclude_held_out(self.run.student_training(),
                                  self.probe if self.probe.probe_split == 'held_out' else None)
        if self.stage.cache is not None:
            self.stage.cache.show_views(config)
        cohort = self.stage.distillation.settings.cohort_of([teacher], self.run.settings.teacher.model)
        config = stage_config(self.run, self.stage.distilled(config, cohort, False), self.stage.name, [])
        config.work_dir = str(self.folder / name)
        config.experiment_name = f'{self.run.work_dir.name}_select_{name}_{epochs}'
        config.train_cfg.max_epochs = epochs
        config.val_dataloader = config.val_cfg = config.val_evaluator = None
        if (config.get('default_hooks') or {}).get('checkpoint'):
            config.default_hooks.checkpoint.pop('out_dir', None)  # where those of other runs may lie
        checkpoint = on_main(lambda: latest_checkpoint(config.work_dir, self.run.log))
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
        runner.train(self.run.stop)
        barrier()  # rank 0 may still be writing what the next call looks for
        return runner
