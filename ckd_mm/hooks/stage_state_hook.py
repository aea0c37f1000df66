"""What a resumed stage needs and mmengine's checkpoints lack."""

import random
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook

from ..counting import ITER, finished, planned
from ..registry import HOOKS
from ..training import as_list, unwrap
from ..trajectory.configs import parse_config_text

KEY = 'ckd_mm_stage'  # in checkpoints
SEEN = ('wait_count', 'best_score')  # of an EarlyStoppingHook


@HOOKS.register_module()
class StageStateHook(Hook):
    """Carries the place inside an epoch, the random state, the seconds spent, the config's learning rate,
    what an ``EarlyStoppingHook`` has seen and the distiller's own weights (connectors) through checkpoints.

    With it a run of one process that is killed and resumed ends with the weights of an unbroken run, bit for
    bit, when data are loaded with ``num_workers=0`` (mmengine seeds worker processes itself, at their start).
    """

    priority = 'LOWEST'  # the random state is restored after everything else that happens before training

    def __init__(self) -> None:
        self.restored: dict | None = None
        self.started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time spent in the stage, earlier parts of the run included."""
        return time.perf_counter() - self.started

    def has_new_rate(self, runner) -> bool:
        """Whether a resumed run has another learning rate than its checkpoint."""
        return self.restored is not None and self.restored['lr'] != _rate(runner.cfg)

    def before_train(self, runner) -> None:
        if self.restored is None:
            return
        if get_rank() == 0 or not runner._randomness_cfg.get('diff_rank_seed'):
            _set_random_state(self.restored['random'])
        loop, done, inside = runner.train_loop, finished(runner), self.restored['place']['batches_done'] > 0
        if inside:
            self._enter_epoch(runner, **self.restored['place'])
        if runner.val_loop is not None and (done.unit == ITER or not inside) and done >= loop.val_begin and (
                done % loop.val_interval == 0 or done == planned(self, runner)):
            # checkpoints are written before validation: a kill in between would leave the epoch without an
            # accuracy. The unbroken run validated here, too, so its random numbers are the same
            runner.val_loop.run()

    def _enter_epoch(self, runner, batches_done: int, batches: int, epoch: int | None = None) -> None:
        """
        Args:
            epoch: of the images, where the training counts iterations.
        """
        loop, now = runner.train_loop, len(runner.train_dataloader)
        name = f'Epoch {(runner.epoch if epoch is None else epoch) + 1}'
        if epoch is not None:
            loop.image_epoch = epoch
        if hasattr(loop, 'skip') and batches == now:
            loop.skip = batches_done
            runner.logger.info(f'{name} goes on after {batches_done} of {batches} batches.')
        else:
            runner.logger.warning(f'{name} was left after {batches_done} of {batches} batches and now has '
                                  f'{now} (other batch size or number of processes?): it is started again')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        # CheckpointHook counts a finished epoch before the loop does
        inside = checkpoint['meta']['epoch'] == runner.epoch
        place = dict(batches_done=getattr(runner.train_loop, 'position', 0) if inside else 0,
                     batches=len(runner.train_dataloader))
        if hasattr(runner.train_loop, 'image_epoch'):
            place['epoch'] = runner.train_loop.image_epoch
        checkpoint[KEY] = dict(stage=Path(runner.work_dir).name, seconds=self.seconds, random=_random_state(),
                               place=place, lr=_rate(runner.cfg),
                               stopping=[{name: getattr(hook, name) for name in SEEN}
                                         for hook in early_stopping(runner)])
        distiller = getattr(unwrap(runner.model), 'distiller', None)
        if distiller is not None:  # contiguous: the run may be a channels-last one
            checkpoint[KEY]['distiller'] = {key: value.cpu().contiguous()
                                            for key, value in distiller.state_dict().items()}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        name_own_files(runner, checkpoint)
        if KEY not in checkpoint:
            return
        self.restored = checkpoint[KEY]
        if 'lr' not in self.restored:  # of an earlier version
            text, source = checkpoint['meta']['cfg'], 'the checkpoint to resume from'
            self.restored['lr'] = _rate(parse_config_text(text, source))
        self.started -= self.restored['seconds']
        for hook, seen in zip(early_stopping(runner), self.restored.get('stopping', ())):
            vars(hook).update(seen)
        weights = self.restored.pop('distiller', None)
        distiller = getattr(unwrap(runner.model), 'distiller', None)
        if weights is not None and distiller is not None:
            distiller.load_state_dict(weights)


def name_own_files(runner, checkpoint: dict) -> None:
    """The best checkpoint, which mmengine deletes for a better one, is that of this training, also where
    ``checkpoint`` is of another one or the folder was copied."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    if hook is None:
        return
    folder = Path(runner.work_dir)
    folder = folder if hook.out_dir is None else Path(hook.out_dir, folder.name)
    info = checkpoint.get('message_hub', {}).get('runtime_info', {})
    info.update({key: str(folder / Path(value).name) for key, value in info.items()
                 if key.startswith('best_ckpt')})


def _rate(config: dict) -> float | list | None:
    """The config's learning rate, and what OneCycleLR has instead."""
    rate = ((config.get('optim_wrapper') or {}).get('optimizer') or {}).get('lr')
    highest = [scheduler['eta_max'] for scheduler in as_list(config.get('param_scheduler'))
               if 'eta_max' in scheduler]
    return [rate, *highest] if highest else rate


def early_stopping(runner) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


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
