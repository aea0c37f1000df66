"""What can be known to be wrong before anything is trained: the checks of all stages, one after the other."""

from collections.abc import Callable, Iterator, Sequence

from ..compat import check_environment, versions
from ..distributed import on_all
from ..errors import CkdError, ConfigError
from ..evaluation.evaluate import check_recorded_accuracy, evaluation_parts, require_same_classes
from ..files import read_json
from ..trajectory import MANIFEST
from .data_sets import classes_of
from .run import Run
from .stage import Check, Stage
from .store import read_records


class Preflight:
    """Runs checks and says what they found.

    Args:
        log: takes a line a check.
        all_problems: go on after a problem and raise all of them together (``tools/doctor.py``).
    """

    def __init__(self, log: Callable[[str], None], all_problems: bool = False) -> None:
        self.log, self.all_problems = log, all_problems
        self.problems: dict[str, str] = {}  # to the check that found it

    def check(self, name: str, check: Callable[[], str]) -> None:
        """On all processes of a run: some data sets wait for each other where they are built.

        Raises:
            CkdError: what is wrong, unless all problems are wanted.
        """
        try:
            detail = on_all(check)
        except CkdError as error:
            if not self.all_problems:
                raise
            first = self.problems.setdefault(str(error), name)  # several checks may read the same data set
            self.log(f'[ problem ] {name}: {error}' if first == name else f'[ problem ] {name}: as above, {first}')
        else:
            self.log(f'[ ok ] {name}: {detail}')

    def check_stages(self, run: Run, stages: Sequence[Stage]) -> None:
        """Those of the whole run, and then stage by stage."""
        for check in checks_of_run(run):
            self.check(*check)
        for stage in stages:
            for name, check in self._checks_of(stage, run):
                self.check(f'{stage.name}: {name}', check)

    def _checks_of(self, stage: Stage, run: Run) -> Iterator[Check]:
        """Listing them may already fail."""
        listed: list[Check] = []

        def listing() -> str:
            listed.extend(stage.checks(run))
            return f'{len(listed)} checks'

        try:
            listing()
        except CkdError as error:
            yield Check('settings', lambda error=error: _fail(error))
        yield from listed

    def end(self) -> None:
        """
        Raises:
            CkdError: all problems that were found.
        """
        if self.problems:
            raise CkdError(f'{len(self.problems)} problem(s) found: ' + ' | '.join(
                f'{name}: {problem}' for problem, name in self.problems.items()))


def _fail(error: CkdError) -> str:
    raise error


def environment() -> str:
    check_environment()
    return ', '.join(f'{name} {version}' for name, version in versions().items()
                     if name in ('torch', 'mmengine', 'mmcv', 'mmpretrain'))


def checks_of_run(run: Run) -> Iterator[Check]:
    yield Check('work_dir', lambda: check_work_dir(run))
    yield Check('evaluation', lambda: check_evaluation(run))


def check_work_dir(run: Run) -> str:
    found = sorted(str(path.relative_to(run.work_dir)) for path in run.work_dir.glob('*/last_checkpoint'))
    if (run.work_dir / MANIFEST).exists() and read_json(run.work_dir / MANIFEST).get('snapshots'):
        found.append(MANIFEST)
    if any(record['state'] == 'done' for record in read_records(run.work_dir).values()):
        found.append('finished stages')
    if found and not run.resumes:
        raise ConfigError(f'work_dir={run.work_dir} holds the results of an earlier run ({", ".join(found)}). Pass '
                          '--resume to go on with it, or choose another --work-dir; nothing was overwritten')
    return f'{run.work_dir}, {"resuming" if found else "new"}'


def check_evaluation(run: Run) -> str:
    """The test set is needed only at the end, so its absence would cost the whole run."""
    dataset = run.test_set()
    if dataset is None:
        return 'no test and no validation set: accuracies will be missing from the summary'
    head = (run.config.model.get('head') or {}).get('num_classes')
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
