"""Trainings that end after a step, on all processes the same."""

import multiprocessing
import os
import signal
import time

import pytest
import torch

from ckd_mm.compat import prepare_distributed
from ckd_mm.hooks import StopHook
from ckd_mm.hooks import stop_hook as module
from ckd_mm.pipeline.stage_runner import StageRunner
from ckd_mm.signals import Stopped, StopRequest, listening

from ..helpers import in_two_processes

UNVALIDATED = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)
HOOKS = [dict(type='ckd_mm.StageStateHook')]


class Sends(StopHook):
    """Asks for the end of a training itself, at a step, in one process."""

    def __init__(self, step: int, rank: int = 0) -> None:
        super().__init__(StopRequest())
        self.step, self.rank = step, rank

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.step and int(os.environ.get('RANK', 0)) == self.rank:
            self.request.signal = 'SIGTERM'
        super().after_train_iter(runner, batch_idx, data_batch, outputs)


def end(config, hook: StopHook) -> tuple[int, str]:
    """Step and message with which it ends."""
    runner = StageRunner.from_cfg(config)
    runner.register_hook(hook)
    with pytest.raises(Stopped) as stopped:
        runner.train()
    return runner.iter + 1, str(stopped.value)


def test_no_gradient_is_left_over(digits_run, tmp_path):
    """Four batches an epoch, of which three make a step: after the second the third comes first."""
    config = digits_run(epochs=3, custom_hooks=HOOKS)
    config.optim_wrapper.accumulative_counts = 3
    step, message = end(config, Sends(5))
    assert step == 6 and 'after step 6 (epoch 2, 2 of 4 batches), which is in run/iter_6.pth' in message
    assert (tmp_path / 'run' / 'last_checkpoint').read_text() == str(tmp_path / 'run' / 'iter_6.pth')


def test_without_checkpoint_hook(digits_run, tmp_path):
    config = digits_run(epochs=3, custom_hooks=HOOKS)
    config.default_hooks.checkpoint = None
    assert end(config, Sends(5))[0] == 5
    content = torch.load(tmp_path / 'run' / 'iter_5.pth', weights_only=False)
    assert (content['meta']['epoch'], content['meta']['iter']) == (1, 5) and 'optimizer' in content


def test_all_processes_end_after_one_step(digits_run):
    """Though one of them got the signal; and a run of which none did asks about once a second."""

    def work() -> tuple:
        config = digits_run(epochs=40, images=64, batch=8, launcher='pytorch', custom_hooks=HOOKS,
                            env_cfg=dict(dist_cfg=dict(backend='gloo')), **UNVALIDATED)
        prepare_distributed(config)
        asked, all_reduce = [], module.all_reduce
        module.all_reduce = lambda *args: asked.append(time.perf_counter()) or all_reduce(*args)
        return *end(config, Sends(20, rank=1)), len(asked)

    (step, message, asked), (other_step, other_message, other_asked) = in_two_processes(work)
    assert step == other_step and 20 <= step <= 20 + module.MOST_STEPS
    assert message.startswith('A signal to another process ended the training after step ')
    assert other_message.startswith('SIGTERM ended the training after step ')
    assert asked == other_asked <= 10


def test_a_signal_to_the_whole_group_of_a_training_with_workers(digits_run, tmp_path):
    """Workers of its loader go on until the step is done."""
    config = digits_run(epochs=200, custom_hooks=HOOKS, **UNVALIDATED)
    config.train_dataloader.update(num_workers=1, persistent_workers=True)

    def work() -> None:
        os.setpgid(0, 0)
        with listening() as request:
            StageRunner.from_cfg(config).train(request)

    process = multiprocessing.get_context('fork').Process(target=work)
    process.start()
    while not (tmp_path / 'run' / 'epoch_2.pth').exists():
        assert process.is_alive()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 75
    assert len(list((tmp_path / 'run').glob('iter_*.pth'))) == 1
