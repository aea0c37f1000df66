"""What a training counts: epochs or, in mmengine's ``IterBasedTrainLoop``, iterations."""

from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from .errors import ConfigError

EPOCH, ITER = 'epoch', 'iter'  # as in mmengine's keys and names of files: max_iters, iter_4000.pth
WORDS = {EPOCH: 'epoch', ITER: 'iteration'}
EXAMPLES = {EPOCH: 'by_epoch=True, max_epochs=60', ITER: 'by_epoch=False, max_iters=4000, val_interval=400'}


class Length(int):
    """A number that knows what it counts; any other number counts epochs."""
    unit: str

    def __new__(cls, count: int, unit: str | None = None) -> 'Length':
        length = super().__new__(cls, count)
        length.unit = unit or getattr(count, 'unit', EPOCH)
        return length

    @property
    def words(self) -> str:
        return f'{WORDS[self.unit]}s'

    @property
    def text(self) -> str:
        return f'{self} {self.words}'


def unit_of(train_cfg: dict) -> str:
    kind = train_cfg.get('type')
    kind = LOOPS.get(kind) if isinstance(kind, str) else kind
    iterates = isinstance(kind, type) and issubclass(kind, IterBasedTrainLoop)
    return ITER if iterates or train_cfg.get('by_epoch') is False else EPOCH


def length_of(train_cfg: dict) -> Length:
    unit = unit_of(train_cfg)
    return Length(train_cfg[f'max_{unit}s'], unit)


# ------------------------------------------------------------ in a training
def unit_in(runner: Any) -> str:
    return ITER if isinstance(runner.train_loop, IterBasedTrainLoop) else EPOCH


def planned(hook: Any, runner: Any) -> Length:
    """The length of the training. Raises ConfigError, naming the hook, if it is of another kind."""
    loop = runner.train_loop
    if not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
        raise ConfigError(f'{type(hook).__name__} counts epochs or iterations, but train_cfg makes a '
                          f'{type(loop).__name__}; give train_cfg=dict({EXAMPLES[EPOCH]})')
    unit = unit_in(runner)
    return Length(loop.max_iters if unit == ITER else loop.max_epochs, unit)


def finished(runner: Any) -> Length:
    """Epochs or iterations that are done; a hook after the last one is called before it counts."""
    unit = unit_in(runner)
    return Length(runner.iter if unit == ITER else runner.epoch, unit)


def times_of(done: int, runner: Any) -> dict[str, int | None]:
    """``epoch`` and ``iteration`` after so many of what the training counts."""
    by_epoch = unit_in(runner) == EPOCH
    return dict(epoch=int(done) if by_epoch else None, iteration=runner.iter if by_epoch else int(done))
