"""What a config may say: typed settings with bounds and help texts."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, ClassVar, get_args

from .errors import ConfigError
from .validate import check_bool, check_choice, check_int, check_keys, check_number

# keys of an ordinary mmengine config that a stage may say otherwise than the student
RUNNER_KEYS = ('train_dataloader', 'val_dataloader', 'train_cfg', 'val_cfg', 'optim_wrapper',
               'param_scheduler', 'val_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor',
               'load_from', 'randomness', 'auto_scale_lr', 'sync_bn', 'find_unused_parameters',
               'model_wrapper_cfg', 'compile', 'log_processor', 'env_cfg')


def setting(default: Any = MISSING, *, help: str, at_least: float | None = None, above: float | None = None,
            at_most: float | None = None, choices: Sequence[Any] | None = None, remedy: str = '') -> Any:
    """A field of :class:`Settings`.

    Args:
        default: without one the setting has to be given.
        help: what it does, for ``docs/config.md``; units included.
        at_least, above, at_most: bounds of a number.
        choices: all values that it may have.
        remedy: what to do where it is missing, for the message.
    """
    return field(default=default, metadata=dict(help=help, at_least=at_least, above=above, at_most=at_most,
                                                choices=choices, remedy=remedy))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A dict of a config, read and checked. None means the default: a command line can set an inherited key
    to None, but not take it out.

    Attributes:
        given: what was given, as it was; fields that are None are left out.
    """
    further: ClassVar[tuple[str, ...]] = ()
    """Keys that are known but are no fields."""

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
                values[item.name] = read_value(f'{name}.{item.name}'.lstrip('.'), item, found[item.name])
            elif item.default is MISSING:
                raise ConfigError(f'{name}.{item.name} is missing: {item.metadata["remedy"]}')
        made = cls(**values, given={
                       key: value
                       for key, value in found.items() if value is not None or key in cls.further
                   })
        made.check(name)
        return made

    def check(self, name: str) -> None:
        """What fields must hold together; subclasses write it.

        Raises:
            ConfigError: naming the setting.
        """

    @classmethod
    def own_fields(cls) -> list:
        return [item for item in fields(cls) if item.name != 'given']

    @classmethod
    def names(cls) -> list[str]:
        return [item.name for item in cls.own_fields()] + list(cls.further)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """Settings of a stage that may also be trained otherwise than the student."""
    further = RUNNER_KEYS

    @property
    def overrides(self) -> dict[str, Any]:
        """What it says otherwise, in mmengine's words."""
        return {key: value for key, value in self.given.items() if key in RUNNER_KEYS}

    def check(self, name: str) -> None:
        train_cfg = self.given.get('train_cfg') or {}
        if not isinstance(train_cfg, dict):
            raise ConfigError(f'{name}.train_cfg={train_cfg!r} should be a dict, say dict(max_epochs=60)')
        if 'max_epochs' in train_cfg:
            check_int(f'{name}.train_cfg.max_epochs', train_cfg['max_epochs'], 1)


def read_value(name: str, item: Any, value: Any) -> Any:
    """The value of a field, checked against its type and bounds.

    Raises:
        ConfigError: naming it.
    """
    kinds = [kind for kind in (get_args(item.type) if isinstance(item.type, UnionType) else (item.type, ))
             if kind is not NoneType]
    nested = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)), None)
    limits = item.metadata
    if nested is not None:
        return nested.read(name, value)
    if limits['choices'] is not None:
        return check_choice(name, value, limits['choices'])
    if bool in kinds and (len(kinds) == 1 or isinstance(value, bool)):
        return check_bool(name, value)
    if float in kinds:
        return check_number(name, value, limits['at_least'], limits['above'], limits['at_most'])
    if kinds == [int] or (int in kinds and isinstance(value, int)):
        return check_int(name, value, limits['at_least'])
    if not isinstance(value, tuple(kinds) + ((tuple, ) if list in kinds else ())):
        raise ConfigError(f'{name}={value!r} should be '
                          f'{" or ".join(f"a {kind.__name__}" for kind in kinds)}: {limits["help"]}')
    return value
