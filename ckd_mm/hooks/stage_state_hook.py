"""What a resumed stage needs and mmengine's checkpoints lack."""

import random
import time

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from ..registry import HOOKS
from ..training import unwrap

KEY = 'ckd_mm_stage'


@HOOKS.register_module()
class StageStateHook(Hook):
    """Carry the place inside an epoch, the random state, the seconds spent and the distiller's own weights
    (connectors) through checkpoints.

    With it a run of one process that is killed and resumed ends with the weights of an unbroken run, bit for
    bit, when data are loaded with ``num_workers=0`` (mmengine seeds worker processes itself, at their start).
    """

    priority = 'LOWEST'  # the random state is restored after everything else that happens before training

    def __init__(self) -> None:
        self.seconds_before = 0.0
        self.restored = None
        self.place = dict(batches_done=0, batches=0)
        self.started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time spent in the stage, all its parts together."""
        return self.seconds_before + time.perf_counter() - self.started

    def before_train(self, runner) -> None:
        if self.restored is None:
            return
        if get_rank() == 0 or not runner._randomness_cfg.get('diff_rank_seed'):
            _set_random_state(self.restored)
        loop = runner.train_loop
        if self.place['batches_done']:
            self._enter_epoch(runner)
        elif runner.val_loop is not None and loop.epoch >= loop.val_begin and \
                (loop.epoch % loop.val_interval == 0 or loop.epoch == loop.max_epochs):
            # checkpoints are written before validation, so the kill may have come between: without this the
            # epoch would have no accuracy. The unbroken run validated here, too, so random numbers go on as
            # there
            runner.val_loop.run()

    def _enter_epoch(self, runner) -> None:
        done, batches = self.place['batches_done'], len(runner.train_dataloader)
        if not hasattr(runner.train_loop, 'skip') or self.place['batches'] != batches:
            runner.logger.warning(f'Epoch {runner.epoch + 1} was left after {done} of '
                                  f'{self.place["batches"]} batches and now has {batches} (other batch size '
                                  'or number of processes?): it is started again')
            return
        runner.train_loop.skip = done
        runner.logger.info(f'Epoch {runner.epoch + 1} goes on after {done} of {batches} batches.')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        # CheckpointHook counts a finished epoch before the loop does
        inside = checkpoint['meta']['epoch'] == runner.epoch
        place = dict(batches_done=getattr(runner.train_loop, 'position', 0) if inside else 0,
                     batches=len(runner.train_dataloader))
        state = dict(seconds=self.seconds, random=_random_state(), place=place)
        distiller = getattr(unwrap(runner.model), 'distiller', None)
        if distiller is not None:
            # in torch's usual order, also of a channels-last run
            state['distiller'] = {
                key: value.cpu().contiguous()
                for key, value in distiller.state_dict().items()
            }
        checkpoint[KEY] = state

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        state = checkpoint.get(KEY)
        if state is None or not runner._resume:
            return
        self.seconds_before = state['seconds']
        self.restored = state['random']
        self.place = state['place']
        distiller = getattr(unwrap(runner.model), 'distiller', None)
        if distiller is not None and 'distiller' in state:
            distiller.load_state_dict(state['distiller'])


def _random_state() -> dict:
    state = dict(torch=torch.get_rng_state(), numpy=np.random.get_state(), python=random.getstate())
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict) -> None:
    # checkpoints are loaded onto the training device; generators want their states on the CPU
    torch.set_rng_state(state['torch'].cpu())
    np.random.set_state(state['numpy'])
    random.setstate(state['python'])
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
