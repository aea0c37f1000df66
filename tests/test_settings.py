"""What a config may say."""

from dataclasses import dataclass

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.settings import TrainingSettings, setting


def test_none_is_the_default_and_what_was_given_is_kept():
    @dataclass(frozen=True, kw_only=True)
    class Own(TrainingSettings):
        rate: float = setting(0.5, above=0, help='of drops')

    read = Own.read('own', dict(rate=None, load_from=None, train_cfg=dict(max_epochs=3)))
    assert read == Own() and read.rate == 0.5
    assert read.given == read.overrides == dict(load_from=None, train_cfg=dict(max_epochs=3))
    with pytest.raises(ConfigError, match='own.rate=0 should be a finite number, above 0'):
        Own.read('own', dict(rate=0))
