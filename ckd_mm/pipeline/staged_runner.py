"""What runs of several stages have in common: each done once, resumed where it stopped, its result written
down."""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_world_size, init_dist, is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ..compat import prepare_distributed, versions
from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..evaluation import evaluate
from ..registry import use_scope
from ..trajectory import Snapshot, model_config_of, write_snapshot
from .model_files import resolve_model_files
from .plans import make_plan
from .preflight import preflight
from .stage_log import StageLog
from .stage_runner import StageRunner, latest_checkpoint


class StagedRunner:
    """
    Args:
        config: whole, with ``work_dir``.
    """

    def __init__(self, config: Config) -> None:
        resolve_model_files(config)
        self.cfg = config
        if not config.get('work_dir'):
            raise ConfigError('work_dir is missing: pass --work-dir, or set it in the config')
        self.work_dir = Path(config.work_dir)
        self._plain_runner: Runner | None = None

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'StagedRunner':
        return cls(cfg if isinstance(cfg, Config) else Config(cfg))

    # ------------------------------------------------------------ evaluation of the student, as of any model
    @property
    def plain_runner(self) -> Runner:
        """The student's own mmengine runner, for evaluation."""
        if self._plain_runner is None:
            prepare_distributed(self.cfg)
            config = make_plan(self.cfg).plain()
            for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
                config[key] = None
            self._plain_runner = Runner.from_cfg(config)
        return self._plain_runner

    @property
    def test_evaluator(self):
        return self.plain_runner.test_evaluator

    def test(self) -> dict[str, float]:
        return self.plain_runner.test()

    def val(self) -> dict[str, float]:
        return self.plain_runner.val()

    # ------------------------------------------------------------ stages
    def _start(self) -> None:
        prepare_distributed(self.cfg)
        if self.cfg.get('launcher', 'none') != 'none' and not is_distributed():
            init_dist(self.cfg.launcher, **(self.cfg.get('env_cfg') or {}).get('dist_cfg', {}))
        if is_main_process():
            self.work_dir.mkdir(parents=True, exist_ok=True)
        barrier()
        use_scope(self.cfg)
        self.logger = MMLogger.get_instance(f'ckd_mm_{time.time_ns()}', logger_name='ckd_mm', file_mode='a',
                                            log_file=str(self.work_dir / 'ckd_mm.log'),
                                            log_level=self.cfg.get('log_level', 'INFO'))
        self.log: Callable[[str], None] = self.logger.info
        self.plan = preflight(self.cfg, self.log, warn=self.logger.warning)
        self.stages: StageLog = on_main(lambda: StageLog(self.work_dir))
        self.stages.write = is_main_process()

    def _may_have_changed(self, stage: str) -> bool:
        """Whether what a finished stage was made from is of no concern any more."""
        return False

    def _stage(self, name: str, settings: Callable[[], dict], work: Callable[[], dict[str, Any]]) -> None:
        if self.stages.is_done(name):
            if not self._may_have_changed(name):
                self.stages.require_unchanged(name, self._wherever(settings()))
            self.log(f'Stage {name}: finished before, in {self.stages.seconds[name]:.0f} s')
            return
        wanted, processes = self._wherever(settings()), get_world_size()
        if latest_checkpoint(self.work_dir / name) is not None and name in self.stages.stages:
            self.stages.require_unchanged(name, wanted)
            if self.stages.processes(name) != processes:
                self.logger.warning(f'Stage {name} was started on {self.stages.processes(name)} processes '
                                    f'and goes on on {processes}: the '
                                    'images a step change with it')
        self.stages.start(name, wanted, processes)
        self.log(f'Stage {name}: starting')
        started = time.perf_counter()
        result = work()
        seconds = result.pop('stage_seconds', time.perf_counter() - started)
        barrier()
        self.stages.finish(name, seconds, result)
        self.log(f'Stage {name}: finished in {seconds:.0f} s')
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _wherever(self, settings: Any) -> Any:
        """Files of the run itself by their names in the work_dir, which may be moved."""
        if isinstance(settings, dict):
            return {key: self._wherever(value) for key, value in settings.items()}
        if isinstance(settings, (list, tuple)):
            return [self._wherever(value) for value in settings]
        own = f'{self.work_dir}/'
        return settings[len(own):] if isinstance(settings, str) and settings.startswith(own) else settings

    def _run(self, config: Config, resume_from: str | None = None) -> StageRunner:
        """Train a stage; a resumed run goes on from its last checkpoint, if it came that far.

        Args:
            resume_from: a checkpoint to go on from instead of the last.
        """
        if self.cfg.get('resume'):
            checkpoint = resume_from or latest_checkpoint(config.work_dir, self.logger.warning)
            config.resume = checkpoint is not None
            if config.resume:
                config.load_from = checkpoint
        runner = StageRunner.from_cfg(config)
        runner.train()
        barrier()  # rank 0 may still be writing
        return runner

    # ------------------------------------------------------------ what comes out
    def _trained(self, runner: StageRunner, config: Config, publish: Path | None = None) -> dict[str, Any]:
        """Evaluate the weights after the last epoch, and write them down alone.

        Args:
            config: of the network, and of its test set.
            publish: file to write.
        """
        seconds = runner.seconds  # before the evaluation
        return dict(self._network_result(runner, trained_model(runner), config, publish),
                    work_dir=runner.work_dir, stage_seconds=seconds)

    def _network_result(self, runner: StageRunner, network: nn.Module, config: Config,
                        publish: Path | None) -> dict[str, Any]:
        metrics = evaluate(network, config, self.log,
                           'the student' if publish is None else f'the {publish.stem.replace("_", " ")}')
        result = dict(metrics=metrics, epochs=runner.epoch)
        if publish is not None:
            result['checkpoint'] = publish.name
            if is_main_process():
                result['sha256'] = self._write(publish, runner, network, config, metrics=metrics).sha256
        return result

    @staticmethod
    def _write(file: Path, runner: StageRunner, network: nn.Module, config: Config, **extra: Any) -> Snapshot:
        broken = [name for name, value in network.state_dict().items() if not torch.isfinite(value).all()]
        if broken:  # the loss of the next step would have shown it
            raise CkdError(f'{file.name} is not written: after the last step {broken[0]} is not finite; '
                           'lower the learning rate')
        return write_snapshot(file, network.state_dict(), epoch=runner.epoch, iteration=runner.iter, lr=None,
                              model=model_config_of(config),
                              classes=runner.train_dataloader.dataset.metainfo.get('classes'),
                              extra=dict(extra, cfg=config.pretty_text, versions=versions()))


def trained_model(runner: Runner) -> nn.Module:
    """The model of a finished run without its wrapper; the average of its weights, where a hook kept one."""
    averaged = next((hook.ema_model.module for hook in runner.hooks if hasattr(hook, 'ema_model')), None)
    if averaged is not None:
        return averaged
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
