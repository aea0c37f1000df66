"""Students that learn from each other, without a teacher."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..classifier_heads import logits_module, number_of_classes, predicted_logits
from ..errors import ConfigError
from ..losses import cohort_kd_loss
from ..registry import MODELS
from ..teachers.input_statistics import input_converter
from ..validate import TEMPERATURE, WEIGHT, check_number
from .classifier import build_classifier, compile_classifier, logits_of, move_keys, output_of, weighted


@MODELS.register_module()
class DeepMutualLearning(BaseModel):
    r"""Deep mutual learning (DML; Zhang et al., CVPR 2018, arXiv 1706.00384): student i minimises, Eq. 7 and
    8 there,

    .. math:: w_{ce} \, CE(p_i, label) + w_{kd} \, \frac{\tau^2}{K - 1} \sum_{j \ne i} KL(p_j \| p_i)

    No gradient flows through p_j, so all K students learn in one step from one optimizer. The paper's
    Algorithm 1 updates them in turn, the second from the first's new prediction. ``optim_wrapper.clip_grad``
    takes the norm over all students together. Losses are ``loss_ce_0``, ``loss_kd_0``, ``loss_ce_1``, ... The
    state dict holds all students, below ``students.0.``, ``students.1.``; a checkpoint of one classifier
    (``load_from``) is loaded into the first.

    Args:
        students: mmpretrain classifiers (configs), two or more. The first is evaluated; its data preprocessor
            makes the inputs, which are converted to the statistics of the others.
        tau: temperature; the paper has 1.
        ce_weight: w_ce, of each student's own loss.
        kd_weight: w_kd; 0 trains each student alone.
        data_preprocessor: of students whose configs have none.
        compile: ``torch.compile`` backbones and necks, each by itself; True or its options.

    Raises:
        ConfigError: fewer than two students, students of other classes, or a bad setting.
    """

    def __init__(self, students: Sequence[dict | nn.Module], tau: float = 1.0, ce_weight: float = 1.0,
                 kd_weight: float = 1.0, data_preprocessor: dict | None = None,
                 compile: bool | dict = False) -> None:
        check_number('tau', tau, **TEMPERATURE)
        check_number('ce_weight', ce_weight, **WEIGHT)
        check_number('kd_weight', kd_weight, **WEIGHT)
        if not isinstance(students, (list, tuple)) or len(students) < 2:
            raise ConfigError(f'students={students!r} should be a list of at least two networks: mutual '
                              'learning needs a peer')
        students = [build_classifier(student, data_preprocessor) for student in students]
        counts = [*map(number_of_classes, students)]
        if len({count for count in counts if count is not None}) > 1:
            raise ConfigError(f'students of {" and ".join(map(str, counts))} classes cannot learn from each '
                              'other; give all heads one num_classes')
        super().__init__(data_preprocessor=students[0].data_preprocessor)
        self.students = nn.ModuleList(students)
        self.converters = nn.ModuleList(input_converter(self.data_preprocessor, student.data_preprocessor)
                                        for student in students)
        self.tau, self.ce_weight, self.kd_weight = tau, ce_weight, kd_weight
        for student in students:
            compile_classifier(student, compile)

    @property
    def head(self) -> nn.Module:
        """The first student's, where mmpretrain's hooks look for it."""
        return self.students[0].head

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return self.students[0](inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """``loss_ce_i`` and, unless its weight is 0, ``loss_kd_i`` of each student i, weighted."""
        losses, taught, predicted = {}, [], []
        for index, (student, converter) in enumerate(zip(self.students, self.converters)):
            with output_of(logits_module(student)) as outputs:
                own = weighted(student(converter(inputs), data_samples, mode='loss'), self.ce_weight)
            losses.update({f'{name}_{index}': value for name, value in own.items()})
            if self.kd_weight > 0:
                taught.append(logits_of(outputs, student))
                predicted.append(logits_of(outputs, student, predicted_logits).detach())
        for index, own in enumerate(taught):
            peers = torch.stack(predicted[:index] + predicted[index + 1:])
            loss = cohort_kd_loss(own, peers, self.tau, aggregation='loss')
            losses[f'loss_kd_{index}'] = loss * self.kd_weight
        return losses

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Data samples with the first student's prediction, and in ``peer_scores`` (K - 1, C) the
        probabilities of the others, for :class:`ckd_mm.evaluation.PeerAccuracy`."""
        data_samples = data_samples or [DataSample() for _ in inputs]
        data_samples = self.students[0](inputs, data_samples, mode='predict')
        peers = [student(converter(inputs), mode='predict')
                 for student, converter in zip(self.students[1:], self.converters[1:])]
        for sample, *others in zip(data_samples, *peers):
            sample.set_field(torch.stack([other.pred_score for other in others]), 'peer_scores')
        return data_samples

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        move_keys(state_dict, prefix, 'students.', to='students.0.')
        super()._load_from_state_dict(state_dict, prefix, *args)

    def init_weights(self) -> None:
        for student in self.students:  # mmengine would stop at the ModuleList
            student.init_weights()

    def get_layer_depth(self, param_name: str):
        """For layer-wise learning rates: the depth of a student's parameter."""
        _, index, name = param_name.split('.', 2)
        return self.students[int(index)].get_layer_depth(name)
