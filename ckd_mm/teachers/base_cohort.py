"""What every group of teachers has in common."""

from collections.abc import Callable

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..compat import exact_convolutions, full_precision
from .fused import fuse_conv_bn
from .rearranged import rearrange
from .trial import Trial, in_a_line, trial_images

REARRANGED_ON = ('cpu', )  # device types where channels_last was measured to be faster for teachers


class BaseCohort(BaseModel):
    """M teachers in one model, frozen and in eval mode whatever is called on it. Subclasses write
    ``teacher_logits``.

    It runs like any mmengine model: ``mode='tensor'`` and ``'loss'`` give the stacked logits (M, N, C),
    ``'predict'`` evaluates the ensemble (mean of the M softmax outputs). The logits pass through the
    submodule ``logits``, where mmrazor's recorders can read them (``source='logits'``). Teachers that are
    networks are in ``self.networks``.
    """

    def __init__(self, data_preprocessor=None) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.logits = nn.Identity()
        # what is still to be done before the next pass
        self._make_fast, self._rearrange, self._then = False, False, None
        self._parts: list[nn.Module] = []  # all modules below, once they were put to eval

    def only_teach(self, read: bool = False, then: Callable[[], None] | None = None) -> 'BaseCohort':
        """From now on the teachers are asked for logits, and neither saved nor looked into: before the next
        pass, the first that
        knows the size of the images, their networks are made fast, and their logits change by rounding of
        float32. Convolution and BatchNorm become one (:func:`fuse_conv_bn`), and on a CPU channels lie side
        by side (:func:`rearrange`; on a GPU that has not been measured).

        Args:
            read: what they compute inside is read by others, so they stay as they are. So does a network with
                forward hooks.
            then: called afterwards, say to compile them.
        """
        self._make_fast, self._then = not read, then
        return self

    def rearrange(self) -> None:
        """Before the next pass put the networks into channels_last on any device (:func:`rearrange`)."""
        self._rearrange = True

    @property
    def member_names(self) -> list[str] | None:
        """What tables and figures call the M teachers, in the order of their logits; None where they have no
        names."""
        return None

    def expect_inputs_of(self, preprocessor: nn.Module) -> None:
        """Say which data preprocessor made the inputs that will come; each teacher gets its own statistics
        from them."""
        raise NotImplementedError

    def teacher_logits(self, inputs: Tensor) -> list[Tensor]:
        """Logits (N, C) of each teacher for inputs (N, 3, H, W)."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> 'BaseCohort':
        super().train(False)
        # to walk through the tree takes a millisecond in every step; and not `self`, which would be a circle
        # that outlives its last use
        self._parts = [module for child in self.children() for module in child.modules()]
        return self

    def freeze(self) -> 'BaseCohort':
        return self.train(False).requires_grad_(False)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        self.prepare(inputs)
        with torch.no_grad():
            return self.logits(torch.stack(self.teacher_logits(inputs)))

    def prepare(self, inputs: Tensor) -> None:
        """What comes before every pass on inputs (N, 3, H, W): all that is below is in eval mode and, from
        the first on, fast. Passes of
        its own belong to that, so whoever records what teachers compute calls it before."""
        if self.training or any(module.training
                                for module in self._parts):  # someone reached into the teachers
            self.train(False)
        if not (self._make_fast or self._rearrange or self._then is not None):
            return
        rearranging = self._rearrange or (self._make_fast and inputs.device.type in REARRANGED_ON)
        if self._make_fast or rearranging:
            # rounding to the ten bits of TF32 would hide a mistake, or make one; weights made in inference
            # mode could never be saved
            with full_precision(inputs.device.type), exact_convolutions(
                    inputs.device.type), torch.inference_mode(False), torch.no_grad():
                images = trial_images(inputs)
                for number, network in enumerate(getattr(self, 'networks', []), 1):
                    done, problems = _made_fast(network, images, self._make_fast, rearranging)
                    if done or problems:
                        print_log(f'Network {number} of the teachers, '
                                  f'{"made faster" if done else "as slow as before"}: '
                                  f'{"; ".join(done + problems)}.', logger='current')
        if self._then is not None:
            self._then()
        self._make_fast, self._rearrange, self._then = False, False, None
        self.train(False)

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Data samples with the ensemble's mean probabilities and its prediction."""
        return with_predictions(self(inputs).float().softmax(dim=2).mean(dim=0), data_samples)


def _made_fast(network: nn.Module, images: Tensor, fuse: bool,
               rearranging: bool) -> tuple[list[str], list[str]]:
    """What was done, and what could not be and why."""
    hooked = next(
        (name
         for name, module in network.named_modules() if module._forward_hooks or module._forward_pre_hooks),
        None)
    if hooked is not None:
        return [], [f'forward hooks of {hooked or "the network"} look at what it computes (or make weights '
                    'there)']
    try:
        trial = Trial(network, images)
    except Exception as error:  # it teaches nevertheless, of a cohort that resizes its inputs, say
        return [], [f'it cannot be tried on noise {tuple(images.shape)} ({in_a_line(error)})']
    done, problems = [], []
    if fuse:
        fused, refused = fuse_conv_bn(trial)
        if fused:
            done.append(f'{fused} BatchNorm layers have become part of the convolutions before them')
        if refused:
            problems.append(f'{len(refused)} BatchNorm layers stay behind their convolutions ({refused[0]})')
    if rearranging:
        problem = rearrange(trial)
        if problem is None:
            done.append('its weights are in channels_last')
        else:
            problems.append(f'its weights cannot be in channels_last ({problem})')
    return done, problems


def with_predictions(scores: Tensor, data_samples: list | None = None) -> list:
    """Data samples with these probabilities (N, C) and the most probable classes."""
    from mmpretrain.structures import DataSample
    data_samples = data_samples or [DataSample() for _ in scores]
    return [
        sample.set_pred_score(score).set_pred_label(score.argmax(keepdim=True))
        for sample, score in zip(data_samples, scores)
    ]


def head_name(index: int) -> str:
    """How tables and figures call the head at an output of the backbone."""
    return f'head {index}'
