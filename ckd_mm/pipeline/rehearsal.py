"""Each training is tried before the first stage: its own runner, two small steps, a few evaluated images."""

import contextlib
import copy
import gc
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed, is_main_process
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from torch import nn

from ..compat import compile_in_place
from ..data.views import random_state_kept
from ..distributed import on_all, on_main
from ..errors import ConfigError, reading
from ..training import as_list
from .doubts import of_evaluation, require_end
from .problem import NEEDS_MORE, Problem, build_metric, trying
from .rehearsal_runner import STEPS, RehearsalRunner
from .run import Run
from .stage_runner import StageRunner, close_log

SCRATCH = '.rehearsal_'


@contextlib.contextmanager
def rehearsal_of(run: Run) -> Iterator[Run]:
    """``run`` in a scratch folder. In the end the folder is removed, and random states, torch's switches and
    mmengine's named instances are as before: what is trained later does not depend on it."""
    scratch = copy.copy(run)
    scratch.rehearses, scratch.results, scratch.log = True, dict(run.results), lambda line: None
    managed = (MMLogger, MessageHub, Visualizer, DefaultScope)
    instances = [kind._instance_dict.copy() for kind in managed]
    cudnn, deterministic = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    switches = cudnn.benchmark, cudnn.deterministic
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    # processes on several machines share the work_dir, not /tmp
    parent = run.work_dir if is_distributed() else None
    scratch.work_dir = Path(on_main(lambda: scratch_folder(parent)))
    try:
        with random_state_kept(), torch.random.fork_rng(devices=devices):
            yield scratch
    finally:
        for name in set(MMLogger._instance_dict) - set(instances[0]):
            close_log(MMLogger._instance_dict[name])
        for kind, before in zip(managed, instances):
            kind._instance_dict = before
        cudnn.benchmark, cudnn.deterministic = switches
        torch.use_deterministic_algorithms(deterministic)
        if is_main_process():
            shutil.rmtree(scratch.work_dir, ignore_errors=True)
        run.forget()
        gc.collect()
        torch.cuda.empty_cache()


def scratch_folder(parent: Path | None) -> str:
    for left in [] if parent is None else parent.glob(f'{SCRATCH}*'):  # by a killed rehearsal
        shutil.rmtree(left)
    return tempfile.mkdtemp(prefix=SCRATCH, dir=parent)


def rehearse(title: str, config: Config, setting: Any, run: Run) -> tuple[RehearsalRunner, str]:
    """
    Args:
        title: of the stage.
        config: of its training, in a scratch folder; it is changed.
        setting: from a key of it to the key's name in the whole config.
        run: in the scratch folder.

    Returns:
        A runner that has trained, and what there is to say of it.

    Raises:
        CkdError: the problem, with stage, key, value and reason.
    """
    started, compiled = time.perf_counter(), config.get('compile') or config.model.get('compile')
    config.resume, config.log_level, config.compile = False, 'ERROR', None
    for key, small in (('compile', False), ('teacher_batch', STEPS)):
        if config.model.get(key):
            config.model[key] = small

    class Runner(RehearsalRunner):  # mmengine's from_cfg takes no more than the config
        pass

    Runner.run, Runner.setting, Runner.losses, Runner.remarks = run, staticmethod(setting), [], []
    try:
        if compiled:
            with trying('compile', compiled, 'does not work'):  # says what it does not know at once
                compile_in_place([nn.Identity()], dict(compiled) if isinstance(compiled, dict) else {})
        with reading('its training cannot be set up'):
            runner = Runner.from_cfg(config)
            runner.train()
    except Problem as problem:
        raise ConfigError(f'{title}: {problem.explain(setting(problem.key))}') from problem
    except ConfigError as error:
        raise ConfigError(f'{title}: {error}') from error
    seconds = time.perf_counter() - started
    found = on_all(lambda: f'{STEPS} steps, loss {finite_loss(title, runner):.3g}, {seconds:.1f} s'
                   + unreached_parameters(title, runner, setting))
    for remark in dict.fromkeys(runner.remarks):
        run.warn(f'{title}: {remark}')
    return runner, found


def finite_loss(title: str, runner: RehearsalRunner) -> float:
    """Of the first step. Raises ConfigError if it is not finite."""
    losses = dict(runner.losses[0])
    loss = losses.pop('loss')
    if not math.isfinite(loss):
        raise ConfigError(f'{title}: the loss of the first step is {loss}: '
                          + ', '.join(f'{name}={value:.4g}' for name, value in losses.items()))
    if loss == 0:
        runner.remarks.append('the loss of the first step is 0, of which nothing is learnt: '
                              + ', '.join(losses))
    return loss


@contextlib.contextmanager
def testing(title: str, run: Run) -> Iterator[None]:
    """Around the evaluation of a rehearsal on a few images of the test set. Raises ConfigError, naming its
    loader or evaluator."""
    config = run.student_training()  # without metrics that need teachers
    loader, metrics = config.get('test_dataloader'), as_list(config.get('test_evaluator'))
    try:
        if loader is not None:
            dataset = run.data_set(loader['dataset'], 'test_dataloader.dataset')
            settings = {name: value for name, value in loader.items() if name != 'dataset'}
            with trying('test_dataloader', settings):
                built = require_end(StageRunner.build_dataloader(dict(loader, dataset=dataset)))
            with trying('test_dataloader', None, 'fails on a few images'):
                for remark in of_evaluation('test_dataloader', built):
                    run.warn(f'{title}: {remark}')
            for metric in metrics:
                build_metric('test_evaluator', metric)
        with trying('test_evaluator', config.get('test_evaluator'), 'fails on a few images', NEEDS_MORE):
            yield
    except Problem as problem:
        raise ConfigError(f'{title}: {problem.explain(problem.key)}') from problem


def unreached_parameters(title: str, runner: RehearsalRunner, setting: Any) -> str:
    """Raises ConfigError where several processes would wait for gradients that never come."""
    wrapper, key = runner.cfg.get('model_wrapper_cfg'), setting('find_unused_parameters')
    if wrapper is not None:  # then mmengine asks nothing else
        key = f'{setting("model_wrapper_cfg")}.find_unused_parameters'
    finds = (runner.cfg if wrapper is None else wrapper).get('find_unused_parameters')
    if not runner.unreached or finds or (wrapper or {}).get('static_graph'):
        return ''
    more = f' and {len(runner.unreached) - 1} others' if len(runner.unreached) > 1 else ''
    problem = f'no loss reaches {runner.unreached[0]}{more}; on several processes set {key}=True'
    if is_distributed():
        raise ConfigError(f'{title}: {problem}, or freeze what does not learn')
    return f'; {problem}'
