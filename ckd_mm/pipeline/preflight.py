"""What can be known to be wrong before anything is trained."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate

from ..compat import accelerator_available, check_environment, require_mmrazor, versions
from ..data.views import ReplayableDataset, Views, random_state_kept
from ..distributed import on_all, on_main
from ..errors import CkdError, ConfigError
from ..evaluation.evaluate import check_recorded_accuracy, evaluation_parts, require_same_classes
from ..files import read_json
from ..infoplane import extract_features, load_probe_images
from ..losses import SoftTarget
from ..registry import METRICS as OUR_METRICS
from ..registry import MODELS as OUR_MODELS
from ..targets import Layout, TargetFile
from ..teachers import HeadTraining, SnapshotEnsemble
from ..teachers.dih_teacher import TEACHER, read_use
from ..teachers.head_file import read_heads
from ..trajectory import MANIFEST, Snapshot, model_config_of
from .data_sets import DataSets, classes_of, image_shape
from .distillation_plan import HEAD_KEYS, DistillationPlan
from .distiller_check import check_distiller
from .plans import make_plan
from .settings import as_list, changes_of, type_name
from .stage_log import StageLog
from .student_plan import StudentPlan
from .target_cache import SEED
from .untrained import UntrainedSnapshot

Check = tuple[str, Callable[[], str]]
# of image and view that are augmented twice: an own mirror image with a chance of one half is missed in one
# of 2**32 runs
PAIRS = 32


def preflight(config: Config, log: Callable[[str], None] = print, all_problems: bool = False,
              warn: Callable[[str], None] | None = None) -> StudentPlan:
    """Run every check and return the plan. For all processes of a run: some data sets wait for each other
    where they are built.

    Args:
        warn: where to say what looks wrong, and may be meant; default: ``log``.
        all_problems: go on after a problem and raise all of them together (``tools/doctor.py``).

    Raises:
        CkdError: the first problem, with the name of the setting and what to do.
    """
    problems: dict[str, str] = {}  # to the check that found it
    plan: StudentPlan | None = None

    def run(name: str, check: Callable[[], str]) -> None:
        try:
            detail = on_all(check)
        except CkdError as error:
            if not all_problems:
                raise
            first = problems.setdefault(str(error), name)  # several checks may read the same data set
            log(f'[ problem ] {name}: {error}' if first == name else f'[ problem ] {name}: as above, {first}')
        else:
            log(f'[ ok ] {name}: {detail}')

    def read() -> str:
        nonlocal plan
        plan = make_plan(config)
        return plan.describe()

    run('environment', _environment)
    run('settings', read)
    if plan is not None:
        for name, check in _checks_of(plan, warn or log):
            run(name, check)
    if problems:
        raise CkdError(f'{len(problems)} problem(s) found: ' +
                       ' | '.join(f'{name}: {problem}' for problem, name in problems.items()))
    return plan


def _environment() -> str:
    check_environment()
    return ', '.join(f'{name} {version}' for name, version in versions().items()
                     if name in ('torch', 'mmengine', 'mmcv', 'mmpretrain'))


def _checks_of(plan: StudentPlan, warn: Callable[[str], None]) -> list[Check]:
    data = DataSets()
    checks = [('work_dir', lambda: _work_dir(plan)), ('device', lambda: _device(plan)),
              ('evaluation', lambda: _evaluation(plan, data)), ('metrics', lambda: _metrics(plan)),
              ('training', lambda: _training(plan, data)), ('networks', lambda: _networks(plan, data, warn))]
    if not isinstance(plan, DistillationPlan):
        return checks
    distillers = {
        name: distiller
        for name, distiller in (('distill', plan.distiller), ('hint', (plan.hint or {}).get('distiller')))
        if distiller is not None
    }
    for name, distiller in distillers.items():
        checks.append(('mmrazor', lambda name=name, distiller=distiller: 'mmrazor ' +
                       require_mmrazor(f'{name}.distiller={distiller.get("type")}').__version__))
    if (distillers or plan.heads is not None) and (plan.trains_teacher or not plan.teacher_is_gone()):
        checks.append(('features', lambda: _features(plan, data, distillers)))
    if plan.cache is not None and not plan.teacher_is_gone():
        checks.append(('targets', lambda: _targets(plan, data)))
    if plan.trains_teacher:
        if not StageLog(plan.work_dir).is_done(plan.teacher_stage(plan.runs - 1)):
            checks.append(('disk', lambda: _disk(plan)))
    elif not plan.teacher_is_gone():
        checks += [('snapshots', lambda: on_main(lambda: _snapshots(plan))),
                   ('trajectory', lambda: _trajectories(plan, data))]
    return checks


def _work_dir(plan: StudentPlan) -> str:
    found = sorted(str(path.relative_to(plan.work_dir)) for path in plan.work_dir.glob('*/last_checkpoint'))
    if (plan.work_dir / MANIFEST).exists() and read_json(plan.work_dir / MANIFEST).get('snapshots'):
        found.append(MANIFEST)
    if StageLog(plan.work_dir).any_done:
        found.append('finished stages')
    if found and not plan.config.get('resume'):
        raise ConfigError(f'work_dir={plan.work_dir} holds the results of an earlier run '
                          f'({", ".join(found)}). Pass --resume to go on '
                          'with it, or choose another --work-dir; nothing was overwritten')
    return f'{plan.work_dir}, {"resuming" if found else "new"}'


def _device(plan: StudentPlan) -> str:
    if accelerator_available():
        return torch.cuda.get_device_name() if torch.cuda.is_available() else 'accelerator'
    for name, wrapper in plan.optim_wrappers.items():
        if type_name(wrapper or {}) == 'AmpOptimWrapper':
            raise ConfigError(f"{name}.type='AmpOptimWrapper' (--amp): mmengine's mixed precision needs an "
                              "accelerator and none is "
                              'visible here. Leave --amp out')
    return 'CPU only'


def _networks(plan: StudentPlan, data: DataSets, warn: Callable[[str], None]) -> str:
    """All networks are built and asked about two images: what a head or a backbone returns is seen before
    anything is trained."""
    dataset = _evaluation_set(plan, data)
    classes: dict[str, int | None] = {}
    sizes: dict[str, int] = {}
    for name, config in plan.networks.items():
        network = _built(name, config)
        classes[name] = _classes_of(name, network, dataset, name == 'teacher' and plan.measures_plane, plan)
        sizes[name] = sum(parameter.numel() for parameter in network.parameters())
        if name != 'teacher' and plan.needs_labels and getattr(network.data_preprocessor, 'to_onehot', False):
            raise ConfigError(f'distill.loss={plan.config.distill.loss.type} needs one label an image, but '
                              f'the {name} is trained on mixed '
                              'images (train_cfg.augments, to_onehot); take them out, or leave distill.loss '
                              'out')
        if None not in (classes[name], classes['student']) and classes[name] != classes['student']:
            raise ConfigError(f'{name}.model.head.num_classes={classes[name]} and '
                              f'model.head.num_classes={classes["student"]} '
                              'should be equal')
    said = ', '.join(f'{name} {size:,} parameters, {classes[name]} classes' for name, size in sizes.items())
    if any(name.startswith('assistant')
           for name in sizes) and not plan.trains_teacher and not plan.teacher_is_gone():
        sizes['teacher'] = sum(
            parameter.numel() for parameter in plan.open_trajectories()[0].last.build().parameters())
    _warn_of_sizes(sizes, warn)
    return said


def _classes_of(name: str, network: torch.nn.Module, dataset, is_probed: bool,
                plan: StudentPlan) -> int | None:
    """Number of logits, and whether a probe finds feature maps; what the head says, where there are no
    images."""
    if dataset is None:
        return getattr(getattr(network, 'head', None), 'num_classes', None)
    count = _logits_of_two_images(name, network, dataset).shape[1]
    if is_probed:
        extract_features(network, load_probe_images(evaluation_parts(plan.config)[0]['dataset'], 2),
                         torch.device('cpu'))
    return count


def _warn_of_sizes(sizes: dict[str, int], warn: Callable[[str], None]) -> None:
    before = 'teacher'
    for name in (name for name in sizes if name.startswith('assistant')):
        if sizes[name] > sizes.get(before, sizes[name]):
            warn(f'{name} has {sizes[name]:,} parameters, more than the {before} that it learns from '
                 f'({sizes[before]:,}): assistants are '
                 'meant to stand between teacher and student. Is the order of `assistants` from large to '
                 'small?')
        before = name


def _built(name: str, config: dict) -> torch.nn.Module:
    from mmpretrain.registry import MODELS
    try:
        with torch.random.fork_rng(devices=[]):
            return MODELS.build(copy.deepcopy(config)).eval()
    except Exception as error:  # whatever a backbone's constructor says, the user needs to know which network
        raise ConfigError(f'the {name} network cannot be built from its `model`: {type(error).__name__}: '
                          f'{error}') from error


@torch.no_grad()
def _logits_of_two_images(name: str, network: torch.nn.Module, dataset) -> torch.Tensor:
    """(2, C)."""
    if not isinstance(getattr(network, 'head', None), torch.nn.Module):
        raise ConfigError(f'the {name} network of type {type(network).__name__} has no `head` whose logits '
                          'could be distilled')
    try:
        batch = network.data_preprocessor(default_collate([dataset[0], dataset[len(dataset) // 2]]), False)
        logits = network(batch['inputs'], mode='tensor')
    except Exception as error:  # a wrong in_channels, an image too small for the strides, ...
        raise ConfigError(f'the {name} network fails on two images of the test set: {type(error).__name__}: '
                          f'{error}') from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ConfigError(f'the head of the {name} network, {type(network.head).__name__}, should return '
                          f'logits (N, C); got {found}')
    return logits


def _evaluation_set(plan: StudentPlan, data: DataSets) -> Any:
    parts = evaluation_parts(plan.config)
    return None if parts is None else data.get(parts[0]['dataset'], 'the test set')


def _evaluation(plan: StudentPlan, data: DataSets) -> str:
    """The test set is needed only at the end, so its absence would cost the whole run."""
    dataset = _evaluation_set(plan, data)
    if dataset is None:
        return 'no test and no validation set: accuracies will be missing from the summary'
    head = (plan.config.model.get('head') or {}).get('num_classes')
    classes = classes_of(dataset)
    if head is not None and classes is not None and len(classes) != head:
        raise ConfigError(f'model.head.num_classes={head}, but the test set has {len(classes)} classes')
    return f'{len(dataset)} images'


def _metrics(plan: StudentPlan) -> str:
    """All metrics of all stages are built: those of the student come into use when the teacher is trained."""
    from mmengine.registry import METRICS
    teacher = dict(type='ckd_mm.SnapshotEnsemble', snapshots=['unknown yet'])
    student = plan.comparing(plan.plain(), teacher) if isinstance(plan, DistillationPlan) else plan.plain()
    found = {name: student.get(name) for name in ('val_evaluator', 'test_evaluator')}
    found.update({
        f'{name}.val_evaluator': changes['val_evaluator']
        for name, changes in changes_of(plan.config).items() if changes.get('val_evaluator') is not None
    })
    for name, metrics in found.items():
        for metric in as_list(metrics):
            if not isinstance(metric, dict) or not isinstance(metric.get('type'), (str, type)):
                raise ConfigError(f"{name}: {metric!r} should be a metric, dict(type='Accuracy'), or a list "
                                  "of them")
            try:
                METRICS.build(copy.deepcopy(metric))
            except Exception as error:  # an unknown type, a setting that it does not take or cannot use
                own = f'; did you mean ckd_mm.{metric["type"]}?' if metric[
                    'type'] in OUR_METRICS.module_dict else ''
                raise ConfigError(f'{name}: {metric["type"]} cannot be built: {type(error).__name__}: '
                                  f'{error}{own}') from error
    return ', '.join(
        sorted({str(metric['type'])
                for metrics in found.values()
                for metric in as_list(metrics)})) or 'none'


def _training(plan: StudentPlan, data: DataSets) -> str:
    """Both training sets are listed and one image of each is read: the student's is needed only when the
    teacher is trained."""
    said = []
    for name, config in plan.training_sets.items():
        dataset = data.get(config, f'{name}.dataset')
        try:
            image_shape(dataset)
        except Exception as error:  # an unknown key of a transform, a damaged image, ...
            raise ConfigError(f'{name}.dataset cannot be read: {type(error).__name__}: {error}') from error
        said.append(f'{name} {len(dataset)} images')
    return ', '.join(said)


def _disk(plan: DistillationPlan) -> str:
    """Room for the snapshots that are still to come and two training checkpoints with momentum (twice the
    weights)."""
    from mmpretrain.registry import MODELS
    with torch.random.fork_rng(devices=[]):
        network = MODELS.build(copy.deepcopy(plan.teacher['model']))
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    there = len(list(plan.work_dir.glob('snapshots/epoch_*.pth'))) + len(
        list(plan.work_dir.glob('teacher_*/snapshots/epoch_*.pth')))
    wanted = sum(len(plan.snapshot_epochs_of(run)) for run in range(plan.runs))
    needed = weights * (max(wanted - there, 0) + 4 * plan.runs)
    folder, free = _free_disk(plan)
    if needed > free:
        raise CkdError(f'the trajectory needs about {needed / 2**30:.1f} GiB ({wanted} snapshots of '
                       f'{weights / 2**20:.0f} MiB) and {folder} has {free / 2**30:.1f} GiB free; keep '
                       'fewer snapshots '
                       '(teacher.snapshots), or choose another --work-dir')
    return f'about {needed / 2**20:.0f} MiB needed, {free / 2**30:.0f} GiB free'


def _free_disk(plan: StudentPlan) -> tuple[Path, int]:
    """Where the run will write, and the bytes that are free there."""
    folder = plan.work_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder, shutil.disk_usage(folder).free


def _targets(plan: DistillationPlan, data: DataSets) -> str:
    """Images can be augmented twice in the same way, there is room for what the teachers say of them, and the
    loss takes it."""
    needed, said, stages = 0, [], StageLog(plan.work_dir)
    for link in plan.links:
        if stages.is_done(link.stage):  # its targets may have been removed
            continue
        config = plan.cache.show_views(copy.deepcopy(link.config))
        dataset = data.get(link.config.train_dataloader.dataset, 'train_dataloader.dataset')
        if not isinstance(dataset, ReplayableDataset):
            dataset = Views(dataset)
        dataset.replay(SEED)
        if plan.cache.file is not None:
            plan.cache.check_file(len(dataset))
        places = np.linspace(0, len(dataset) * plan.cache.views - 1, PAIRS).astype(int).tolist()
        with random_state_kept():
            first = [dataset[place]['inputs'] for place in places]
            again = [dataset[place]['inputs'] for place in reversed(places)][::-1]
        if not all(map(torch.equal, first, again)):
            raise ConfigError(f'distill.cache: an image of the {link.what} is augmented in two ways in the '
                              'same view: a transform of '
                              'train_dataloader.dataset.pipeline has random numbers of its own, which are '
                              'not of python, numpy or torch')
        classes = (config.model.get('head') or {}).get('num_classes') or len(classes_of(dataset) or ())
        layout = Layout(len(dataset), plan.cache.views, classes, 1, plan.cache.dtype, plan.cache.top_k,
                        plan.kd_loss.get('aggregation') == 'loss')
        _check_loss_of_targets(plan, classes or 2)
        said.append(f'{link.what} {layout.images} images in {layout.views} views, '
                    f'{layout.bytes / 2**20:.1f} MiB')
        folder = plan.targets_folder(link)
        if not TargetFile(
                folder
        ).is_complete:  # an earlier run may have made a part: files have their size from the start, and holes
            needed += max(layout.bytes - sum(file.stat().st_blocks * 512 for file in folder.glob('*.npy')), 0)
    folder, free = _free_disk(plan)
    if needed > free:
        raise CkdError(f'the targets of distill.cache need {needed / 2**30:.2f} GiB and {folder} has '
                       f'{free / 2**30:.2f} GiB free; keep '
                       "less of them (fewer views, dtype='float16', top_k=16), or choose another --work-dir")
    return ', '.join(said) or 'not needed any more'


def _check_loss_of_targets(plan: DistillationPlan, classes: int) -> None:
    """A loss may have a method ``target`` (of the class it is made from) and still want logits."""
    loss = OUR_MODELS.build(copy.deepcopy(plan.kd_loss))
    logits, labels = torch.zeros(2, classes), torch.zeros(2, dtype=torch.long)
    try:
        loss(logits, SoftTarget(logits.log_softmax(dim=1), None, labels),
             *([labels] if plan.needs_labels else []))
    except Exception as error:  # whatever it does with what it takes for logits
        raise ConfigError(f'distill.cache: {plan.kd_loss["type"]} cannot be called with a SoftTarget, which '
                          'is what is kept, instead of '
                          f'the logits of teachers: {type(error).__name__}: {error}. Let its `forward` take '
                          'both, or take distill.cache '
                          'out') from error


def _features(plan: DistillationPlan, data: DataSets, distillers: dict[str, dict]) -> str:
    """What heads and distillers read of the networks is there, and fits together."""
    said = []
    teacher: Snapshot = UntrainedSnapshot(model=model_config_of(plan.merged_teacher())) if plan.trains_teacher \
        else plan.open_trajectories()[0].last
    if plan.heads is not None:
        said.append(_heads(plan, data, teacher))
    if distillers:
        teachers = 1 if plan.schedule.progressive else plan.expected_teachers()
        before: torch.nn.Module = SnapshotEnsemble([teacher] * teachers, plan.teacher.get('model'))
        images = torch.rand(
            2, *image_shape(data.get(plan.plain().train_dataloader.dataset, 'train_dataloader.dataset')))
        for link in plan.links:  # each learns from the one before, by the same distiller
            network = _built(link.what, model_config_of(link.config))
            for name, distiller in distillers.items():
                found = check_distiller(network, before, distiller, images, key=f'{name}.distiller')
                said.append(f'{link.what}, {name}.distiller: {found}')
            before = network
    return '; '.join(said)


def _heads(plan: DistillationPlan, data: DataSets, teacher: Snapshot) -> str:
    if 'file' in plan.heads:
        heads = read_heads(plan.heads['file'])
        used, weights = read_use(plan.heads.get('use'), heads), plan.kd_loss.get('teacher_weights')
        if weights is not None and len(weights) != len(used):
            raise ConfigError(f'distill.teacher_weights={list(weights)} should be {len(used)} numbers, one '
                              f'for each of {used}')
        return f'{len(heads.out_indices)} trained heads on outputs {list(heads.out_indices)}'
    images = data.get(plan.head_training().train_dataloader.dataset, 'train_dataloader.dataset of the heads')
    with torch.random.fork_rng(devices=[]):
        training = HeadTraining(teacher, input_shape=image_shape(images), model=plan.teacher.get('model'),
                                **{key: plan.heads[key] for key in HEAD_KEYS if key in plan.heads})
    known, used = [*map(int, training.heads), TEACHER], plan.heads.get('use') or []
    unknown = [item for item in used if item not in known]
    if unknown:
        raise ConfigError(f'heads.use names {unknown[0]!r}, which is none of {known}')
    if len(set(used)) != len(used):
        raise ConfigError(f'heads.use={list(used)} should name who teaches once each')
    size = sum(parameter.numel() for parameter in training.heads.parameters())
    return f'{len(training.heads)} heads of {size:,} parameters on outputs {known[:-1]}'


def _snapshots(plan: DistillationPlan) -> str:
    """All are whole. To read them once is enough."""
    trajectories = plan.open_trajectories()
    for trajectory in trajectories:
        trajectory.check()
    return f'{sum(map(len, trajectories))} whole'


def _trajectories(plan: DistillationPlan, data: DataSets) -> str:
    said = []
    trajectories = plan.open_trajectories()
    plan.selector.check([trajectory.epochs for trajectory in trajectories],
                        [trajectory.max_epochs for trajectory in trajectories])
    learnt = classes_of(data.get(plan.plain().train_dataloader.dataset, 'train_dataloader.dataset'))
    for trajectory in trajectories:
        snapshot = trajectory.last
        network = snapshot.build()
        _classes_of('teacher', network, _evaluation_set(plan, data), plan.measures_plane, plan)
        classes = getattr(getattr(network, 'head', None), 'num_classes', None)
        wanted = (plan.config.model.get('head') or {}).get('num_classes')
        if None not in (classes, wanted) and classes != wanted:
            raise ConfigError(f'teacher {snapshot} has {classes} classes and '
                              f'model.head.num_classes={wanted}; distillation of logits '
                              'needs the same classes')
        require_same_classes(snapshot, learnt, 'the classes of its training set')
        measured = check_recorded_accuracy(snapshot, plan.plain())
        said.append(f'{trajectory.folder}: {len(trajectory)} snapshots, epochs {trajectory.epochs[0]} to '
                    f'{trajectory.epochs[-1]}' +
                    ('' if measured is None else f', the last is right on {measured:.1f} % of some '
                                                 'validation images '
                     f'(recorded {snapshot.accuracy:.1f} %)'))
    return '; '.join(said)
