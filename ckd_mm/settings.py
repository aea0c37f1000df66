"""What a config may say: typed settings with bounds and help texts."""

from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, ClassVar, get_args

from .errors import ConfigError
from .validate import check_bool, check_choice, check_dict, check_int, check_keys, check_number

# mmengine's keys that a stage may override, merged over those of the student
RUNNER_KEYS = ('train_dataloader', 'val_dataloader', 'train_cfg', 'val_cfg', 'optim_wrapper',
               'param_scheduler', 'val_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor',
               'load_from', 'randomness', 'auto_scale_lr', 'sync_bn', 'find_unused_parameters',
               'model_wrapper_cfg', 'compile', 'log_processor', 'env_cfg')
LOADER = 'dict(batch_size=64, dataset=dict(...))'
DICTS = dict(model="dict(type='ImageClassifier', ...)", train_dataloader=LOADER, val_dataloader=LOADER,
             test_dataloader=LOADER, train_cfg='dict(max_epochs=60)', randomness='dict(seed=0)',
             optim_wrapper='dict(optimizer=dict(...))', data_preprocessor='dict(mean=[...], std=[...])',
             default_hooks='dict(checkpoint=dict(interval=10))')


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
        given: the dict as it was given, without fields that are None.
    """
    further: ClassVar[tuple[str, ...]] = ()
    given: dict = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, name: str, found: Any) -> 'Settings':
        """
        Args:
            name: of the dict in the config, for messages; '' for the whole config.

        Raises:
            ConfigError: naming the setting.
        """
        check_keys(name, found, cls.names())
        values = {}
        for item in cls.own_fields():
            if found.get(item.name) is not None:
                values[item.name] = _read_value(f'{name}.{item.name}'.lstrip('.'), item, found[item.name])
            elif item.default is MISSING:
                raise ConfigError(f'{name}.{item.name} is missing: {item.metadata["remedy"]}')
        given = {key: value for key, value in found.items() if value is not None or key in cls.further}
        made = cls(**values, given=given)
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
        check_mmengine_dicts(self.overrides, f'{name}.')
        train_cfg = self.given.get('train_cfg') or {}
        if 'max_epochs' in train_cfg:
            check_int(f'{name}.train_cfg.max_epochs', train_cfg['max_epochs'], 1)


def check_mmengine_dicts(config: dict, prefix: str = '') -> None:
    """Raises ConfigError where a key that has to be a dict for mmengine is something else, say a text."""
    for key, example in DICTS.items():
        if config.get(key) is not None:
            check_dict(prefix + key, config[key], example)


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
