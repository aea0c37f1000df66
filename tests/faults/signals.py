"""Signals at any moment: the run ends with status 75, says so in one line, and goes on to what an undisturbed
run ends with."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mmengine.registry import RUNNERS

from ckd_mm import signals
from ckd_mm.pipeline.rehearsal_runner import RehearsalRunner
from ckd_mm.pipeline.stage_runner import StageRunner
from ckd_mm.stages import probe, target_making

from .planted import Fault, Run, ends_the_same, goes_on

AT_ONCE = 'ended the run at once; --resume goes on with what is written'


@contextlib.contextmanager
def sent(owner: type, name: str, when: Callable[..., bool], *numbers: int) -> Iterator[None]:
    """To this process, before a function is called for which ``when(*its arguments)``; once."""
    function, left = getattr(owner, name), [numbers]

    def calling(*args, **kwargs):
        if left and when(*args, **kwargs):
            for number in left.pop():
                os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, calling)
        yield
    assert not left, 'the moment of the signal did not come'


def ends(run: Run, message: str, *where) -> None:
    """Say so, in one line, and with the status."""
    with pytest.raises(signals.Stopped) as stopped, sent(*where):
        RUNNERS.build(run.config).train()
    assert stopped.value.code == signals.STATUS == os.EX_TEMPFAIL
    line = (run / 'ckd_mm.log').read_text().splitlines()[-1]
    assert message in line and line.endswith('(exit status 75)'), line
    assert [signal.getsignal(number) for number in signals.SIGNALS] == [signal.SIG_DFL] * 2
    run.config.resume = True


def steps_of(stage: str, call: str, number: int = 0) -> tuple:
    """A moment: the call of a hook in a stage, counted from 0."""
    seen = []

    def when(runner, name, **kwargs):
        if name == call and Path(runner.work_dir).name == stage:
            seen.append(runner)
        return len(seen) > number

    return StageRunner, 'call_hook', when


def in_a_step(run: Run) -> None:
    """It is finished and written; no other one is made, none twice, and of the checkpoint nothing is left."""
    step, steps, train_step = run.random.randrange(1, 12), [], StageRunner.call_hook
    number = run.random.choice(signals.SIGNALS)
    ends(run, f'{signal.Signals(number).name} ended the training after step {step} (epoch {(step + 3) // 4}, '
              f'{(step - 1) % 4 + 1} of 4 batches), which is in student/iter_{step}.pth; --resume goes on '
              'with it', *steps_of('student', 'before_train_iter', step - 1), number)
    assert Path((run / 'student/last_checkpoint').read_text()) == run / f'student/iter_{step}.pth'

    def counting(runner, name, **kwargs):
        if name == 'after_train_iter':
            steps.append(runner.iter)
        return train_step(runner, name, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageRunner, 'call_hook', counting)
        goes_on()(run)
    assert steps == list(range(step, 12))
    assert not list(run.folder.glob('**/iter_*'))


def at_any_moment(run: Run) -> None:
    stage, call = run.random.choice(['teacher', 'student']), run.random.choice([
        'before_train', 'before_train_epoch', 'after_train_iter', 'after_train_epoch', 'before_val_epoch',
        'after_val_iter', 'after_train'])
    ends(run, '', *steps_of(stage, call), run.random.choice(signals.SIGNALS))
    goes_on()(run)


def in_a_validation(run: Run) -> None:
    ends(run, 'SIGUSR1 ended the training in the validation after epoch 2, which is written; --resume goes '
              'on with it', *steps_of('student', 'before_val_iter', 1), signal.SIGUSR1)
    assert not (run / 'student/iter_8.pth').exists()
    goes_on()(run)


def in_a_validation_of_what_is_not_written(run: Run) -> None:
    """Other hooks may have changed the weights for it."""
    run.config.default_hooks.checkpoint.interval = 5
    ends(run, 'ended the training after step 5 ', *steps_of('student', 'before_val_iter'), signal.SIGTERM)
    goes_on()(run)


def twice(run: Run) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, 'ECHO', 0)
        ends(run, f'SIGUSR1 {AT_ONCE}', *steps_of('student', 'before_train_iter', 6), signal.SIGTERM,
             signal.SIGUSR1)
    assert not list(run.folder.glob('**/iter_*'))
    goes_on()(run)


def twice_in_a_moment(run: Run) -> None:
    """As from slurm and, passed on, from torchrun."""
    ends(run, 'SIGTERM ended the training after step 7 ', *steps_of('student', 'before_train_iter', 6),
         signal.SIGTERM, signal.SIGTERM)
    goes_on()(run)


def stopped_again(run: Run) -> None:
    """Before a checkpoint of CheckpointHook: only the later of two is left."""
    for step in (5, 6):
        ends(run, f'after step {step} ', *steps_of('student', 'before_train_iter', 4 if step == 5 else 0),
             signal.SIGTERM)
        assert [file.name for file in run.folder.glob('**/iter_*')] == [f'iter_{step}.pth']
    goes_on()(run)


def at_once(owner, name: str) -> Callable[[Run], None]:
    """In what trains nothing."""

    def expected(run: Run) -> None:
        run.config.rehearsal = True
        ends(run, f'SIGTERM {AT_ONCE}', owner, name, lambda *args, **kwargs: True, signal.SIGTERM)
        ends_the_same(run)

    return expected


def nothing(run: Run) -> None:
    pass


FAULTS = {
    'in a step': Fault('new', nothing, in_a_step, draws=True),
    'at any moment of a training': Fault('new', nothing, at_any_moment, draws=True),
    'in a validation': Fault('new', nothing, in_a_validation),
    'in a validation of what is not written': Fault('new', nothing, in_a_validation_of_what_is_not_written),
    'twice': Fault('new', nothing, twice),
    'twice in a moment': Fault('new', nothing, twice_in_a_moment),
    'stopped again': Fault('new', nothing, stopped_again),
    'in the rehearsal': Fault('new', nothing, at_once(RehearsalRunner, 'load_or_resume')),
    'in the probe': Fault('new', nothing, at_once(probe, 'probe_trajectory')),
    'in the targets': Fault('new', nothing, at_once(target_making, 'write_blocks')),
}
