"""What can be known to be wrong before anything is trained."""

import contextlib
import copy
import inspect
import random
import shutil
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, default_collate

from ..compat import accelerator_available, check_environment, require_mmrazor, versions
from ..errors import CkdError, ConfigError
from ..evaluation.evaluate import check_promised_accuracy, evaluation_parts, require_same_classes
from ..fileio import read_json
from ..infoplane import extract_features, load_probe_images
from ..trajectory import MANIFEST, model_config_of
from .settings import DistillationPlan
from .stage_log import StageLog

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
        what = f'{len(plan.snapshot_epochs_of(0))} snapshots in {plan.teacher_epochs} epochs' + \
            (f', {plan.runs} times' if plan.runs > 1 else '') if plan.trains_teacher else \
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
    checks = [('work_dir', lambda: _work_dir(plan)), ('device', lambda: _device(plan)), ('evaluation', lambda: _evaluation(plan)),
              ('training', lambda: _training(plan)), ('networks', lambda: _networks(plan))]
    if plan.distiller is not None:
        checks.append(('mmrazor', lambda: 'mmrazor ' + require_mmrazor(f'distill.distiller={plan.distiller.get("type")}').__version__))
    if plan.trains_teacher:
        if not StageLog(plan.work_dir).is_done(plan.teacher_stage(plan.runs - 1)):
            checks.append(('disk', lambda: _disk(plan)))
    elif not plan.teacher_is_gone():
        checks.append(('trajectory', lambda: _trajectories(plan)))
    return checks


def _work_dir(plan: DistillationPlan) -> str:
    found = [name for name in ('teacher/last_checkpoint', 'student/last_checkpoint') if (plan.work_dir / name).exists()]
    if (plan.work_dir / MANIFEST).exists() and read_json(plan.work_dir / MANIFEST).get('snapshots'):
        found.append(MANIFEST)
    if StageLog(plan.work_dir).any_done:
        found.append('finished stages')
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
    """Both networks are built and asked about two images: what a head or a backbone returns is seen before anything is trained."""
    dataset = _evaluation_set(plan)
    configs = dict(student=model_config_of(plan.plain()))
    if plan.trains_teacher:
        configs['teacher'] = model_config_of(plan.merged_teacher())
    classes, said = {}, []
    for name, config in configs.items():
        network = _built(name, config)
        classes[name] = getattr(getattr(network, 'head', None), 'num_classes', None)
        if dataset is not None:
            classes[name] = _logits_of_two_images(name, network, dataset).shape[1]
            if name == 'teacher' and plan.measures_plane:
                extract_features(network, load_probe_images(evaluation_parts(plan.config)[0]['dataset'], 2), torch.device('cpu'))
        size = sum(parameter.numel() for parameter in network.parameters())
        said.append(f'{name} {size:,} parameters, {classes[name]} classes')
    if len({count for count in classes.values() if count is not None}) > 1:
        raise ConfigError(f'teacher.model.head.num_classes={classes["teacher"]} and model.head.num_classes={classes["student"]} '
                          'should be equal')
    return ', '.join(said)


def _built(name: str, config: Dict) -> torch.nn.Module:
    from mmpretrain.registry import MODELS
    try:
        with torch.random.fork_rng(devices=[]):
            return MODELS.build(copy.deepcopy(config)).eval()
    except Exception as error:  # whatever a backbone's constructor says, the user needs to know which network
        raise ConfigError(f'the {name} network cannot be built from its `model`: {type(error).__name__}: {error}') from error


@torch.no_grad()
def _logits_of_two_images(name: str, network: torch.nn.Module, dataset) -> torch.Tensor:
    """(2, C)."""
    if not isinstance(getattr(network, 'head', None), torch.nn.Module):
        raise ConfigError(f'the {name} network of type {type(network).__name__} has no `head` whose logits could be distilled')
    try:
        batch = network.data_preprocessor(default_collate([dataset[0], dataset[len(dataset) // 2]]), False)
        logits = network(batch['inputs'], mode='tensor')
    except Exception as error:  # a wrong in_channels, an image too small for the strides, ...
        raise ConfigError(f'the {name} network fails on two images of the test set: {type(error).__name__}: {error}') from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ConfigError(f'the head of the {name} network, {type(network.head).__name__}, should return logits (N, C); got {found}')
    return logits


def _evaluation_set(plan: DistillationPlan):
    parts = evaluation_parts(plan.config)
    if parts is None:
        return None
    from mmpretrain.registry import DATASETS
    try:
        return DATASETS.build(copy.deepcopy(parts[0]['dataset']))
    except Exception as error:
        raise ConfigError(f'the test set cannot be read: {type(error).__name__}: {error}') from error


def _evaluation(plan: DistillationPlan) -> str:
    """The test set is needed only at the end, so its absence would cost the whole run."""
    dataset = _evaluation_set(plan)
    if dataset is None:
        return 'no test and no validation set: accuracies will be missing from the summary'
    head = (plan.config.model.get('head') or {}).get('num_classes')
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if head is not None and classes is not None and len(classes) != head:
        raise ConfigError(f'model.head.num_classes={head}, but the test set has {len(classes)} classes')
    return f'{len(dataset)} images'


def _training(plan: DistillationPlan) -> str:
    """Both training sets are listed and one image of each is read: the student's is needed only when the teacher is trained."""
    from mmpretrain.registry import DATASETS
    configs = {'train_dataloader': plan.plain().train_dataloader.dataset}
    if plan.trains_teacher and plan.merged_teacher().train_dataloader.dataset != configs['train_dataloader']:
        configs['teacher.train_dataloader'] = plan.merged_teacher().train_dataloader.dataset
    said = []
    for name, config in configs.items():
        try:
            dataset = DATASETS.build(copy.deepcopy(config))
            with _random_numbers_kept():
                dataset[0]
        except Exception as error:  # a wrong path, an unknown transform, a damaged image, ...
            raise ConfigError(f'{name}.dataset cannot be read: {type(error).__name__}: {error}') from error
        said.append(f'{len(dataset)} images')
    return ', the teacher '.join(said)


@contextlib.contextmanager
def _random_numbers_kept():
    """Augmentations draw from global generators."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        yield
    np.random.set_state(numpy_state)
    random.setstate(python_state)


def _disk(plan: DistillationPlan) -> str:
    """Room for the snapshots that are still to come and two training checkpoints with momentum (twice the weights)."""
    from mmpretrain.registry import MODELS
    with torch.random.fork_rng(devices=[]):
        network = MODELS.build(copy.deepcopy(plan.teacher['model']))
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    there = len(list(plan.work_dir.glob('snapshots/epoch_*.pth'))) + len(list(plan.work_dir.glob('teacher_*/snapshots/epoch_*.pth')))
    wanted = sum(len(plan.snapshot_epochs_of(run)) for run in range(plan.runs))
    needed = weights * (max(wanted - there, 0) + 4 * plan.runs)
    folder = plan.work_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CkdError(f'the trajectory needs about {needed / 2**30:.1f} GiB ({wanted} snapshots of '
                       f'{weights / 2**20:.0f} MiB) and {folder} has {free / 2**30:.1f} GiB free; keep fewer snapshots '
                       '(teacher.snapshots), or choose another --work-dir')
    return f'about {needed / 2**20:.0f} MiB needed, {free / 2**30:.0f} GiB free'


def _trajectories(plan: DistillationPlan) -> str:
    said = []
    trajectories = plan.open_trajectories()
    plan.selector.check([trajectory.epochs for trajectory in trajectories], [trajectory.max_epochs for trajectory in trajectories])
    for trajectory in trajectories:
        trajectory.check()
        snapshot = trajectory.last
        network = snapshot.build()
        classes = getattr(getattr(network, 'head', None), 'num_classes', None)
        dataset = _evaluation_set(plan)
        if dataset is not None:
            _logits_of_two_images('teacher', network, dataset)
            if plan.measures_plane:
                extract_features(network, load_probe_images(evaluation_parts(plan.config)[0]['dataset'], 2), torch.device('cpu'))
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
    kind = DATASETS.get(config['type']) if isinstance(config['type'], str) else config['type']
    if inspect.isclass(kind) and issubclass(kind, BaseDataset):
        # data sets with fixed classes (ImageNet, CIFAR) know them without listing a million files
        classes = DATASETS.build(dict(copy.deepcopy(config), lazy_init=True)).metainfo.get('classes')
        if classes is not None:
            return classes
    dataset = DATASETS.build(copy.deepcopy(config))
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')
