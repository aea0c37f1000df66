"""mmengine's Runner as a stage uses it."""

from pathlib import Path
from typing import Optional, Union

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, find_latest_checkpoint

from ..compat import compile_in_place
from ..hooks import StageStateHook


def latest_checkpoint(folder: Union[str, Path]) -> Optional[str]:
    """The last that a run in ``folder`` wrote; None if it wrote none. mmengine notes where it was written, and the folder may have
    been moved since."""
    found = find_latest_checkpoint(str(folder))
    return None if found is None else str(Path(folder) / Path(found).name)


class StageRunner(Runner):
    """Like any Runner, except that ``compile`` compiles backbone and neck, not ``train_step``: hooks and recorders go on
    working, and checkpoints keep their names."""

    def _maybe_compile(self, target: str) -> None:
        options = self.cfg.get('compile')
        if options:
            model = self.model.module if is_model_wrapper(self.model) else self.model
            parts = [part for part in (getattr(model, name, None) for name in ('backbone', 'neck')) if part is not None]
            compile_in_place(parts, dict(options) if isinstance(options, dict) else {})
            self.logger.info('Backbone and neck will be compiled; the first iterations are slow.')

    @property
    def seconds(self) -> float:
        """Time spent in this stage, over all the runs it took."""
        return next(hook.seconds for hook in self.hooks if isinstance(hook, StageStateHook))
