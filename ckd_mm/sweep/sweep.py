"""Many students of one teacher: which epoch of the teacher (Fig. 2 of CheckpointKD), which ensemble (Fig.
3)."""

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError
from ..files import read_json, write_json
from ..pipeline import CheckpointDistillRunner, DistillationPlan
from ..pipeline.stage_log import StageLog
from ..selection import build_selector
from ..trajectory import Trajectory
from .lock import Locked, lock
from .results import SweepResults, read_trials, trial_folders, write_results
from .shard import Shard
from .trials import ALONE, EPOCH, LOCK, Trial, TrialFolder

TEACHER, TRIALS, TEACHER_RECORD = 'teacher_run', 'trials', 'teacher.json'
POLL = 5.0  # seconds


class Training:
    """One training of the teacher, an ordinary run in ``folder``.

    Args:
        config: of the sweep, with the seed of this training.
        epochs: at which it leaves snapshots.
        wanted: those of them that somebody is to be taught by.
        validate: as of :class:`Teacher`.

    Raises:
        ConfigError: it has begun, and does not leave a snapshot that is wanted.
    """

    def __init__(self, config: Config, folder: Path, epochs: Sequence[int], wanted: Sequence[int],
                 validate: bool) -> None:
        self.folder = Path(folder)
        record = self.folder / TEACHER_RECORD
        self.record = read_json(record) if record.exists() else dict(snapshot_epochs=sorted(epochs),
                                                                     validated=validate)
        missing = sorted(set(wanted) - set(self.record['snapshot_epochs']))
        if missing:
            raise ConfigError(f'the teacher in {self.folder} leaves no snapshot after epochs {missing}; '
                              'choose among '
                              f'{self.record["snapshot_epochs"]}, or another --work-dir')
        own = copy.deepcopy(config)
        own.work_dir, own.selector = str(self.folder), 'last'
        own.teacher.snapshots = ConfigDict(epochs=self.record['snapshot_epochs'],
                                           ema=own.teacher.snapshots.get('ema', False))
        if not self.record['validated']:
            for part in (own, own.teacher):
                for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
                    part.pop(key, None)
        self.config, self.plan = own, DistillationPlan(own)

    @property
    def done(self) -> bool:
        """
        Raises:
            ConfigError: it was done with other settings.
        """
        stages = StageLog(self.folder)
        if stages.is_done('teacher'):
            stages.require_unchanged('teacher', self.plan.teacher_config().to_dict())
        return stages.is_done('teacher')

    def run(self) -> None:
        """
        Raises:
            Locked: another process is at it.
        """
        with lock(self.folder / LOCK):
            if not self.done:
                write_json(self.folder / TEACHER_RECORD, self.record)
                CheckpointDistillRunner(self.config).train(until='teacher')


class Teacher:
    """The trajectories that the students of a sweep learn from: trained in ``folder``, ``folder_2``, ... with
    a seed each, or given
    by ``teacher.trajectory``.

    Args:
        config: of the sweep.
        folder: of the first training.
        trials: whose snapshots it must leave.
        validate: False: the teacher's training looks at no validation set, and nothing at the test set.

    Raises:
        ConfigError: a trial wants a snapshot that the teacher does not leave.
    """

    def __init__(self, config: Config, folder: Path, trials: Sequence[Trial], validate: bool = True) -> None:
        self.log = print
        own = copy.deepcopy(config)
        own.work_dir, own.launcher, own.resume, own.load_from = str(folder), 'none', True, None
        own.student_alone = False
        selectors = [build_selector(trial.selector) for trial in trials]
        plan = DistillationPlan(own)
        self.trainings: list[Training] = []
        self.given: list[Trajectory] = []
        if not plan.trains_teacher:
            self.folders, self.given = plan.trajectory_folders, plan.open_trajectories()
            for selector in selectors:
                there = self.given[:selector.runs]
                selector.check([trajectory.epochs for trajectory in there],
                               [trajectory.max_epochs for trajectory in there])
            return
        if plan.probe is not None and own.get(
                'probe') is None:  # its selector asked for one; that of the trials does not
            own.probe = ConfigDict()
        seed = (plan.merged_teacher().get('randomness') or {}).get('seed')
        for run in range(max(selector.runs for selector in selectors)):
            wanted = {
                epoch
                for selector in selectors if run < selector.runs
                for epoch in selector.wanted(plan.teacher_epochs, run)
            }
            if run > 0 and seed is not None:
                own.teacher.randomness = ConfigDict(seed=seed + run)
            self.trainings.append(
                Training(own, folder if run == 0 else Path(f'{folder}_{run + 1}'),
                         {*wanted, *(plan.snapshot_epochs_of(0) if run == 0 else ())}, wanted, validate))
        self.folders = [training.folder for training in self.trainings]

    def trajectories(self) -> list[Trajectory]:
        return self.given or [Trajectory.open(folder) for folder in self.folders]

    @property
    def trained(self) -> bool:
        """
        Raises:
            ConfigError: it was trained with other settings.
        """
        return all([training.done for training in self.trainings])  # a list: each is looked at

    def train(self, poll: float = POLL) -> None:
        """Train what no other process is training, and wait for the rest; a process that dies is relieved."""
        polls = 0
        while not self.trained:
            busy = []
            for training in self.trainings:
                try:
                    training.run()
                except Locked as other:
                    busy.append(f'{training.folder.name} by {other}')
            if busy:
                if polls % 12 == 0:
                    self.log(f'The teacher is being trained in {"; ".join(busy)}: waiting for it')
                polls += 1
                time.sleep(poll)


def check_batch(config: Config) -> None:
    """
    Raises:
        ConfigError: the learning rate is for another number of images a step than the one process of a trial
            sees.
    """
    scaling, images = config.get('auto_scale_lr') or {}, config.train_dataloader.get('batch_size')
    wanted, steps = scaling.get('base_batch_size'), config.optim_wrapper.get('accumulative_counts', 1)
    if None not in (wanted, images) and images * steps != wanted and not scaling.get('enable'):
        raise ConfigError(f'each training of a sweep runs in one process, {images * steps} images a step, '
                          'and the learning rate is for '
                          f'{wanted} (auto_scale_lr.base_batch_size): add --auto-scale-lr, or --cfg-options '
                          f'train_dataloader.batch_size={wanted}')


def plan_trials(seeds: Sequence[int], epochs: Sequence[int] = (), ensembles: Sequence[str] = (),
                sizes: Sequence[int] = (), alone: bool = True) -> list[Trial]:
    """All of them, each shard's in the order in which it does them: seed after seed, so that a figure can be
    drawn early."""
    found = []
    for seed in seeds:
        found += [Trial(ALONE, seed)] if alone else []
        found += [Trial(EPOCH, seed, epoch=epoch) for epoch in epochs]
        found += [Trial(kind, seed, k=k) for kind in ensembles for k in sizes]
    return found


def snapshot_epochs_of(config: Config) -> list[int]:
    """All epochs at which a config's teacher leaves, or left, a snapshot."""
    plan = DistillationPlan(config)
    return plan.snapshot_epochs_of(0) if plan.trains_teacher else plan.open_trajectories()[0].epochs


class Sweep:
    """
    Args:
        config: that all trials share, with its ``work_dir``.
        trials: all, those of other processes too.
        shard: which of them are this process's.
        folder: of the trials, below the work_dir.
        validate: as of :class:`Teacher`.

    Raises:
        ConfigError: a trial cannot work, or was begun with other settings; nothing is trained before.
    """

    def __init__(self, config: Config, trials: Sequence[Trial], shard: Shard = Shard(), folder: str = TRIALS,
                 validate: bool = True, teacher_config: Config | None = None) -> None:
        check_batch(config)
        several = next((trial for trial in trials if (trial.k or 1) > 1), None)
        if config.get('heads') is not None and several is not None:
            raise ConfigError(f'trial {several.name}: heads are mounted on one snapshot, and {several.k} '
                              'teach; leave --ensembles out, or '
                              'the heads, --cfg-options heads=None')
        self.config, self.trials, self.shard = config, list(trials), shard
        self.work_dir = Path(config.work_dir)
        self.folder = self.work_dir / folder
        self.teacher = Teacher(teacher_config or config, self.work_dir / TEACHER, self.trials, validate)
        self.teacher.log = self.log
        names = [trial.name for trial in self.trials]
        twice = [name for index, name in enumerate(names) if name in names[:index]]
        if twice:
            raise ConfigError(f'trial {twice[0]} is asked for twice; name every epoch, seed, size and value '
                              'once')
        self.todo: list[tuple[Trial, TrialFolder, Config]] = []
        trajectories = self.teacher.trajectories() if self.teacher.trained else None
        for index, trial in enumerate(self.trials):
            place = TrialFolder(self.folder / trial.name)
            settings = trial.config(config, place.folder,
                                    self.teacher.folders[:build_selector(trial.selector).runs])
            place.check(trial, settings)
            if place.finished:
                if trajectories is not None:
                    place.check_teachers(trajectories)
            elif shard.owns(index):
                self.todo.append((trial, place, settings))
        self.check_earlier()

    def check_earlier(self) -> None:
        """
        Raises:
            ConfigError: trials of an earlier sweep, which are drawn together with these, had other settings.
        """
        for folder in trial_folders(self.folder):
            place = TrialFolder(folder)
            if place.finished and folder.name not in [trial.name for trial in self.trials]:
                trial = Trial(**{field.name: place.record[field.name] for field in fields(Trial)})
                place.check(trial, trial.config(self.config, folder, self.teacher.folders[:1]))

    def log(self, line: str) -> None:
        print(f'[sweep {self.shard.index}/{self.shard.total}] {line}', flush=True)

    def run(self) -> dict[str, str]:
        """Do what is left of this process's trials, the teacher first.

        Returns:
            What failed: name of the trial and error.
        """
        mine = sum(map(self.shard.owns, range(len(self.trials))))
        self.log(f'{len(self.trials)} trials, {mine} of them here, {mine - len(self.todo)} finished before')
        if self.todo:
            self.teacher.train()
        failed = {}
        for number, (trial, place, config) in enumerate(self.todo, 1):
            self.log(f'Trial {number} of {len(self.todo)}: {trial.name}')
            try:
                place.run(trial, config)
            except Locked as other:
                self.log(f'Trial {trial.name} is being run by {other}: skipped')
            except Exception as error:  # the others go on; the traceback is in its folder
                failed[trial.name] = f'{type(error).__name__}: {error}'
                self.log(f'Trial {trial.name} failed: {failed[trial.name]}')
        return failed

    def rows(self) -> list[dict[str, Any]]:
        """Of its trials, see :func:`read_trials`; those that nobody has begun have the ``status``
        'waiting'."""
        found = {row['name']: row for row in read_trials(trial_folders(self.folder))}
        return [
            found.get(trial.name, dict(asdict(trial), name=trial.name, status='waiting'))
            for trial in self.trials
        ]

    def collect(self) -> str:
        """Write down what there is, that of earlier sweeps in this work_dir too.

        Returns:
            Tables and files, for a person.
        """
        with lock(self.work_dir / 'results.lock', wait=True):
            results = SweepResults(read_trials(trial_folders(self.folder)),
                                   [str(folder) for folder in self.teacher.folders], self.config.pretty_text)
            written = write_results(results, self.work_dir)
        return '\n'.join([results.table(), *self.open_trials(), 'Written: ' + ', '.join(map(str, written))])

    def open_trials(self) -> list[str]:
        """A line on those that are not finished, if there are any."""
        still = [row['status'] for row in self.rows() if row['status'] != 'finished']
        counts = ', '.join(f'{still.count(status)} {status}' for status in sorted(set(still)))
        return [f'{len(still)} of {len(self.trials)} trials are not finished: {counts}'] if still else []

    def wait_for_others(self, poll: float = POLL) -> None:
        """Until nothing is being trained: a process of torchrun that ends with an error takes the others with
        it."""
        while any(row['status'] in ('running', 'begun', 'waiting') for row in self.rows()):
            time.sleep(poll)
