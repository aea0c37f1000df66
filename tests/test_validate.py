"""Bounds, and what their messages say."""

import math

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.validate import check_bool, check_choice, check_int, check_keys, check_number


@pytest.mark.parametrize('value', [0, 1.0, True, '1', None])
def test_whole_numbers(value):
    with pytest.raises(ConfigError, match=rf'^k={value!r} should be a whole number, at least 1$'):
        check_int('k', value, 1)
    assert check_int('k', 1, 1) == 1


@pytest.mark.parametrize('value', [-0.1, math.nan, math.inf, True, '1', None])
def test_numbers(value):
    with pytest.raises(ConfigError, match=rf'^w={value!r} should be a finite number, at least 0$'):
        check_number('w', value, at_least=0)
    assert check_number('w', 0, at_least=0) == 0


def test_open_and_closed_bounds():
    for value in (0, 1.1):
        with pytest.raises(ConfigError, match=rf'^f={value} should be a finite number, above 0, at most 1$'):
            check_number('f', value, above=0, at_most=1)
    assert check_number('f', 1, above=0, at_most=1) == 1


def test_choices_and_switches():
    with pytest.raises(ConfigError, match=r"^kind='c' should be one of \('a', 'b'\)$"):
        check_choice('kind', 'c', ['a', 'b'])
    with pytest.raises(ConfigError, match=r'^on=1 should be True or False$'):
        check_bool('on', 1)


def test_keys():
    with pytest.raises(ConfigError, match=r"^distill: unknown key 'taau'; did you mean 'tau'\? Known are "
                                          r"tau, loss$"):
        check_keys('distill', dict(taau=1), ('tau', 'loss'))
    with pytest.raises(ConfigError, match=r'^distill=4 should be a dict with keys of tau$'):
        check_keys('distill', 4, ('tau', ))
    assert check_keys('distill', dict(tau=1, _scope_='x'), ('tau', )) == dict(tau=1, _scope_='x')
