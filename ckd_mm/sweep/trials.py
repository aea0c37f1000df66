"""A trial: one student, distilled with a config that differs from the others' in a few keys."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import reading
from ..hooks.schedule_hook import schedule_class
from ..hooks.stop_when_overtaken_hook import StopWhenOvertakenHook
from ..training import as_list
from .pipeline_access import METHOD_KEYS, RUNNER_KEYS, open_stage

ALONE, EPOCH = 'alone', 'epoch'


@dataclass(frozen=True)
class Trial:
    kind: str  # 'epoch': one snapshot teaches; 'alone': no teacher; or the kind of an ensemble
    seed: int  # of the student
    epoch: int | None = None  # of the snapshot; None: the last
    k: int | None = None  # size of the ensemble
    overrides: dict[str, Any] = field(default_factory=dict)  # dotted keys as of ``--cfg-options``

    @property
    def name(self) -> str:
        who = self.kind if self.kind == ALONE else f'{self.kind}_{self.k or self.epoch or "last"}'
        settings = ''.join(f'_{key.split(".")[-1]}_{value}' for key, value in self.overrides.items())
        return f'{who}{settings}_seed_{self.seed}'.replace('/', '-').replace(' ', '')

    @property
    def selector(self) -> dict[str, Any]:
        if self.kind not in (ALONE, EPOCH):
            return dict(type='ensemble', kind=self.kind, k=self.k)
        return dict(type='last') if self.epoch is None else dict(type='epoch', epochs=self.epoch)

    def config(self, sweep: Config, folder: Path, trajectories: Sequence[Path]) -> Config:
        """The config of an ordinary distillation run in ``folder``, from that of the ``sweep`` and the
        folders of its teachers."""
        config = copy.deepcopy(sweep)
        with reading(f'trial {self.name}'):
            config.merge_from_dict(self.overrides)
        config.work_dir, config.launcher = str(folder), 'none'
        config.setdefault('randomness', ConfigDict()).seed = self.seed
        for schedule in comparing_schedules(config):  # on the images of a probe, which trials do not have
            probe = config.get('probe') or {}
            schedule.update({key: probe[key] for key in ('held_out', 'num_images', 'seed') if key in probe})
        config.selector, config.probe, config.student_alone = ConfigDict(self.selector), None, False
        # a network is named only where checkpoints may not say it themselves
        given = {'trajectory', 'checkpoint'} & {*config.teacher}
        kept = ('model', 'data_preprocessor') if given else ('data_preprocessor', )
        own = training_of(config.teacher) if config.get('heads') is not None else {}
        own.update({key: config.teacher[key] for key in kept if config.teacher.get(key) is not None})
        folders = [str(path) for path in trajectories]
        config.teacher = ConfigDict(own, trajectory=folders if len(folders) > 1 else folders[0])
        if self.kind == ALONE:
            # the loader of a baseline: a schedule may hold out images, and cached targets show views
            config.student_alone = 1
            run, baseline = open_stage(config, 'student_alone')
            config.train_dataloader, config.student_alone = baseline.config(run).train_dataloader, False
            config.distill = ConfigDict(ce_weight=1.0, kd_weight=0.0)  # plain training, bit for bit
            for key in METHOD_KEYS:
                config.pop(key, None)
        return config


def comparing_schedules(config: Config) -> list[dict]:
    """Those of ``distill.schedule`` that compare student and teacher on held-out images."""
    return [item for item in as_list((config.get('distill') or {}).get('schedule'))
            if issubclass(schedule_class(item), StopWhenOvertakenHook)]


def training_of(teacher: dict) -> dict[str, Any]:
    """How a teacher, and heads on it, are trained otherwise than the student; not on which images."""
    found = {key: copy.deepcopy(value) for key, value in teacher.items()
             if key in RUNNER_KEYS and key not in ('load_from', 'val_dataloader')}
    if isinstance(found.get('train_dataloader'), dict):
        found['train_dataloader'].pop('dataset', None)
    return found
