"""Whether teachers can move a student: the gradient of the distillation loss beside that of the labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from torch import Tensor

from ..data.views import random_state_kept
from ..errors import ConfigError, SnapshotError, in_a_line
from ..files import sha256_of_file
from ..pipeline.run import Run
from ..registry import MODELS
from ..students import CheckpointDistill
from ..trajectory import Snapshot
from ..trajectory.checkpoint_file import load_checkpoint_file

if TYPE_CHECKING:
    from .student import StudentStage

IMAGES = 16
SMALLEST, LARGEST = 1e-6, 1e6  # of the cross-entropy's gradient
USUAL_DEVIATION = 3.0  # of the logits of a trained network


def check_gradient(stage: 'StudentStage', run: Run, model: CheckpointDistill) -> str:
    """The norm of both gradients with respect to the student's logits, for some training images.

    Teachers that are yet to be trained are replaced by random logits of usual size, so that only the loss is
    tried.

    Args:
        model: of a rehearsal, with the student's first weights.

    Raises:
        ConfigError: one is lost beside the other or is not finite, or the target is the same for all classes.
    """
    distill, exists = stage.distillation.settings, stage.teachers.exists(run)
    student, teachers, labels = logits_of_both(stage, run, model)
    loss = MODELS.build(stage.kd_loss(stage.weighted))
    targets = (teachers, labels) if distill.needs_labels else (teachers, )
    if stage.distillation.schedule.anneals:  # the weights change
        kd_weight, ce_weight = 1.0, 1.0
    else:
        kd_weight, ce_weight = distill.kd_weight, distill.ce_weight or 1.0
    what = f'distill: tau={distill.tau}, kd_weight={kd_weight:g}' if distill.loss is None else (
        f'distill.loss={distill.loss!r}, kd_weight={kd_weight:g}')
    try:
        found = gradient(loss, model.shared_classes(student), *targets)
    except Exception as error:  # a loss of the user's own may fail in any way
        raise ConfigError(f'{what}: the loss has no gradient on {len(student)} images: '
                          f'{in_a_line(error)}') from error
    if hasattr(loss, 'target') and exists:
        check_target(loss.target(teachers).log_p.exp(), what, run)
    own = gradient(F.cross_entropy, student, labels)
    ratio = kd_weight * found.norm().item() / (ce_weight * own.norm().item())
    check_ratio(ratio, what)
    return f"{ratio:.2g} of the cross-entropy's on the student's logits"


def gradient(loss: Any, logits: Tensor, *targets: Tensor) -> Tensor:
    """With respect to logits (N, C); 0 where the loss does not depend on them."""
    logits = logits.clone().requires_grad_()
    value = loss(logits, *targets)
    return torch.autograd.grad(value, logits)[0] if value.requires_grad else torch.zeros_like(logits)


def check_ratio(ratio: float, what: str) -> None:
    if SMALLEST <= ratio <= LARGEST:
        return
    lost = 'teaches the student nothing' if ratio < SMALLEST else 'leaves nothing of the labels'
    size = (f'{ratio:.1e} of that of the cross-entropy, and should be between {SMALLEST:g} and {LARGEST:g}: '
            f'it {lost}')
    if ratio != ratio:
        size = 'not a number'
    raise ConfigError(f"{what}: the gradient of the distillation loss on the student's logits is {size}. tau "
                      'of 1 to 20 and weights of 0.1 to 100 are usual')


def check_target(target: Tensor, what: str, run: Run) -> None:
    """Of softened probabilities (N, C)."""
    highest = target.max(dim=1).values.double()
    if (highest - 1 / target.shape[1]).mean() < SMALLEST:
        raise ConfigError(f'{what}: the teachers give all classes the same probability, so that a student '
                          'learns nothing of the classes from them; lower tau, or choose other teachers')
    if (1 - highest).mean() < SMALLEST:
        run.warn(f'{what}: the softened probabilities of the teachers are 1 for one class and 0 for the '
                 'others, so that a student learns no more than labels from them; raise tau')


@torch.no_grad()
def logits_of_both(stage: 'StudentStage', run: Run,
                   model: CheckpointDistill) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the student (N, C) and of its teachers (M, N, C) for training images, and labels (N,)."""
    config = stage.training(run)
    dataset = run.data_set(config.train_dataloader.dataset, 'train_dataloader.dataset')
    count = min(IMAGES, len(dataset))
    with random_state_kept():
        items = [dataset[index * len(dataset) // count] for index in range(count)]
    inputs = model.data_preprocessor(pseudo_collate(items), False)['inputs']
    logits = model.student.eval()(inputs, mode='tensor').float().cpu()
    labels = [item['data_samples'].get('gt_label', ()) for item in items]
    labels = torch.tensor([int(found) if len(found) == 1 else 0 for found in labels])
    if stage.teachers.exists(run):
        cohort = model.cohort
        if cohort is None:  # cached targets are in its place
            cohort = MODELS.build(stage.teachers.cohort(run)).to(inputs.device)
            cohort.expect_inputs_of(model.data_preprocessor)
        teachers = cohort(inputs).float().cpu()
        if not torch.isfinite(teachers).all():
            raise SnapshotError('the teachers give logits that are not finite (NaN or infinity) for training '
                                'images; choose others')
        return logits, teachers, labels
    count = len(stage.distillation.settings.teacher_weights or [1]) if stage.weighted else 1
    generator = torch.Generator().manual_seed(0)
    return logits, USUAL_DEVIATION * torch.randn(count, *logits.shape, generator=generator), labels


# ------------------------------------------------------------ a student that is its own teacher
def check_first_weights(stage: 'StudentStage', run: Run) -> str:
    """A student that starts from a file (``load_from``, or ``init_cfg`` of its model) starts from other
    weights than its teachers'.

    Raises:
        ConfigError: it is given as its own teacher. It is only a warning where a selector measures, and may
            choose another one.
    """
    config = stage.training(run)
    pretrained = config.model.get('init_cfg')
    start = config.load_from or (pretrained.get('checkpoint') if isinstance(pretrained, dict) else None)
    if start is None or not Path(start).is_file():
        return 'random' if start is None else str(start)
    snapshots, surely = stage.teachers.given(run)
    own = next((snapshot for snapshot in snapshots if same_weights(Path(start), snapshot)), None)
    if own is not None:
        message = (f'the {stage.title} starts from {start} (load_from, or init_cfg of its model), which has '
                   f'the weights of the snapshot {own}: it would be its own teacher, and the distillation '
                   'loss 0. Start it from other weights, or choose other teachers')
        if surely:
            raise ConfigError(message)
        run.warn(message)
    return str(start)


def same_weights(file: Path, snapshot: Snapshot) -> bool:
    if file.resolve() == snapshot.file.resolve() or (snapshot.sha256 or '') == sha256_of_file(file):
        return True
    ours, theirs = load_checkpoint_file(file)['state_dict'], snapshot.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key])
                                                for key, value in ours.items())
