"""Whether the student can go on from a checkpoint that is named (``--resume PATH``)."""

from collections.abc import Sequence
from typing import Any

from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..counting import WORDS, length_of
from ..distributed import on_main
from ..errors import ConfigError, reading
from ..hooks.stage_state_hook import KEY
from ..trajectory.checkpoint_file import is_whole
from ..trajectory.download import local_file
from ..trajectory.snapshot import mismatch
from .run import Run
from .stage import STUDENT, Stage


def check_resume(run: Run, stages: Sequence[Stage]) -> str | None:
    """Raises ConfigError where the checkpoint is damaged, or another than one of the training of such a
    student, or a stage before the student is not finished."""
    checkpoint = run.resume_from
    if checkpoint is None:
        return None
    name, stage = f'--resume {checkpoint}', next(stage for stage in stages if stage.name == STUDENT)
    if not set(stage.requires) <= run.done:
        raise ConfigError(f'{name} names a checkpoint of the student, but the stages before it are not '
                          f'finished in {run.work_dir}; pass --resume alone')
    weights, length = stage.checkpoint_weights(run), length_of(stage.training(run).train_cfg)

    def check() -> str:
        if not is_whole(local_file(checkpoint)):
            raise ConfigError(f'{name}: the file is missing or damaged; name another, or pass --resume alone')
        with reading(f'{name} cannot be read'):
            meta = require_training(name, CheckpointLoader.load_checkpoint(checkpoint, 'cpu'), weights)
        done = meta[length.unit]
        if done > length:
            raise ConfigError(f'{name} was trained for {done} {length.words}, and '
                              f'train_cfg.max_{length.unit}s={length}')
        return f'{checkpoint}, after {WORDS[length.unit]} {done}'

    return on_main(check)


def require_training(name: str, checkpoint: Any, weights: dict[str, Tensor]) -> dict[str, Any]:
    """
    Args:
        weights: of the student, not their values.

    Returns:
        Its ``meta``, with ``epoch`` and ``iter``.

    Raises:
        ConfigError: it is no checkpoint that mmengine can go on from, or of another training.
    """
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    meta = parts.get('meta') if isinstance(parts.get('meta'), dict) else {}
    lacking = [f'meta.{key}' for key in ('epoch', 'iter') if not isinstance(meta.get(key), int)]
    lacking += [key for key in ('state_dict', 'message_hub', 'optimizer')
                if not isinstance(parts.get(key), dict)]
    if lacking:
        raise ConfigError(f'{name}: one cannot go on from it, it has no {", ".join(lacking)}. To start from '
                          "its weights give load_from, and --resume alone (resume='auto' in a config)")
    stage = parts.get(KEY, {}).get('stage', STUDENT)
    if stage != STUDENT:
        raise ConfigError(f'{name} is a checkpoint of stage {stage}, and only the student goes on from one '
                          'that is named; pass --resume alone')
    found = {key.removeprefix('module.'): value for key, value in parts['state_dict'].items()}
    if problem := mismatch(weights, found):
        raise ConfigError(f'{name} is of another network than the student: {problem}')
    return meta
