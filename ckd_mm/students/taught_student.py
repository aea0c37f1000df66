"""A student beside its teachers: what is saved, compiled and kept outside."""

import contextlib

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..compat import compiled_networks_run_hooks, versions_in_a_line
from ..errors import ConfigError
from ..registry import MODELS
from ..teachers import BaseCohort, build_cohort
from ..teachers.outside import Outside
from .classifier import build_classifier, compile_classifier, move_keys
from .distiller import Distiller
from .mmrazor_distiller import MMRazorDistiller

CHANNELS_LAST_ON = ('cpu', )  # device types where it was measured to be faster for teachers


class TaughtStudent(BaseModel):
    """A student whose checkpoints are its own: ``state_dict`` has the keys of the student's classifier and
    nothing of connectors or teachers, which are built from the config at their first use. Subclasses write
    ``loss``.

    Args:
        student: mmpretrain classifier (config) whose ``head`` returns logits (N, C).
        cohort: teachers (config), see :class:`BaseCohort`.
        distiller: config of a :class:`FeatureDistiller`, or of an mmrazor ``ConfigurableDistiller``.
        compile: ``torch.compile`` the backbones and necks of student and teachers, each by itself; True or
            its options.
        data_preprocessor: for a student whose config has none.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, student: dict | nn.Module, cohort: dict | BaseCohort | None = None,
                 distiller: dict | None = None, compile: bool | dict = False,
                 data_preprocessor: dict | None = None) -> None:
        student = build_classifier(student, data_preprocessor)
        super().__init__(data_preprocessor=student.data_preprocessor)
        self.student = student
        self.distiller = None if distiller is None else build_distiller(distiller)
        if self.distiller is not None:
            self.distiller.attach('student', student)
            if compile and not compiled_networks_run_hooks():
                raise ConfigError(f'compile={compile!r} and a distiller: it sees nothing of '
                                  f'compiled networks with {versions_in_a_line()}; leave compile out, or use '
                                  'the current stack')
        self.compile_options = compile
        compile_classifier(student, compile)
        self.outside = Outside(cohort)
        self._channels_last = False

    @property
    def head(self) -> nn.Module:
        """The student's, where mmpretrain's hooks look for it."""
        return self.student.head

    @property
    def cohort(self) -> BaseCohort | None:
        """The teachers, built at the first use; None if there are none."""
        outside = self.outside
        if outside.cohort is not None and not outside.ready:
            outside.cohort = build_cohort(outside.cohort)
            outside.cohort.expect_inputs_of(self.data_preprocessor)
            if self.distiller is not None:
                self.distiller.attach('teacher', outside.cohort)
            outside.ready, outside.prepared = True, False
        return outside.cohort

    def to_channels_last(self) -> None:
        """Put the teachers into channels_last before their next forward pass, on any device."""
        self._channels_last, self.outside.prepared = True, False

    @property
    def cohort_config(self) -> dict | None:
        """The teachers as the model was given them; None if not as a config."""
        return self.outside.config

    @property
    def has_teachers(self) -> bool:
        """Whether there are teachers, built or not."""
        return self.outside.cohort is not None

    def teacher_logits(self, inputs: Tensor) -> Tensor:
        """Logits (M, N, C) of the teachers; the distiller's recorders see their forward pass."""
        cohort = self.cohort
        if next(cohort.parameters()).device != inputs.device:
            cohort.to(inputs.device)
        if not self.outside.prepared:  # only now the size of the images is known
            self._prepare_for_inference(cohort, inputs)
            self.outside.prepared = True
        with self.recording('teacher'):
            return cohort(inputs)

    @torch.no_grad()
    def broken_teachers(self, batch: dict) -> list[str]:
        """Which teachers give logits that are not finite for the images of a batch of the data loader."""
        if self.cohort is None:
            return []
        logits = self.teacher_logits(self.data_preprocessor(batch, True)['inputs'])
        self.clear_distiller()
        names = self.cohort.sources or [f'teacher {number}' for number in range(1, len(logits) + 1)]
        return [name for name, own in zip(names, logits) if not torch.isfinite(own).all()]

    def _prepare_for_inference(self, cohort: BaseCohort, inputs: Tensor) -> None:
        """Memory format, then compilation. Teachers whose feature maps are recorded stay as they are, unless
        :meth:`to_channels_last` was called. Its forward passes on noise are not for recorders."""
        recorded = self.distiller is not None and self.distiller.sources('teacher') != set()
        if self._channels_last or (inputs.device.type in CHANNELS_LAST_ON and not recorded):
            cohort.to_channels_last(inputs)
        for network in getattr(cohort, 'networks', []):
            compile_classifier(network, self.compile_options)

    def recording(self, role: str):
        return contextlib.nullcontext() if self.distiller is None else self.distiller.recording(role)

    def distiller_losses(self) -> dict[str, Tensor]:
        """The distiller's losses of what it has recorded, which does not outlive the step."""
        losses = self.distiller.losses()
        self.clear_distiller()
        return losses

    def clear_distiller(self) -> None:
        if self.distiller is not None:
            self.distiller.clear()

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        raise NotImplementedError

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.student(inputs, data_samples, mode=mode)

    # ------------------------------------------------------------ the checkpoint is the student
    def state_dict(self, *args, **kwargs):
        return self.student.state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        move_keys(state_dict, prefix, 'student.', to='student.')
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


def build_distiller(config: dict) -> Distiller:
    """
    Raises:
        ConfigError: naming the part that is wrong.
        EnvironmentConflict: it is mmrazor's, which is missing or cannot be imported.
    """
    kind = config.get('type')
    kind = MODELS.get(kind) if str(kind).startswith('ckd_mm.') or kind in MODELS.module_dict else kind
    own = isinstance(kind, type) and issubclass(kind, Distiller)
    return MODELS.build(config) if own else MMRazorDistiller(config)
