"""mmengine's Runner that tries what a stage will do, and keeps nothing."""

import copy
import inspect
import itertools
import time
from collections import deque
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor
from torch.distributed import Backend
from torch.utils.data import DataLoader

from ..compat import accelerator_available
from ..counting import EPOCH, EXAMPLES, length_of, unit_of
from ..data.damaged import data_sets_in
from ..data.few_images import few_batches, few_images
from ..distributed import on_all, on_main
from ..errors import CkdError, ConfigError
from ..files import require_writable
from ..hooks.schedule_hook import ScheduleHook
from ..training import as_list, type_name, unwrap
from . import doubts
from .loaded_weights import loading
from .problem import NEEDS_MORE, Problem, build_metric, trying
from .run import Run
from .stage_runner import StageRunner

STEPS = 2
LONGEST = 10.0  # seconds of hooks before all later epochs


class RehearsalRunner(StageRunner):
    """Builds all that its config names, and keeps nothing. Data sets are listed once for all stages.

    Attributes:
        losses: of each training step, by their names.
        remarks: doubts about the training, a line each.
        shares_statistics: whether BatchNorm sees the images of all processes, so never a single one.
        unreached: names of learning parameters that no loss reaches.
        run, setting: see :func:`rehearse`.
    """
    run: Run
    setting: Any
    losses: list[dict[str, float]]
    remarks: list[str]
    hooks_key = 'default_hooks'

    # ------------------------------------------------------------ what is built, and from which key
    def setup_env(self, env_cfg) -> None:
        with trying('env_cfg', env_cfg, 'does not work'):
            backend = (env_cfg.get('dist_cfg') or {}).get('backend', 'gloo')  # of several processes
            if ':' not in backend and backend not in Backend.backend_list:
                raise ValueError(f'dist_cfg.backend is none of {", ".join(Backend.backend_list[1:])}')
            super().setup_env(env_cfg)

    def set_randomness(self, **kwargs) -> None:
        with trying('randomness', kwargs, 'does not work'):
            super().set_randomness(**kwargs)

    def _check_scheduler_cfg(self, param_scheduler) -> None:
        with trying('param_scheduler', param_scheduler, 'does not work'):
            super()._check_scheduler_cfg(param_scheduler)

    def build_log_processor(self, log_processor):
        with trying('log_processor', log_processor):
            return super().build_log_processor(log_processor)

    def build_visualizer(self, visualizer=None):
        with trying('visualizer', visualizer):
            built = super().build_visualizer(visualizer)
            doubts.leave_services_out(built._vis_backends)
        return built

    def build_model(self, model):
        with trying('model'):
            return super().build_model(model)

    def wrap_model(self, model_wrapper_cfg, model):
        # without DDP, a process that fails blocks no other
        self._distributed, distributed = False, self._distributed
        self.shares_statistics = distributed and (self.cfg.get('sync_bn') is not None or any(
            'SyncBatchNorm' in type(module).__name__ for module in model.modules()))
        with trying('model_wrapper_cfg', model_wrapper_cfg, 'does not work'):
            kind = (model_wrapper_cfg or {}).get('type')
            if isinstance(kind, str) and MODEL_WRAPPERS.get(kind) is None:
                raise KeyError(kind)
            model = super().wrap_model(None, model)
        self._distributed = distributed
        return model

    def build_dataloader(self, dataloader, *args, **kwargs) -> DataLoader:
        if not isinstance(dataloader, dict):
            return dataloader
        key = 'train_dataloader' if dataloader == self.cfg.train_dataloader else 'val_dataloader'
        dataset = self.run.data_set(dataloader['dataset'], f'{self.setting(key)}.dataset')
        settings = {name: value for name, value in dataloader.items() if name != 'dataset'}
        with trying(key, settings):
            built = StageRunner.build_dataloader(dict(dataloader, dataset=dataset), *args, **kwargs)
            return doubts.require_end(built, key != 'train_dataloader' or self._counts_epochs)

    @property
    def _counts_epochs(self) -> bool:
        return unit_of(self.cfg.train_cfg) == EPOCH

    def build_train_loop(self, loop):
        with trying('train_cfg', loop):
            built = super().build_train_loop(loop)
        if not isinstance(built, (EpochBasedTrainLoop, IterBasedTrainLoop)):
            name = self.setting('train_cfg')
            raise ConfigError(f'{name}={loop} makes a {type(built).__name__}, but stages are trained by '
                              f'epochs or iterations: give dict({EXAMPLES[EPOCH]})')
        built.run = lambda: self._rehearse(built)
        return built

    def build_val_loop(self, loop):
        self._val_evaluator = self.build_evaluator(self._val_evaluator)
        with trying('val_cfg', loop):
            built = super().build_val_loop(loop)
        with trying('val_dataloader', None, 'fails on a few images'):
            self.remarks.extend(doubts.of_evaluation(self.setting('val_dataloader'), built.dataloader))
        built.dataloader = few_images(built.dataloader)
        return built

    def build_evaluator(self, evaluator):
        if isinstance(evaluator, Evaluator):
            return evaluator
        key = 'val_evaluator'
        if isinstance(evaluator, dict) and 'metrics' in evaluator:  # a whole Evaluator
            with trying(key, evaluator):
                return super().build_evaluator(evaluator)
        metrics = [build_metric(self.setting(key), metric) for metric in as_list(evaluator)]
        return super().build_evaluator(metrics)

    def build_optim_wrapper(self, optim_wrapper):
        remedy = '' if accelerator_available() else '. No accelerator is visible here: leave --amp out'
        with trying('optim_wrapper', optim_wrapper,
                    remedy=remedy if type_name(optim_wrapper or {}) == 'AmpOptimWrapper' else ''):
            built = super().build_optim_wrapper(optim_wrapper)
            if isinstance(built, OptimWrapper):
                self.remarks.extend(doubts.of_parameters(optim_wrapper, built.optimizer, self.model))
        return built

    def scale_lr(self, optim_wrapper, auto_scale_lr=None) -> None:
        with trying('auto_scale_lr', auto_scale_lr, 'does not work'):
            super().scale_lr(optim_wrapper, auto_scale_lr)

    def build_param_scheduler(self, scheduler):
        with trying('param_scheduler', scheduler):
            return super().build_param_scheduler(scheduler)

    def register_custom_hooks(self, hooks) -> None:
        self.hooks_key = 'custom_hooks'
        super().register_custom_hooks(hooks)

    def register_hook(self, hook, priority=None) -> None:
        with trying(self.hooks_key, copy.copy(hook)):
            if isinstance(hook, dict) and hook.get('out_dir'):
                require_writable('out_dir', hook['out_dir'])
                hook['out_dir'] = str(self.run.work_dir)
            if isinstance(hook, dict) and hook.get('num_images'):  # that it evaluates
                hook['num_images'] = STEPS
            if type_name(hook) == 'PreciseBNHook':  # reads 8192 by default
                hook['num_samples'] = STEPS
            super().register_hook(hook, priority)

    def _init_model_weights(self) -> None:
        with trying('model', None, 'cannot be initialised'), \
                loading(self.model, 'the file of its init_cfg', self.remarks):
            super()._init_model_weights()

    def load_or_resume(self) -> None:
        with trying('load_from', self._load_from, 'cannot be loaded'), \
                loading(self.model, str(self._load_from), self.remarks):
            super().load_or_resume()

    # ------------------------------------------------------------ the work
    def call_hook(self, fn_name: str, **kwargs) -> None:
        if fn_name == 'after_train_iter':
            self.losses.append({name: float(value.detach().float().mean())
                                for name, value in kwargs['outputs'].items() if isinstance(value, Tensor)})
        for hook in self._hooks:
            if hasattr(hook, fn_name):
                try:
                    with doubts.listening(self.remarks, type_name(hook)):
                        getattr(hook, fn_name)(self, **kwargs)
                except Exception as error:
                    if isinstance(error, CkdError):
                        raise
                    fails = f'holds {type_name(hook)}, whose {fn_name} fails'
                    own = type_name(hook) in map(type_name, as_list(self.cfg.get('custom_hooks')))
                    key = 'custom_hooks' if own else 'default_hooks'
                    raise Problem(key, None, fails, NEEDS_MORE) from error

    def _rehearse(self, loop: BaseLoop):
        """In place of the loop's ``run``: a step of two images, and one of a single image if the last batch
        will have no more."""
        learning = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        reached: set[str] = set()
        handles = [value.register_hook(lambda _, name=name: reached.add(name))
                   for name, value in learning.items()]
        pipelines = [(one, one.pipeline) for one in data_sets_in(loop.dataloader.dataset)
                     if 'pipeline' in vars(one)]  # hooks may change those of data sets, which stages share
        self.call_hook('before_train')
        self.call_hook('before_train_epoch')
        self.model.train()
        on_all(lambda: self._steps(loop))  # of other images on each process: where one fails, none may wait
        with trying('log_processor', self.cfg.get('log_processor'), 'cannot log a step'):
            self.log_processor.get_log_after_iter(self, STEPS - 1, 'train')
        self.call_hook('after_train_epoch')
        for handle in handles:
            handle.remove()
        self.unreached = [name for name in learning if name not in reached]
        if self._counts_epochs:
            loop._epoch += 1
        if self.val_loop is not None:
            with trying('val_evaluator', self.cfg.val_evaluator, 'fails on a few images', NEEDS_MORE):
                self.val_loop.run()
        if self.val_loop is None or loop.val_begin > length_of(self.cfg.train_cfg):
            self.remarks.extend(doubts.of_unvalidated([*self._hooks, *as_list(self.param_schedulers)]))
        self._later_epochs(loop)
        for dataset, pipeline in pipelines:
            dataset.pipeline = pipeline
        self.call_hook('after_train')
        return self.model

    def _later_epochs(self, loop: BaseLoop) -> None:
        """Steps as in each later epoch before which a hook changes the network, its loss or the images."""
        hooks, parts = self._hooks, doubts.parts_of_training(loop)
        self._hooks = [hook for hook in hooks if not isinstance(hook, ScheduleHook)]  # known, and checked
        for epoch in range(1, loop.max_epochs):
            loop._epoch, started = epoch, time.perf_counter()
            self.call_hook('before_train_epoch')
            seconds = (time.perf_counter() - started) * loop.max_epochs
            if epoch == 1 and on_main(lambda seconds=seconds: seconds) > LONGEST:
                break  # a hook that works in each epoch
            if parts != (parts := doubts.parts_of_training(loop)):
                self.model.train()
                on_all(lambda: self._steps(loop))
        self._hooks = [hook for hook in hooks if isinstance(hook, CheckpointHook)]  # the last is always kept
        self.call_hook('after_train_epoch')
        self._hooks = hooks
        if self._counts_epochs:
            loop._epoch = 1

    def _steps(self, loop: BaseLoop) -> None:
        loader = loop.dataloader
        try:
            with trying('train_dataloader', None, 'fails on two images'):
                epoch = iter(loader.batch_sampler)  # one of an InfiniteSampler that is deleted ends them all
                *_, last = deque(itertools.islice(epoch, len(loader)), maxlen=1)
                smallest = STEPS if self.shares_statistics else min(STEPS, len(last))
                batches = list(few_batches(loader, [STEPS, smallest]))
                self.remarks.extend(doubts.of_images(loader, batches[0], unwrap(self.model)))
            for index, batch in enumerate(batches):
                self._stand_still()
                images = len(batch['inputs'])
                with trying('model', None, f'fails in a training step on {images} image{"s" * (images > 1)}'):
                    loop.run_iter(*[index] * self._counts_epochs, batch)
        except Problem as problem:
            when = f'{self.setting("custom_hooks")}: in epoch {loop.epoch + 1} ' if loop.epoch else ''
            raise ConfigError(when + problem.explain(self.setting(problem.key))) from problem

    def _stand_still(self) -> None:
        """A learning rate for large batches may not suit two images. Each step is an update, also where
        gradients are accumulated."""
        wrapper = self.optim_wrapper
        for item in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
            item._accumulative_counts = 1
            for group in item.param_groups:
                group['lr'] = 0.0

    # ------------------------------------------------------------ what is left out
    def save_checkpoint(self, *args, **kwargs) -> None:
        inspect.signature(Runner.save_checkpoint).bind(self, *args, **kwargs)

    def dump_config(self) -> None:
        pass

    def _log_env(self, env_cfg) -> None:
        pass
