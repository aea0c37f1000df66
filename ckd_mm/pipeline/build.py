"""Which stages a run has, in what order, and who teaches whom."""

import difflib
import inspect
from dataclasses import dataclass, replace
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ..errors import ConfigError, reading
from ..infoplane.probe import Probe
from ..infoplane.settings import ProbeSettings
from ..selection import Selector, build_selector
from ..settings import RunnerSettings, Settings, setting, settings_in
from ..stages.calibrate import CalibrateStage
from ..stages.checks import check_no_own_hook
from ..stages.distillation import Distillation, DistillSettings, Schedule
from ..stages.ensembles import EnsemblesStage
from ..stages.given_teacher import GivenTeacherStage
from ..stages.heads import HeadSettings, HeadsStage
from ..stages.hint import HintSettings, HintStage
from ..stages.networks import BASELINE, AssistantSettings, Network, networks_of
from ..stages.peers import MutualSettings, PeerSettings, PeersStage
from ..stages.probe import ProbeStage, make_probe
from ..stages.select import SelectStage
from ..stages.student import StudentStage
from ..stages.student_task import StudentTask
from ..stages.teacher import TeacherSettings, TeacherStage, WhenSettings
from ..validate import check_keys
from .model_files import resolve_model_files
from .run import Run
from .stage import STUDENT, Stage, TeachingStage, numbered

METHOD_KEYS = ('heads', 'hint', 'assistants', 'generations')


# ------------------------------------------------------------ the method
def build_pipeline(run: Run) -> list[Stage]:
    """All stages of a run, in their order.

    Raises:
        ConfigError: a setting cannot work together with the others.
    """
    settings, distillation = run.settings, None  # how all students are distilled
    for hook in run.config.get('custom_hooks') or []:
        check_no_own_hook('custom_hooks', hook)
    if settings.peer is not None:
        stages: list[Stage] = [PeersStage(settings.peer, settings.distill)]
    elif settings.teacher is None:
        stages = [StudentStage(Network(STUDENT), snapshots=settings.student_snapshots)]
    else:
        selector = build_selector(settings.selector)
        probe = make_probe(run, selector)
        schedule = Schedule(settings.distill, run.student_training(), probe)
        distillation = Distillation(settings.distill, schedule)
        stages = distillation_stages(run, selector, probe, distillation)
    baselines = [StudentStage(Network(numbered(BASELINE, index), seed_shift=index), None, distillation,
                              snapshots=settings.student_snapshots)
                 for index in range(int(settings.student_alone))]
    return [*stages, *baselines, *ensemble_stages(run, stages, baselines)]


def distillation_stages(run: Run, selector: Selector, probe: Probe | None,
                        distillation: Distillation) -> list[Stage]:
    """Teachers are trained or given, and measured; some of their snapshots are selected, may get heads and
    give hints, and teach the first student; each student teaches the next."""
    settings = run.settings
    compared = distillation.schedule.comparison  # images that neither teachers nor students are trained on
    held_out = compared or (probe if probe is not None and probe.probe_split == 'held_out' else None)
    needs_plane = settings.probe is not None or selector.needs_plane

    if settings.teacher.is_trained:
        teachers: list[Stage] = [TeacherStage(settings.teacher, selector, index, held_out)
                                 for index in range(selector.runs)]
    else:
        teachers = [GivenTeacherStage(settings.teacher, selector, needs_plane)]
    plane = ProbeStage(probe, teachers) if needs_plane else None
    students: list[StudentStage] = []  # a selector may train the last of them for a short time
    select = SelectStage(selector, teachers, probe, plane, distillation,
                         lambda run, folder: StudentTask(run, students[-1], probe, folder))
    heads = HeadsStage(settings.heads, select, held_out) if settings.heads is not None else None

    calibrate = CalibrateStage(select, probe) if settings.distill.calibrate else None
    if calibrate is not None and heads is not None:
        raise ConfigError('distill.calibrate scales snapshots, and heads teach beside one; take '
                          'distill.calibrate or heads out')
    teaching: TeachingStage = heads or calibrate or select
    hint = HintStage(settings.hint, teaching, compared) if settings.hint is not None else None
    for network in networks_of(run):  # assistants, generations, the student
        snapshots = settings.student_snapshots if network.name == STUDENT else None
        teaching = StudentStage(network, teaching, distillation, weighted=not students, hint=hint,
                                snapshots=snapshots)
        students.append(teaching)
    check_together(run, select, students)
    with_targets = [stage for student in students for stage in (student.targets, student)]
    stages = (*teachers, plane, select, calibrate, heads, hint, *with_targets)
    return [stage for stage in stages if stage is not None]


def ensemble_stages(run: Run, stages: list[Stage], baselines: list[StudentStage]) -> list[Stage]:
    """Students that are measured together, where there are several."""
    names = {network.name for network in networks_of(run) if network.generation}
    members = {'generations': [stage for stage in stages if stage.name in names], 'students alone': baselines}
    members = {name: several for name, several in members.items() if len(several) > 1}
    select = None
    if 'generations' in members and not run.settings.assistants:  # else an assistant taught the first
        select = stage_of(stages, SelectStage.name)
    return [EnsemblesStage(members, select)] if members else []


# ------------------------------------------------------------ what a config may say
@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """The keys of a config that are not mmengine's. The config itself is the student's."""
    runner_type: str | None = setting(
        None, help="'ckd_mm.CheckpointDistillRunner': mmpretrain's own tools run it, too")
    teacher: TeacherSettings | None = setting(
        None, help='whose checkpoints teach, to be given; None: the student is trained on its own loss, and '
        'the run ends with the same table and page')
    peer: PeerSettings | None = setting(
        None, help='instead of a teacher: a network that learns together with the student')
    probe: ProbeSettings | None = setting(
        None, help='of the information plane; left out: measured where the selector needs it; None: never')
    selector: str | dict = setting(
        'last', help="name or config of a selector, say 'information_plane' or dict(type='ensemble', "
        "kind='snapshot', k=4)")
    heads: HeadSettings | None = setting(None, help="classifier heads on the teacher's stages (DIH)")
    hint: HintSettings | None = setting(
        None, help='a first stage of the student on the features of the teacher (FitNets)')
    assistants: list | None = setting(
        None, help='networks between teacher and student (TAKD), from large to small, each taught by the one '
        'before; the n-th has the seed randomness.seed + 100 n')
    generations: int | None = setting(
        None, at_least=1, help="how often the student's network is trained, each time taught by the one "
        'before (sequential KD); the n-th has the seed randomness.seed + n')
    distill: DistillSettings | MutualSettings = setting(None, help='how the student is distilled')
    student_alone: int | bool = setting(
        0, at_least=0, help='also train so many students without a teacher, with seeds randomness.seed, '
        'randomness.seed + 1, ..., and measure them together')
    student_snapshots: WhenSettings | None = setting(None, help='when to keep the student while it learns')
    trust_checkpoint: bool = setting(
        False, help='run the code that checkpoint files may hold (`load_from`, `--resume`, `init_cfg`, '
        '`tools/test.py`); else files that need it are refused')
    rehearsal: bool = setting(True, help='before the first stage try every training and evaluation on a few '
                                         'images, in a scratch folder')

    @classmethod
    def of(cls, config: Config) -> 'RunSettings':
        """
        Args:
            config: whole; networks named by a file are put in their place.

        Raises:
            ConfigError: a key that looks like one of these, or a setting that cannot work.
        """
        resolve_model_files(config)
        require_no_misspelled(cls, config)
        found, kind = {key: config[key] for key in cls.names() if key in config}, DistillSettings
        if found.get('peer') is not None:
            _refuse(config, 'with `peer` the networks learn from each other, there is no other teacher',
                    'teacher', 'probe', 'selector', *METHOD_KEYS)
            _refuse(config, 'with `peer` the weights of two networks are trained together',
                    'student_snapshots')
            kind = MutualSettings
        elif 'teacher' in found and found['teacher'] is None:
            _refuse(config, 'with teacher=None nothing is distilled, and the student is alone already',
                    'probe', 'selector', *METHOD_KEYS, 'distill', 'student_alone')
        else:
            found.setdefault('teacher', {})
        distill = kind.read('distill', {} if (own := found.pop('distill', None)) is None else own)
        assistants = [] if (own := found.pop('assistants', None)) is None else own
        if not isinstance(assistants, (list, tuple)):
            raise ConfigError(f'assistants={assistants!r} should be a list of dict(model=..., <training '
                              'settings>), from large to small')
        return replace(cls.read('', found), distill=distill, assistants=[
            AssistantSettings.read(f'assistants[{index}]', own) for index, own in enumerate(assistants)])


def require_dicts(config: Config) -> None:
    """Raises ConfigError where a value is of another kind than its key, say teacher='r34.py'; for tools that
    read only some of the keys, and also configs without a teacher."""
    RunnerSettings.of(config)
    for item in RunSettings.own_fields():
        kinds = settings_in(item.type)
        if kinds and config.get(item.name) is not None:
            check_keys(item.name, config[item.name], [name for kind in kinds for name in kind.names()])


def require_no_misspelled(settings: type[Settings], config: Config) -> None:
    """A config may hold helper variables of any names, but hardly ``assistents=[...]``: a key close to one of
    ours is refused, unless it is a dict that could not be meant for that one, say ``head =
    dict(num_classes=10)``; and one that is closer still to a key of mmengine."""
    known = {*RunnerSettings.names(), *inspect.signature(Runner).parameters}
    nested = {field.name: settings_in(field.type) for field in settings.own_fields()}
    for key, value in config.items():
        if key in nested or key in known:
            continue
        if meant := difflib.get_close_matches(key, known, n=1, cutoff=0.9):
            raise ConfigError(f'{key} is no key of mmengine; did you mean {meant[0]}? A variable of your own '
                              'needs another name')
        meant = difflib.get_close_matches(key, nested, n=1, cutoff=0.8)
        if not meant:
            continue
        known = {name for kind in nested[meant[0]] for name in kind.names()}
        if not known or not isinstance(value, dict) or set(value) <= known:
            raise ConfigError(f'{key} is no key of a distillation config; did you mean {meant[0]}?')


def _refuse(config: Config, why: str, *keys: str) -> None:
    found = [key for key in keys if config.get(key)]
    if found:
        raise ConfigError(f'{", ".join(found)}: {why}; take {"it" if len(found) == 1 else "them"} out, or '
                          'override what is inherited, --cfg-options '
                          f'{" ".join(f"{key}=None" for key in found)}')


# ------------------------------------------------------------ what must fit together
def check_together(run: Run, select: SelectStage, students: list[StudentStage]) -> None:
    """Raises ConfigError where settings that are right each for itself cannot work together."""
    settings, schedule = run.settings, select.schedule
    if settings.hint is not None and len(students) > 1:
        raise ConfigError('hint: it is a stage of one student; it cannot be combined with assistants or '
                          'generations')
    if len(students) > 1 and schedule.progressive:
        raise ConfigError('distill.schedule: ProgressiveTeacherHook walks along one trajectory; it cannot be '
                          'combined with assistants or generations, which learn from one network each')
    for student in students[:-1]:
        student.distilled_for(run)
    if settings.distill.cache is not None:
        run.require_epochs('distill.cache')
        _check_cache(settings.distill, select, students)
    select.check_trained(run)
    if settings.teacher.is_trained:
        students[0].teachers.check_chosen(run)


def _check_cache(distill: DistillSettings, select: SelectStage, students: list[StudentStage]) -> None:
    file, schedule = distill.cache.file, select.schedule
    if distill.distiller is not None:
        raise ConfigError('distill.cache: a distiller reads the features of teachers in every step, and what '
                          'is cached are their targets; take distill.cache or distill.distiller out')
    if schedule.progressive:
        raise ConfigError('distill.cache: what is cached is the target of one cohort, and '
                          'ProgressiveTeacherHook changes it; take distill.cache or the hook out')
    if not distill.is_cacheable:
        raise ConfigError(f'distill.cache: {distill.kd_loss["type"]} has no method `target` (and property '
                          '`target_settings`), so what it needs of the teachers cannot be cached; take '
                          'distill.cache out, or choose ckd_mm.CohortKDLoss')
    if distill.kd_weight == 0 and not schedule.anneals:
        raise ConfigError('distill.cache: with distill.kd_weight=0 no teacher is used, so there is nothing '
                          'to cache; take it out')
    trained = select.teacher.is_trained
    if file is not None and (trained or len(students) > 1):
        remedy = 'name them with teacher.trajectory or teacher.checkpoint, or leave distill.cache.file out' \
            if trained else 'leave it out, or assistants and generations'
        raise ConfigError(f'distill.cache.file={str(file)!r} is of teachers that are trained already: '
                          f'{remedy}')


def stage_of(stages: list[Stage], name: str) -> Any:
    """Raises ConfigError where there is no such stage."""
    named = {stage.name: stage for stage in stages}
    if name not in named:
        raise ConfigError(f'{name!r} is no stage of this config: {", ".join(map(repr, named))}')
    return named[name]


def open_run(config: Config, **log: Any) -> tuple[Run, list[Stage]]:
    """A config as a run and its stages.

    Args:
        log: ``log`` and ``warn`` of :class:`Run`.

    Raises:
        ConfigError: a setting cannot work; the message names it.
    """
    with reading('the stages of this config cannot be built'):
        run = Run(config, RunSettings.of(config), **log)
        return run, build_pipeline(run)
