"""What a config may say."""

import math
import re
from dataclasses import MISSING, dataclass

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.pipeline import reference  # noqa: F401  all settings
from ckd_mm.settings import Settings, TrainingSettings, kinds_of, setting, settings_in


def test_none_is_the_default_and_what_was_given_is_kept():
    @dataclass(frozen=True, kw_only=True)
    class Own(TrainingSettings):
        rate: float = setting(0.5, above=0, help='of drops')

    read = Own.read('own', dict(rate=None, load_from=None, train_cfg=dict(max_epochs=3)))
    assert read == Own() and read.rate == 0.5
    assert read.given == read.overrides == dict(load_from=None, train_cfg=dict(max_epochs=3))
    with pytest.raises(ConfigError, match='own.rate=0 should be a finite number, above 0'):
        Own.read('own', dict(rate=0))


def all_settings(kind: type = Settings) -> list[type]:
    return [found for own in kind.__subclasses__() for found in (own, *all_settings(own))
            if own.__module__.startswith('ckd_mm.')]


NUMBERS = [(kind, item) for kind in all_settings() for item in kind.own_fields()
           if {int, float} & set(kinds_of(item.type)) and item.metadata['choices'] is None]
NAMES = [f'{kind.__name__}.{item.name}' for kind, item in NUMBERS]
NONSENSE = [math.nan, math.inf, -math.inf, -2, -0.5, '3', 'x', [1], dict(a=1), True]


def least(kind: type[Settings]) -> dict:
    """What has to be given."""
    return {item.name: least(settings_in(item.type)[0]) if settings_in(item.type) else {
        dict: {}, int: 1, float: 1.0, bool: True, list: [1], str: (item.metadata['choices'] or ['x'])[0]}[
        kinds_of(item.type)[0]] for item in kind.own_fields() if item.default is MISSING}


@pytest.mark.parametrize('kind, item', NUMBERS, ids=NAMES)
def test_every_number_has_bounds_and_nonsense_is_named(kind, item):
    limits, kinds = item.metadata, kinds_of(item.type)
    assert limits['at_least'] is not None or limits['above'] is not None
    others = least(kind)
    wrong = [value for value in NONSENSE if not (value is True and bool in kinds)]
    wrong += [limits['above'] if limits['at_least'] is None else limits['at_least'] - 1]
    wrong += [] if limits['at_most'] is None else [limits['at_most'] + 1]
    wrong += [] if float in kinds else [1.5, 1e9]
    for value in wrong:
        name = re.escape(f'some.{item.name}={value!r}')
        with pytest.raises(ConfigError, match=f'^{name} should be a (finite|whole) number'):
            kind.read('some', {**others, item.name: value})


def test_all_numbers_are_seen():
    """Of the settings that docs/config.md lists, and of mmengine's."""
    assert {'DistillSettings.tau', 'CacheSettings.top_k', 'ProbeSettings.held_out',
            'LoaderSettings.batch_size', 'OptimizerSettings.lr'} <= set(NAMES)
