"""FitNets' first stage: the student's lower half learns what the teacher's computes."""

import contextlib
import copy

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..registry import MODELS
from ..teachers import BaseCohort
from .classifier import build_classifier
from .taught_student import TaughtStudent, build_distiller

USUAL_SIZES = (32, 224)  # of images; which layers lie before the guided one does not depend on it


@MODELS.register_module()
class HintTraining(TaughtStudent):
    r"""Hint-based training (FitNets; Romero et al., arXiv 1412.6550, Sec. 2.2): the student up to its guided
    layer, and a regressor r on top of it, learn the teacher's hint layer, by the distiller's losses alone.
    With mmrazor's ``ConvModuleConnector`` as r and ``L2Loss(normalize=False, loss_weight=0.5)`` that is their
    Eq. 3, :math:`1/2 \| hint - r(guided) \|^2`, mean over the batch; with ``div_element=True`` and
    ``loss_weight=1`` the mean squared error. The second stage is an ordinary distillation that starts from
    these weights.

    What the losses do not reach stays as it is: no gradient, so no weight decay and nothing for DDP to wait
    for, and no change of BatchNorm statistics. Neither student nor teacher is computed further than its last
    recorded layer, unless they are compiled. Connectors travel with :class:`ckd_mm.hooks.StageStateHook`.

    Args:
        student, data_preprocessor, compile: see :class:`TaughtStudent`.
        cohort: teachers (config); the sources of the teacher's recorders are modules of it, say
            ``networks.0.backbone.layer2``.
        distiller: config of an mmrazor ``ConfigurableDistiller``.
        input_size: height and width of images with which it is found out what the losses reach, in a forward
            and backward pass of two of them; default: what the backbone says, 32, or 224.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, student: dict | nn.Module, cohort: dict | BaseCohort | None = None,
                 distiller: dict | None = None, data_preprocessor: dict | None = None,
                 compile: bool | dict = False, input_size: int | None = None) -> None:
        if cohort is None or distiller is None:
            raise ConfigError(f'{"cohort" if cohort is None else "distiller"} is missing: hints need '
                              'teachers, and a distiller that says which of their layers is the hint')
        student = build_classifier(student, data_preprocessor)
        parameters, statistics = reached_by(student, distiller, input_size)
        super().__init__(student, cohort, distiller, compile)
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name in parameters)
        self.unreached = [module for name, module in student.named_modules()
                          if _has_statistics(module) and name not in statistics]
        used = {record.get('connector') for record in _records(self.distiller)}
        for name, connector in self.distiller.connectors.items():
            connector.requires_grad_(name in used)
        self.train(self.training)

    def train(self, mode: bool = True) -> 'HintTraining':
        super().train(mode)
        for module in self.unreached if mode else ():
            module.eval()
        return self

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """The distiller's losses."""
        with self._no_further_than_recorded(self.cohort, from_student=False):
            self.teacher_logits(inputs)
        with self._no_further_than_recorded(self.student, from_student=True):
            with self.recording('student_recorders'):
                self.student(inputs, mode='tensor')
        return self.distiller_losses()

    @contextlib.contextmanager
    def _no_further_than_recorded(self, network: nn.Module, from_student: bool):
        """Leave the block as soon as the recorders have all that the losses want."""
        manager = self.distiller.student_recorders if from_student else self.distiller.teacher_recorders
        wanted = {}
        for record in _records(self.distiller, from_student):
            name, count = record['recorder'], record.get('record_idx', 0) + 1
            wanted[name] = max(wanted.get(name, 0), count)
        recorders = {name: manager.get_recorder(name) for name in wanted}
        if self.compile_options is not None or any(
                type(item).__name__ != 'ModuleOutputsRecorder' for item in recorders.values()):
            yield
            return

        def stop_if_enough(module, inputs, output) -> None:
            if all(len(recorder.data_buffer) >= wanted[name] for name, recorder in recorders.items()):
                raise _Enough

        # after the recorders' own hooks, which have been there since the distiller was prepared
        handles = [network.get_submodule(recorder.source).register_forward_hook(stop_if_enough)
                   for recorder in recorders.values()]
        try:
            yield
        except _Enough:
            return
        finally:
            for handle in handles:
                handle.remove()


class _Enough(Exception):
    """Everything is recorded."""


def reached_by(student: nn.Module, distiller: dict,
               input_size: int | None = None) -> tuple[set[str], set[str]]:
    """Names of the student's parameters, and of its modules with running statistics, that the distiller's
    losses reach: found by a forward and backward pass of a copy.

    Raises:
        ConfigError: there are none, or the pass fails.
    """
    sizes = [input_size] if input_size is not None else USUAL_SIZES
    if input_size is None and getattr(student.backbone, 'img_size', None) is not None:
        sizes = [student.backbone.img_size]
    problem = None
    for size in sizes:
        try:
            found = _reached_with(student, distiller, (size, size) if isinstance(size, int) else tuple(size))
        except (RuntimeError, ValueError, AssertionError) as error:  # say too small for the strides
            problem = problem or error
            continue
        if not found[0]:
            raise ConfigError('distiller: no loss reaches a parameter of the student that learns: '
                              'loss_forward_mappings should have an entry with from_student=True, of a layer '
                              'behind them')
        return found
    raise ConfigError(f'the student cannot be tried on images of {" or ".join(map(str, sizes))} pixels with '
                      'these recorders; if their size is the reason, say input_size=... '
                      f'({type(problem).__name__}: {problem})') from problem


def _reached_with(student: nn.Module, distiller: dict, size: tuple[int, int]) -> tuple[set[str], set[str]]:
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        twin, probe = copy.deepcopy(student).cpu().eval(), build_distiller(distiller)
        probe.prepare_from_student(twin)
        statistics: set[str] = set()
        for name, module in twin.named_modules():
            if _has_statistics(module):
                module.register_forward_hook(_reports_gradient(name, statistics))
        channels = next((module.in_channels for module in twin.modules() if isinstance(module, nn.Conv2d)), 3)
        with probe.student_recorders:
            twin(torch.rand(2, channels, *size), mode='tensor')
        total = 0
        for record in _records(probe, from_student=True):
            plain = {key: value for key, value in record.items() if not key.startswith('connector')}
            total = total + sum(tensor.float().sum() for tensor in _tensors(probe.get_record(**plain)))
        if not isinstance(total, Tensor) or not total.requires_grad:
            return set(), set()
        total.backward()
        return {name for name, parameter in twin.named_parameters() if parameter.grad is not None}, statistics


def _reports_gradient(name: str, into: set[str]):

    def hook(module, inputs, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: into.add(name))
        else:  # behind nothing that learns: the backbone itself decides over training (frozen_stages)
            into.add(name)

    return hook


def _has_statistics(module: nn.Module) -> bool:
    return getattr(module, 'running_mean', None) is not None


def _records(distiller: nn.Module, from_student: bool | None = None) -> list[dict]:
    """What the losses take from recorders."""
    records = [record for mapping in distiller.loss_forward_mappings.values() for record in mapping.values()]
    return [record for record in records if from_student in (None, record['from_student'])]


def _tensors(value) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, (list, tuple)) else []
