"""A student that learns from a cohort of teachers."""

import contextlib
import copy
from typing import Dict, List, Optional, Union

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ...compat import compile_in_place, require_mmrazor
from ...errors import ConfigError
from ...registry import MODELS
from ..cohorts import BaseCohort
from ..losses.cohort_kd_loss import check_weight


class _Outside:
    """Holds the teachers outside the module tree: no state dict, optimizer, DDP or EMA copy ever sees them."""

    def __init__(self, cohort: Union[Dict, BaseCohort, None]) -> None:
        self.cohort = cohort
        self.config = cohort if isinstance(cohort, dict) else None
        self.ready = False  # a dict is not built yet; a cohort does not know yet whose inputs it will get

    def __deepcopy__(self, memo) -> '_Outside':
        return self


@MODELS.register_module()
class CheckpointDistill(BaseModel):
    r"""loss = ``ce_weight`` * CE(student, label) + ``kd_weight`` * KD(student, cohort), Eq. 1 and 2 of CheckpointKD.

    Its checkpoints are the student's: ``state_dict`` has the keys of the plain classifier and nothing of the teachers,
    which are built from the config when the first distilled step needs them. With ``kd_weight=0`` it is the student's
    own training, bit for bit.

    Args:
        student: mmpretrain classifier (config) whose ``head`` returns logits (N, C).
        cohort: teachers (config), see :class:`BaseCohort`. Not needed with ``kd_weight=0``.
        kd_loss: config of a loss called with student logits (N, C) and teacher logits (M, N, C).
        ce_weight: weight of the student's own loss while distilling; hooks may change it in ``self.ce_weight``.
        kd_weight: weight of the distillation loss; likewise ``self.kd_weight``. At 0 no teacher is asked.
        ce_weight_after_stop: weight of the student's own loss after :meth:`stop_distillation` (ESKD goes on with CE alone).
        distiller: config of an mmrazor ``ConfigurableDistiller`` for further losses, with recorders on student and cohort.
        compile: ``torch.compile`` the backbones and necks of student and teachers, each by itself; True or its options.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, student: Union[Dict, nn.Module], cohort: Union[Dict, BaseCohort, None] = None,
                 kd_loss: Union[Dict, nn.Module] = dict(type='ckd_mm.CohortKDLoss'), ce_weight: float = 1.0, kd_weight: float = 1.0,
                 ce_weight_after_stop: float = 1.0, distiller: Optional[Dict] = None, compile: Union[bool, Dict] = False,
                 data_preprocessor: Optional[Dict] = None) -> None:
        for name, value in dict(ce_weight=ce_weight, kd_weight=kd_weight, ce_weight_after_stop=ce_weight_after_stop).items():
            check_weight(name, value)
        if cohort is None and (kd_weight > 0 or distiller is not None):
            raise ConfigError(f'cohort is missing: kd_weight={kd_weight} needs teachers; give a cohort, or kd_weight=0')
        if isinstance(student, dict):
            student = copy.deepcopy(student)
            if data_preprocessor is not None:
                student.setdefault('data_preprocessor', data_preprocessor)
            from mmpretrain.registry import MODELS as CLASSIFIERS
            student = CLASSIFIERS.build(student)
        if not isinstance(getattr(student, 'head', None), nn.Module):
            raise ConfigError(f'student of type {type(student).__name__} has no `head` whose logits could be distilled')
        super().__init__(data_preprocessor=student.data_preprocessor)
        self.student = student
        self.kd_loss = kd_loss if isinstance(kd_loss, nn.Module) else MODELS.build(kd_loss)
        self.ce_weight, self.kd_weight, self.ce_weight_after_stop = ce_weight, kd_weight, ce_weight_after_stop
        self.stopped = False
        self.distiller = self._build_distiller(distiller)
        self.compile_options = None if not compile else (dict(compile) if isinstance(compile, dict) else {})
        if self.compile_options is not None:
            compile_in_place(_networks_of(student), self.compile_options)
        self._outside = _Outside(cohort)

    def _build_distiller(self, distiller: Optional[Dict]) -> Optional[nn.Module]:
        if distiller is None:
            return None
        require_mmrazor(f'distiller={distiller.get("type")}')
        from mmrazor.registry import MODELS as RAZOR
        built = RAZOR.build(distiller)
        built.prepare_from_student(self.student)
        return built

    # ------------------------------------------------------------ the teachers
    @property
    def cohort(self) -> Optional[BaseCohort]:
        """The teachers, built at the first use; None after the stop."""
        outside = self._outside
        if outside.cohort is not None and not outside.ready:
            if isinstance(outside.cohort, dict):
                outside.cohort = MODELS.build(copy.deepcopy(outside.cohort))
            outside.cohort.expect_inputs_of(self.data_preprocessor)
            if self.compile_options is not None:
                for network in getattr(outside.cohort, 'networks', []):
                    compile_in_place(_networks_of(network), self.compile_options)
            if self.distiller is not None:
                self.distiller.prepare_from_teacher(outside.cohort)
            outside.ready = True
        return self._outside.cohort

    @property
    def cohort_config(self) -> Optional[Dict]:
        """The teachers as the model was given them; None if not as a config."""
        return self._outside.config

    @property
    def has_teachers(self) -> bool:
        """Whether there are teachers, built or not."""
        return self._outside.cohort is not None

    @property
    def distilling(self) -> bool:
        return not self.stopped and (self.kd_weight > 0 or self.distiller is not None)

    def replace_cohort(self, cohort: Union[Dict, BaseCohort]) -> None:
        """Learn from other teachers from now on; the old are released, the new built at the first use. Not after the stop."""
        if self.stopped:
            raise RuntimeError('distillation has stopped: no teacher may follow')
        self._set_cohort(cohort)

    def stop_distillation(self) -> None:
        """From now on the student trains alone; the teachers are released, or never loaded."""
        self.stopped = True
        self._set_cohort(None)

    def _set_cohort(self, cohort: Union[Dict, BaseCohort, None]) -> None:
        self._outside.cohort, self._outside.ready = cohort, False
        if self.distiller is not None:
            for recorder in self.distiller.teacher_recorders.recorders.values():
                recorder.reset_data_buffer()

    # ------------------------------------------------------------ mmengine's model interface
    def forward(self, inputs: Tensor, data_samples: Optional[list] = None, mode: str = 'tensor'):
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.student(inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples: list) -> Dict[str, Tensor]:
        """``loss_ce`` and ``loss_kd``, weighted, and the distiller's; while there is nothing to distil the student's own
        dict (its ``loss``), unchanged if its weight is 1."""
        if not self.distilling:
            losses = self.student(inputs, data_samples, mode='loss')
            weight = self.ce_weight_after_stop if self.stopped else self.ce_weight
            losses = losses if weight == 1 else _weighted(losses, weight)
            if self.distiller is not None and any(True for _ in self.distiller.parameters()):
                # connectors still belong to DDP, which waits for a gradient of every parameter
                losses['loss_distiller'] = 0 * sum(parameter.sum() for parameter in self.distiller.parameters())
            return losses
        cohort = self.cohort
        if next(cohort.parameters()).device != inputs.device:
            cohort.to(inputs.device)
        with self._recording('teacher_recorders'):
            teacher_logits = cohort(inputs)
        with self._recording('student_recorders'), _output_of(self.student.head) as outputs:
            losses = _weighted(self.student(inputs, data_samples, mode='loss'), self.ce_weight)
        if self.kd_weight > 0:
            loss = self.kd_loss(_logits(outputs, self.student), teacher_logits)
            losses['loss_kd'] = loss if self.kd_weight == 1 else loss * self.kd_weight
        if self.distiller is not None:
            losses.update(self.distiller.compute_distill_losses())
        return losses

    def _recording(self, recorders: str):
        return contextlib.nullcontext() if self.distiller is None else getattr(self.distiller, recorders)

    # ------------------------------------------------------------ the checkpoint is the student
    def state_dict(self, *args, **kwargs):
        return self.student.state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # both torch's and mmengine's loader come by here and then look for the student's weights below `student.`
        for key in [key for key in state_dict if key.startswith(prefix) and not key.startswith(f'{prefix}student.')]:
            state_dict[f'{prefix}student.{key[len(prefix):]}'] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def load_state_dict(self, state_dict, *args, **kwargs):
        return self.student.load_state_dict(state_dict, *args, **kwargs)

    def init_weights(self) -> None:
        self.student.init_weights()
        if self.distiller is not None:
            self.distiller.init_weights()

    def get_layer_depth(self, param_name: str):
        """For layer-wise learning rates: the depth of one of the student's parameters."""
        return self.student.get_layer_depth(param_name[len('student.'):])


def _networks_of(classifier: nn.Module) -> List[nn.Module]:
    """The parts worth compiling; the head stays eager, its output is read by a hook."""
    return [part for part in (getattr(classifier, name, None) for name in ('backbone', 'neck')) if isinstance(part, nn.Module)]


@contextlib.contextmanager
def _output_of(module: nn.Module):
    """Outputs of the calls of ``module`` inside the block."""
    outputs: List[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def _logits(outputs: list, student: nn.Module) -> Tensor:
    if len(outputs) != 1 or not isinstance(outputs[0], torch.Tensor) or outputs[0].dim() != 2:
        found = [tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__ for output in outputs]
        raise ConfigError(f'{type(student.head).__name__} should be called once a step and return logits (N, C); got {found}')
    return outputs[0]


def _weighted(losses: Dict[str, Tensor], weight: float) -> Dict[str, Tensor]:
    """Losses times ``weight``; 'loss' becomes 'loss_ce', since mmengine logs the sum of all under 'loss'."""
    result = {}
    for name, value in losses.items():
        if 'loss' in name and weight != 1:
            value = [item * weight for item in value] if isinstance(value, (list, tuple)) else value * weight
        result['loss_ce' if name == 'loss' else name] = value
    return result
