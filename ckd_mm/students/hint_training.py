"""FitNets' first stage: the student's lower half learns what the teacher's computes."""

import contextlib
import copy

import torch
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from ..errors import ConfigError, in_a_line
from ..registry import MODELS
from ..teachers import BaseCohort
from .classifier import build_classifier
from .distiller import Distiller
from .taught_student import TaughtStudent, build_distiller


@MODELS.register_module()
class HintTraining(TaughtStudent):
    r"""Hint-based training (FitNets; Romero et al., arXiv 1412.6550, Sec. 2.2): the student up to its guided
    layer, and a regressor on top of it, learn the teacher's hint layer, by the distiller's losses alone: see
    :class:`ckd_mm.losses.HintLoss`. The second stage is an ordinary distillation that starts from these
    weights.

    What the losses do not reach stays as it is: no gradient, so no weight decay and nothing for DDP to wait
    for, and no change of BatchNorm statistics. Neither student nor teacher is computed further than its last
    recorded layer, unless they are compiled. The distiller's own weights travel with
    :class:`ckd_mm.hooks.StageStateHook`.

    Args: see :class:`TaughtStudent`. The teacher's layers are modules of the cohort, as
    ``networks.0.backbone.layer2``.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, student: dict | nn.Module, cohort: dict | BaseCohort, distiller: dict,
                 data_preprocessor: dict | None = None, compile: bool | dict = False) -> None:
        student = build_classifier(student, data_preprocessor)
        reached = reached_by(student, distiller)
        super().__init__(student, cohort, distiller, compile)
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name in reached)
        self.unreached_norms = [module for module in student.modules() if _is_unreached_norm(module)]
        self.train(self.training)

    def train(self, mode: bool = True) -> 'HintTraining':
        super().train(mode)
        for module in self.unreached_norms:
            module.eval()
        return self

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """The distiller's losses."""
        with self._until_recorded('teacher', self.cohort):
            self.teacher_logits(inputs)
        with self._until_recorded('student', self.student), self.recording('student'):
            self.student(inputs, mode='tensor')
        return self.distiller_losses()

    def _until_recorded(self, role: str, network: nn.Module):
        if self.compile_options:
            return contextlib.nullcontext()
        return until_recorded(self.distiller, role, network)


class _Enough(Exception):
    """Everything is recorded."""


@contextlib.contextmanager
def until_recorded(distiller: Distiller, role: str, network: nn.Module):
    """End the forward pass of ``network``, the 'student' or 'teacher', and with it the block, once all that
    the losses take is recorded, if the distiller can tell behind which layers that is."""

    def stop_if_enough(module, inputs, output) -> None:
        if distiller.is_complete(role):
            raise _Enough

    # after the distiller's own hooks, which have been there since it was attached
    handles = [network.get_submodule(source).register_forward_hook(stop_if_enough)
               for source in distiller.sources(role) or ()]
    try:
        with contextlib.suppress(_Enough):
            yield
    finally:
        for handle in handles:
            handle.remove()


@torch.enable_grad()
def reached_by(student: nn.Module, distiller: dict) -> set[str]:
    """Names of the student's parameters that the distiller's losses reach, by a forward and backward pass of
    a copy on two images of the backbone's ``img_size``, or of 32 pixels.

    Raises:
        ConfigError: there are none, or the pass fails.
    """
    size = to_2tuple(getattr(student.backbone, 'img_size', None) or 32)
    with torch.random.fork_rng(devices=[]):
        twin, built = copy.deepcopy(student).cpu().eval(), build_distiller(distiller)
        channels = next((module.in_channels for module in twin.modules() if isinstance(module, nn.Conv2d)), 3)
        built.attach('student', twin)
        try:
            with until_recorded(built, 'student', twin), built.recording('student'):
                twin(torch.rand(2, channels, *size), mode='tensor')
            recorded = built.recorded('student')
        except (RuntimeError, ValueError, AssertionError) as error:  # too small for the strides, ...
            raise ConfigError(f'the student cannot be tried on images of {size[0]}x{size[1]} pixels with '
                              f'this distiller ({in_a_line(error)})') from error
        total = sum(tensor.float().sum() for tensor in recorded)
        if not isinstance(total, Tensor) or not total.requires_grad:
            raise ConfigError('distiller: no loss reaches a parameter of the student that learns: a loss '
                              'should compare an output of the student, of a layer behind them')
        total.backward()
    return {name for name, parameter in twin.named_parameters() if parameter.grad is not None}


def _is_unreached_norm(module: nn.Module) -> bool:
    parameters = list(module.parameters(recurse=False))
    return getattr(module, 'running_mean', None) is not None and bool(parameters) and not any(
        parameter.requires_grad for parameter in parameters)
