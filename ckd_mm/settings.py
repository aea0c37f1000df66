"""What a config may say: typed settings with bounds and help texts."""

from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, get_args

from mmengine.hooks import Hook

from .errors import ConfigError, reading
from .validate import check_bool, check_choice, check_dict, check_int, check_keys, check_number

# mmengine's keys that a stage may override, merged over those of the student
RUNNER_KEYS = ('train_dataloader', 'val_dataloader', 'train_cfg', 'val_cfg', 'optim_wrapper',
               'param_scheduler', 'val_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor',
               'load_from', 'randomness', 'auto_scale_lr', 'sync_bn', 'find_unused_parameters',
               'model_wrapper_cfg', 'compile', 'log_processor', 'env_cfg')


def setting(default: Any = MISSING, *, help: str, at_least: float | None = None, above: float | None = None,
            at_most: float | None = None, choices: Sequence[Any] | None = None, remedy: str = '') -> Any:
    """A field of :class:`Settings`.

    Args:
        default: without one the setting has to be given.
        help: what it does, units included; it is shown in ``docs/config.md``.
        remedy: what to do where it is missing, for the message.
    """
    return field(default=default, metadata=dict(help=help, at_least=at_least, above=above, at_most=at_most,
                                                choices=choices, remedy=remedy))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A dict of a config, read and checked. None means the default: a command line can set an inherited key
    to None, but not take it out.

    Attributes:
        further: keys that are known but are no fields.
        example: of a dict whose other keys are not ours to know; None: there are no others.
        given: the dict as it was given, without fields that are None.
    """
    further: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str | None] = None
    given: dict = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, name: str, found: Any) -> 'Settings':
        """
        Args:
            name: of the dict in the config, for messages; '' for the whole config.

        Raises:
            ConfigError: naming the setting.
        """
        if cls.example is None:
            check_keys(name, found, cls.names())
        else:
            check_dict(name, found, cls.example)
        values = {}
        for item in cls.own_fields():
            key = f'{name}.{item.name}'.lstrip('.')
            if found.get(item.name) is not None:
                values[item.name] = _read_value(key, item, found[item.name])
            elif item.default is MISSING:
                raise ConfigError(f'{key} is missing: {item.metadata["remedy"]}')
        given = {key: value for key, value in found.items() if value is not None or key in cls.further}
        made = cls(**values, given=given)
        with reading(f'{name or "the config"} cannot be read'):
            made.check(name)
        return made

    def check(self, name: str) -> None:
        """For subclasses: what their fields must meet together, else a ConfigError."""

    @classmethod
    def own_fields(cls) -> list[Field]:
        return [item for item in fields(cls) if item.name != 'given']

    @classmethod
    def names(cls) -> list[str]:
        return [item.name for item in cls.own_fields()] + list(cls.further)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """Settings of a stage that may also override how the student is trained."""
    further = RUNNER_KEYS

    @property
    def overrides(self) -> dict[str, Any]:
        return {key: value for key, value in self.given.items() if key in RUNNER_KEYS}

    def check(self, name: str) -> None:
        RunnerSettings.read(name, self.overrides)


# ------------------------------------------------------------ mmengine's keys
@dataclass(frozen=True, kw_only=True)
class LoaderSettings(Settings):
    """Of a dataloader."""
    example = 'dict(batch_size=64, dataset=dict(...))'
    dataset: dict | None = setting(None, help="a data set, say dict(type='CIFAR10', ...)")
    sampler: dict | None = setting(None, help="say dict(type='DefaultSampler', shuffle=True)")
    batch_size: int | None = setting(None, at_least=1, help='images a step and process')
    num_workers: int | None = setting(None, at_least=0, help='processes that read images')
    persistent_workers: bool = setting(False, help='keep them between epochs')
    drop_last: bool = setting(False, help='leave out the last batch where it is smaller')


@dataclass(frozen=True, kw_only=True)
class LoopSettings(Settings):
    """``train_cfg``."""
    example = 'dict(max_epochs=60)'
    max_epochs: int | None = setting(None, at_least=1, help='length of the training')
    max_iters: int | None = setting(None, at_least=1, help='length of a training by iterations')
    by_epoch: bool | None = setting(None, help='count epochs, or iterations')
    val_interval: int | None = setting(
        None, at_least=1, help='epochs, or iterations, from one validation to the next')
    val_begin: int | None = setting(None, at_least=0, help='the first of them after which is validated')


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """``model``."""
    example = "dict(type='ImageClassifier', ...)"
    backbone: dict | None = setting(None, help="say dict(type='ResNet', depth=18)")
    head: dict | None = setting(None, help="say dict(type='LinearClsHead', num_classes=10, ...)")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Settings):
    """``optim_wrapper.optimizer``."""
    example = "dict(type='SGD', lr=0.1)"
    lr: float | None = setting(None, at_least=0, help='learning rate')
    momentum: float | None = setting(None, at_least=0, at_most=1, help='of SGD')
    weight_decay: float | None = setting(None, at_least=0, help='towards 0')


@dataclass(frozen=True, kw_only=True)
class ClipSettings(Settings):
    """``optim_wrapper.clip_grad``."""
    example = 'dict(max_norm=1.0)'
    max_norm: float | None = setting(None, above=0, help='of all gradients together')
    clip_value: float | None = setting(None, above=0, help='of each number')


@dataclass(frozen=True, kw_only=True)
class OptimSettings(Settings):
    """``optim_wrapper``."""
    example = "dict(optimizer=dict(type='SGD', lr=0.1))"
    optimizer: OptimizerSettings | None = setting(None, help='its type and numbers')
    clip_grad: ClipSettings | None = setting(None, help='of gradients that are too large')
    accumulative_counts: int = setting(1, at_least=1, help='batches an update')


@dataclass(frozen=True, kw_only=True)
class HookSettings(Settings):
    """Of a hook."""
    example = "dict(type='EMAHook')"


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings(HookSettings):
    """``default_hooks.checkpoint``."""
    interval: int | None = setting(None, at_least=-1, help='after every so many epochs; -1: after the last')
    max_keep_ckpts: int | None = setting(None, at_least=-1, help='that are kept; -1: all')

    def check(self, name: str) -> None:
        if self.interval == 0:
            raise ConfigError(f'{name}.interval=0 should be a whole number, at least 1, or -1: a run that is '
                              'stopped goes on from its last checkpoint')


@dataclass(frozen=True, kw_only=True)
class RandomnessSettings(Settings):
    """``randomness``."""
    example = 'dict(seed=0)'
    seed: int | None = setting(None, at_least=0, help='None: another one each time')
    deterministic: bool = setting(False, help='only operations that repeat bit for bit')


@dataclass(frozen=True, kw_only=True)
class ScaleSettings(Settings):
    """``auto_scale_lr``, of which mmengine reads these and ignores others."""
    base_batch_size: int | None = setting(None, at_least=1, help='that the learning rate is for')
    enable: bool = setting(False, help='scale it to the actual batch size')


@dataclass(frozen=True, kw_only=True)
class EnvSettings(Settings):
    """``env_cfg``, likewise."""
    further = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')


@dataclass(frozen=True, kw_only=True)
class RunnerSettings(Settings):
    """What mmengine's Runner takes, as far as a wrong kind of value is known before anything is built. It
    uses some of these keys late, and itself says of most only where it fails."""
    example = 'dict(train_cfg=dict(max_epochs=60))'
    model: NetworkSettings | None = setting(None, help='the network')
    work_dir: str | Path | None = setting(None, help='folder of the run')
    train_dataloader: LoaderSettings | None = setting(None, help='images to train on')
    val_dataloader: LoaderSettings | None = setting(None, help='images to validate on')
    test_dataloader: LoaderSettings | None = setting(None, help='images to test on')
    train_cfg: LoopSettings | None = setting(None, help='length of the training')
    val_cfg: dict | None = setting(None, help='of the validation, say dict()')
    test_cfg: dict | None = setting(None, help='of the test, say dict()')
    optim_wrapper: OptimSettings | None = setting(None, help='the optimizer')
    param_scheduler: list | dict | None = setting(
        None, help="schedules of the learning rate, say dict(type='CosineAnnealingLR', T_max=60)")
    default_hooks: dict | None = setting(None, help='say dict(checkpoint=dict(interval=10))')
    custom_hooks: list | None = setting(None, help="say [dict(type='EMAHook')]")
    data_preprocessor: dict | None = setting(None, help='say dict(mean=[...], std=[...])')
    load_from: str | Path | None = setting(None, help='file with the first weights')
    resume: bool | str | Path = setting(
        False, help="'auto': go on with the run in work_dir; a file: the student goes on from that one")
    launcher: str = setting('none', choices=('none', 'pytorch', 'slurm', 'mpi'), help='of processes')
    randomness: RandomnessSettings | None = setting(None, help='of all random numbers')
    auto_scale_lr: ScaleSettings | None = setting(None, help='learning rate by batch size')
    sync_bn: str | None = setting(None, choices=('torch', 'mmcv'), help='of which package')
    find_unused_parameters: bool = setting(False, help='for parameters that no loss reaches')
    model_wrapper_cfg: dict | None = setting(None, help="say dict(type='MMDistributedDataParallel')")
    compile: bool | dict | None = setting(None, help='torch.compile, or its options')
    log_level: str | None = setting(
        None, choices=('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL', 10, 20, 30, 40, 50), help='of logs')
    log_processor: dict | None = setting(None, help='say dict(window_size=10)')
    visualizer: dict | None = setting(None, help="say dict(type='UniversalVisualizer')")
    env_cfg: EnvSettings | None = setting(None, help='say dict(cudnn_benchmark=True)')
    default_scope: str | None = setting(None, help="say 'mmpretrain'")
    experiment_name: str | None = setting(None, help='of the logs')

    @classmethod
    def of(cls, config: Any) -> 'RunnerSettings':
        """Of a whole config. Raises ConfigError where a value is of another kind."""
        return cls.read('', {key: config[key] for key in cls.names() if key in config})

    def check(self, name: str) -> None:
        hooks = {f'custom_hooks[{index}]': hook for index, hook in enumerate(self.custom_hooks or [])}
        hooks |= {f'default_hooks.{key}': hook for key, hook in (self.default_hooks or {}).items()
                  if hook is not None}
        for key, hook in hooks.items():
            if not isinstance(hook, Hook):
                kind = CheckpointSettings if key == 'default_hooks.checkpoint' else HookSettings
                kind.read(f'{name}.{key}'.lstrip('.'), hook)


# ------------------------------------------------------------ reading
def kinds_of(annotation: Any) -> tuple[Any, ...]:
    """The types of a field, without None."""
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation, )
    return tuple(kind for kind in kinds if kind is not NoneType)


def settings_in(annotation: Any) -> list[type[Settings]]:
    return [kind for kind in kinds_of(annotation) if isinstance(kind, type) and issubclass(kind, Settings)]


def _read_value(name: str, item: Field, value: Any) -> Any:
    kinds, limits = kinds_of(item.type), item.metadata
    if settings_in(item.type):
        return settings_in(item.type)[0].read(name, value)
    if limits['choices'] is not None:
        return check_choice(name, value, limits['choices'])
    if kinds == (bool, ) or (bool in kinds and isinstance(value, bool)):
        return check_bool(name, value)
    if float in kinds:
        return check_number(name, value, limits['at_least'], limits['above'], limits['at_most'])
    if int in kinds:
        return check_int(name, value, limits['at_least'])
    if not isinstance(value, (*kinds, tuple) if list in kinds else kinds):
        wanted = ' or '.join(f'a {kind.__name__}' for kind in kinds)
        raise ConfigError(f'{name}={value!r} should be {wanted}: {limits["help"]}')
    return value
