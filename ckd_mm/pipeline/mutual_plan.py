"""Deep mutual learning: no teacher, but a peer."""

import copy
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError
from ..losses.cohort_kd_loss import CohortKDLoss
from ..trajectory import model_config_of
from ..validate import check_number
from .settings import METHOD_KEYS, as_list, require_known, type_name
from .student_plan import StudentPlan

DISTILL_KEYS = ('tau', 'ce_weight', 'kd_weight')


class MutualPlan(StudentPlan):
    """``peer=dict(model=...)``: student and peer are trained together, each learns from the other
    (:class:`ckd_mm.students.DeepMutualLearning`).

    Args:
        config: whole, with ``work_dir``.

    Raises:
        ConfigError: a setting cannot work; the message names it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._refuse('with `peer` the networks learn from each other, there is no other teacher', 'teacher',
                     'probe', 'selector', *METHOD_KEYS)
        self._refuse('with `peer` the weights of two networks are trained together', 'student_snapshots')
        require_known('peer', config.peer, ('model', ))
        if not isinstance(config.peer.get('model'), dict):
            raise ConfigError('peer.model is missing: give peer=dict(model=...), an mmpretrain classifier')
        # a command line can set an inherited key to None, but not take it out
        self.distill: dict[str, Any] = {
            key: value
            for key, value in (config.get('distill') or {}).items() if value is not None
        }
        require_known('distill (with `peer`)', self.distill, DISTILL_KEYS)
        CohortKDLoss(tau=self.distill.get('tau', 1.0))
        for name in ('ce_weight', 'kd_weight'):
            check_number(f'distill.{name}', self.distill.get(name, 1.0), at_least=0)

    def describe(self) -> str:
        return f'student and peer, {self.student_epochs} epochs'

    @property
    def networks(self) -> dict[str, dict]:
        return dict(super().networks, peer=self._with_statistics(self.config.peer.model))

    def _with_statistics(self, model: dict) -> dict:
        config = self.plain()
        config.model = copy.deepcopy(model)
        return model_config_of(config)

    def student_config(self) -> Config:
        """Both networks in one model; the peer is validated too."""
        config = self._student_training()
        students = [self._with_statistics(model) for model in (config.model, self.config.peer.model)]
        config.model = ConfigDict(type='ckd_mm.DeepMutualLearning', students=students, **self.distill,
                                  compile=config.get('compile') or False)
        config.compile = None
        if config.get('val_evaluator') is not None:
            metrics = as_list(config.val_evaluator)
            config.val_evaluator = metrics + [
                _of_the_peer(metric) for metric in metrics if type_name(metric) == 'Accuracy'
            ]
        return self._as_stage(config, 'student', [])


def _of_the_peer(metric: dict) -> dict:
    """Logged beside the student's, so under a name of its own."""
    own = dict(copy.deepcopy(metric), type='ckd_mm.PeerAccuracy')
    return own if own.get('prefix') is None else dict(own, prefix=f'peer_{own["prefix"]}')
