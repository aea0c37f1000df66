"""What can be known to be wrong before anything is trained: the checks of all stages, one after the other."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..compat import check_environment, versions
from ..data.split import require_held_out
from ..distributed import on_all
from ..errors import CkdError, ConfigError, reading
from ..evaluation.evaluate import evaluation_parts, gives_top1
from ..training import as_list
from ..trajectory import MANIFEST, Trajectory
from ..trajectory.snapshot import ACCURACY
from .data_sets import check_image_files, check_labels
from .rehearsal import rehearsal_of
from .resume_check import check_resume
from .run import Run
from .stage import Check, Stage
from .store import DONE, read_records

# keys of configs for mmcv 1.x, and where mmengine has what they said
OLD_KEYS = dict(optimizer='optim_wrapper.optimizer', optimizer_config='optim_wrapper.clip_grad',
                lr_config='param_scheduler', total_epochs='train_cfg.max_epochs', seed='randomness.seed',
                runner='train_cfg', data='train_dataloader', evaluation='train_cfg.val_interval',
                checkpoint_config='default_hooks.checkpoint', log_config='default_hooks.logger')


class Preflight:
    """Runs checks and logs their findings.

    Args:
        log: takes a line a check.
        all_problems: go on after a problem and raise all of them together (``tools/doctor.py``).
        all_images: read every image of the run, too.

    Attributes:
        problems: messages, with the name of the check that found each.
        warnings: lines that checks gave to :meth:`warn`, each once.
    """
    LONG = 1.0  # seconds of a check from which on they are shown

    def __init__(self, log: Callable[[str], None], all_problems: bool = False,
                 all_images: bool = False) -> None:
        self.log, self.all_problems, self.all_images = log, all_problems, all_images
        self.problems: dict[str, str] = {}
        self.warnings: list[str] = []

    def warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)
            self.log(f'[ warning ] {line}')

    def check(self, name: str, check: Callable[[], str | None]) -> bool:
        """On all processes of a run: some data sets wait for each other where they are built.

        Returns:
            Whether there is no problem.

        Raises:
            CkdError: the problem, unless all problems are wanted.
        """
        started = time.perf_counter()
        try:
            found = on_all(lambda: self._found(name, check))
        except CkdError as error:
            if not self.all_problems:
                raise
            first = self.problems.setdefault(str(error), name)  # several checks may read the same data set
            self.log(f'[ problem ] {name}: {error if first == name else f"as above, {first}"}')
            return False
        if found is not None:
            seconds = time.perf_counter() - started
            self.log(f'[ ok ] {name}: {found}' + (f' ({seconds:.0f} s)' if seconds >= self.LONG else ''))
        return True

    @staticmethod
    def _found(name: str, check: Callable[[], str | None]) -> str | None:
        with reading(f'{name} cannot be checked'):
            return check()

    def check_stages(self, run: Run, stages: Sequence[Stage]) -> None:
        self.check('work_dir', lambda: check_work_dir(run))
        self.check('resume', lambda: check_resume(run, stages))
        self.check('keys', lambda: check_keys_of_today(run))
        self.check('labels', lambda: check_labels(run))
        self.check('accuracy', lambda: check_accuracy(run))
        self.check('held-out images', lambda: check_held_out(run, stages))
        rehearsed = to_rehearse(run, stages) if run.settings.rehearsal else set()
        with rehearsal_of(run) as scratch:
            failed: set[str] = set()
            for stage in stages:
                found = [self.check(f'{stage.name}: {name}', check) for name, check in checks_of(stage, run)]
                # a problem that is known would come back in other words
                fits = all(found) and not failed.intersection(stage.requires)
                if fits and stage.name in rehearsed:
                    rehearse = functools.partial(stage.rehearse, scratch)
                    fits = self.check(f'{stage.name}: rehearsal', rehearse)
                if not fits:
                    failed.add(stage.name)
        if self.all_images:
            self.check('image files', lambda: check_image_files(run))

    def end(self) -> None:
        """
        Raises:
            CkdError: all problems together.
        """
        if self.problems:
            raise CkdError(f'{len(self.problems)} problem(s) found:' + numbered_lines(
                f'{name}: {problem}' for problem, name in self.problems.items()))


def numbered_lines(items: Iterable[str]) -> str:
    return ''.join(f'\n{number}. {item}' for number, item in enumerate(items, 1))


def to_rehearse(run: Run, stages: Sequence[Stage]) -> set[str]:
    """Names of the unfinished stages. One that has begun was rehearsed then, and may not need its teachers
    any more; it is only rehearsed for what another one reads."""
    left = [stage for stage in stages if stage.name not in run.done]
    begun = {stage.name for stage in left if (run.work_dir / stage.name / 'last_checkpoint').exists()}
    return {stage.name for stage in left} - (begun - {name for stage in left for name in stage.requires})


def checks_of(stage: Stage, run: Run) -> Iterator[Check]:
    """A stage's checks; where listing them fails, the last is one that fails so."""
    try:
        with reading('the stage cannot be checked'):
            yield from stage.checks(run)
    except CkdError as error:

        def fail(error: CkdError = error) -> str:
            raise error

        yield Check('settings', fail)


def environment() -> str:
    check_environment()
    return ', '.join(f'{name} {version}' for name, version in versions().items()
                     if name in ('torch', 'mmengine', 'mmcv', 'mmpretrain'))


def check_work_dir(run: Run) -> str:
    found = sorted(str(path.relative_to(run.work_dir)) for path in run.work_dir.glob('*/last_checkpoint'))
    if (run.work_dir / MANIFEST).exists() and len(Trajectory.from_manifest(run.work_dir / MANIFEST)):
        found.append(MANIFEST)
    if any(record['state'] == DONE for record in read_records(run.work_dir).values()):
        found.append('finished stages')
    if found and not run.resumes:
        raise ConfigError(f'work_dir={run.work_dir} holds the results of an earlier run '
                          f'({", ".join(found)}). Pass --resume to go on with it, or choose another '
                          '--work-dir; nothing was overwritten')
    return f'{run.work_dir}, {"resuming" if found else "new"}'


def check_keys_of_today(run: Run) -> str | None:
    """Warns of keys that only older versions read. A variable of this name is used where today's key is."""
    for old, key in OLD_KEYS.items():
        value = meant = run.config.get(old)
        if isinstance(value, (dict, int)):
            meant = run.config
            for part in key.split('.'):
                meant = meant.get(part) if isinstance(meant, dict) else None
        if value != meant:
            run.warn(f'{old} is a key of mmcv 1.x, and nothing reads it; mmengine has {key}')
    return None


def check_held_out(run: Run, stages: Sequence[Stage]) -> str:
    """Those that a stage still needs are those that the teacher of this work_dir was not trained on."""
    probe = next((stage.held_out for stage in stages
                  if stage.held_out is not None and stage.name not in run.done), None)
    if probe is None:
        return 'none needed'
    manifest = run.work_dir / MANIFEST
    if run.resumes and manifest.exists():
        now = run.data_set(probe.dataset, 'the held-out part of train_dataloader.dataset').held_out
        require_held_out(Trajectory.from_manifest(manifest).info.get('held_out'), now, manifest)
    return f'held_out={probe.held_out}, seed={probe.seed}'


def check_accuracy(run: Run) -> str:
    """Warns where an evaluation will not tell the top-1 accuracy."""
    config = run.student_training()
    if evaluation_parts(config) is None:
        run.warn('There is no test or validation set with an evaluator: the table will have no accuracies')
        return 'not measured'
    if (config.get('test_dataloader') is None) != (config.get('test_evaluator') is None):
        run.warn('test_dataloader and test_evaluator: one is there without the other, so that final numbers '
                 'are of the validation set')
    lacking = []
    for key in ('test_evaluator', 'val_evaluator'):
        metrics = [item for item in as_list(config.get(key)) if isinstance(item, dict) and 'type' in item]
        if metrics and not any(map(gives_top1, metrics)):
            lacking.append(key)
    if lacking:
        run.warn(f'{" and ".join(lacking)}: no metric gives {ACCURACY}. The table will show the first metric '
                 'that there is; the figure of the training, sweeps, tools/compare_runs.py and the check of '
                 "a given teacher's accuracy need dict(type='Accuracy', topk=(1, ))")
    return f'not in {" and ".join(lacking)}' if lacking else 'top-1'
