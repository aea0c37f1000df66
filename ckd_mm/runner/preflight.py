"""What can be known to be wrong before anything is trained."""

import copy
import shutil
from typing import Callable, List, Optional, Sequence, Tuple

import torch
from mmengine.config import Config

from ..compat import accelerator_available, check_environment, require_mmrazor, versions
from ..errors import CkdError, ConfigError
from ..evaluation.evaluate import check_promised_accuracy, evaluation_parts, require_same_classes
from ..trajectory import MANIFEST
from .settings import DistillationPlan
from .stage_log import FILE as STAGES

Check = Tuple[str, Callable[[], str]]


def preflight(config: Config, log: Callable[[str], None] = print, all_problems: bool = False) -> DistillationPlan:
    """Run every check and return the plan.

    Args:
        all_problems: go on after a problem and raise all of them together (``tools/doctor.py``).

    Raises:
        CkdError: the first problem, with the name of the setting and what to do.
    """
    problems: List[str] = []
    plan: Optional[DistillationPlan] = None

    def run(name: str, check: Callable[[], str]) -> None:
        try:
            detail = check()
        except CkdError as error:
            if not all_problems:
                raise
            problems.append(f'{name}: {error}')
            log(f'[ problem ] {name}: {error}')
        else:
            log(f'[ ok ] {name}: {detail}')

    def read() -> str:
        nonlocal plan
        plan = DistillationPlan(config)
        what = f'{len(plan.teacher_snapshot_epochs)} snapshots in {plan.teacher_epochs} epochs' if plan.trains_teacher else \
            f'given, {", ".join(map(str, plan.trajectory_folders))}'
        return f'teacher {what}; student {plan.student_epochs} epochs'

    run('environment', _environment)
    run('settings', read)
    if plan is not None:
        for name, check in _checks_of(plan):
            run(name, check)
    if problems:
        raise CkdError(f'{len(problems)} problem(s) found: ' + ' | '.join(problems))
    return plan


def _environment() -> str:
    check_environment()
    return ', '.join(f'{name} {version}' for name, version in versions().items() if name in ('torch', 'mmengine', 'mmcv', 'mmpretrain'))


def _checks_of(plan: DistillationPlan) -> List[Check]:
    checks = [('work_dir', lambda: _work_dir(plan)), ('device', lambda: _device(plan)), ('networks', lambda: _networks(plan)),
              ('evaluation', lambda: _evaluation(plan))]
    if plan.distiller is not None:
        checks.append(('mmrazor', lambda: 'mmrazor ' + require_mmrazor(f'distill.distiller={plan.distiller.get("type")}').__version__))
    if plan.trains_teacher:
        checks.append(('disk', lambda: _disk(plan)))
    else:
        checks.append(('trajectory', lambda: _trajectories(plan)))
    return checks


def _work_dir(plan: DistillationPlan) -> str:
    found = [name for name in (STAGES, MANIFEST) if (plan.work_dir / name).exists()]
    if found and not plan.config.get('resume'):
        raise ConfigError(f'work_dir={plan.work_dir} holds the results of an earlier run ({", ".join(found)}). Pass --resume to go on '
                          'with it, or choose another --work-dir; nothing was overwritten')
    return f'{plan.work_dir}, {"resuming" if found else "new"}'


def _device(plan: DistillationPlan) -> str:
    if accelerator_available():
        return torch.cuda.get_device_name() if torch.cuda.is_available() else 'accelerator'
    wrappers = dict(optim_wrapper=plan.config.get('optim_wrapper'))
    wrappers['teacher.optim_wrapper'] = plan.teacher.get('optim_wrapper')
    for name, wrapper in wrappers.items():
        if str((wrapper or {}).get('type')).endswith('AmpOptimWrapper'):
            raise ConfigError(f"{name}.type='AmpOptimWrapper' (--amp): mmengine's mixed precision needs an accelerator and none is "
                              'visible here. Leave --amp out')
    return 'CPU only'


def _networks(plan: DistillationPlan) -> str:
    from mmpretrain.registry import MODELS
    counts = {}
    models = dict(student=plan.config.model)
    if plan.teacher.get('model'):
        models['teacher'] = plan.teacher['model']
    for name, model in models.items():
        try:
            with torch.random.fork_rng(devices=[]):
                network = MODELS.build(copy.deepcopy(model))
        except Exception as error:  # whatever a backbone's constructor says, the user needs to know which network
            raise ConfigError(f'the {name} network cannot be built from its `model`: {type(error).__name__}: {error}') from error
        classes = getattr(getattr(network, 'head', None), 'num_classes', None)
        counts[name] = (classes, sum(parameter.numel() for parameter in network.parameters()))
    if len({classes for classes, _ in counts.values() if classes is not None}) > 1:
        raise ConfigError(f'teacher.model.head.num_classes={counts["teacher"][0]} and model.head.num_classes={counts["student"][0]} '
                          'should be equal')
    return ', '.join(f'{name} {size / 1e6:.2f} M parameters, {classes} classes' for name, (classes, size) in counts.items())


def _evaluation(plan: DistillationPlan) -> str:
    """The test set is needed only at the end, so its absence would cost the whole run."""
    parts = evaluation_parts(plan.config)
    if parts is None:
        return 'no test and no validation set: accuracies will be missing from the summary'
    from mmpretrain.registry import DATASETS
    try:
        dataset = DATASETS.build(copy.deepcopy(parts[0]['dataset']))
    except Exception as error:
        raise ConfigError(f'the test set cannot be read: {type(error).__name__}: {error}') from error
    head = (plan.config.model.get('head') or {}).get('num_classes')
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if head is not None and classes is not None and len(classes) != head:
        raise ConfigError(f'model.head.num_classes={head}, but the test set has {len(classes)} classes')
    return f'{len(dataset)} images'


def _disk(plan: DistillationPlan) -> str:
    """Snapshots, two training checkpoints with momentum (twice the weights), and the student's beside them."""
    from mmpretrain.registry import MODELS
    with torch.random.fork_rng(devices=[]):
        network = MODELS.build(copy.deepcopy(plan.teacher['model']))
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    needed = weights * (len(plan.teacher_snapshot_epochs) + 4)
    folder = plan.work_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CkdError(f'the trajectory needs about {needed / 2**30:.1f} GiB ({len(plan.teacher_snapshot_epochs)} snapshots of '
                       f'{weights / 2**20:.0f} MiB) and {folder} has {free / 2**30:.1f} GiB free; keep fewer snapshots '
                       '(teacher.snapshots), or choose another --work-dir')
    return f'about {needed / 2**20:.0f} MiB needed, {free / 2**30:.0f} GiB free'


def _trajectories(plan: DistillationPlan) -> str:
    said = []
    for trajectory in plan.open_trajectories():
        trajectory.check()
        plan.selector.epochs(trajectory.epochs, trajectory.max_epochs)
        snapshot = trajectory.last
        network = snapshot.build()
        classes = getattr(getattr(network, 'head', None), 'num_classes', None)
        wanted = (plan.config.model.get('head') or {}).get('num_classes')
        if None not in (classes, wanted) and classes != wanted:
            raise ConfigError(f'teacher {snapshot} has {classes} classes and model.head.num_classes={wanted}; distillation of logits '
                              'needs the same classes')
        require_same_classes(snapshot, class_names(plan), 'the classes of its training set')
        measured = check_promised_accuracy(snapshot, plan.plain())
        said.append(f'{trajectory.folder}: {len(trajectory)} snapshots, epochs {trajectory.epochs[0]} to {trajectory.epochs[-1]}' +
                    ('' if measured is None else f', the last is right on {measured:.1f} % of some validation images '
                     f'(promised {snapshot.accuracy:.1f} %)'))
    return '; '.join(said)


def class_names(plan: DistillationPlan) -> Optional[Sequence[str]]:
    """Names in the order of the student's labels, if its training set has names."""
    from mmpretrain.registry import DATASETS
    config = plan.config.train_dataloader.dataset
    # data sets with fixed classes (ImageNet, CIFAR) know them without listing a million files
    dataset = DATASETS.build(dict(copy.deepcopy(config), lazy_init=True))
    if (getattr(dataset, 'metainfo', None) or {}).get('classes') is None:
        dataset = DATASETS.build(copy.deepcopy(config))
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')
