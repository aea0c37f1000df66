"""Bounds, and what their messages say."""

import math

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.validate import check_bool, check_choice, check_dict, check_int, check_keys, check_number


@pytest.mark.parametrize('check, values, message', [
    (lambda value: check_int('k', value, 1), [0, 1.0, True, '1', None],
     'k={!r} should be a whole number, at least 1'),
    (lambda value: check_number('k', value, at_least=0), [-0.1, math.nan, math.inf, True, '1', None],
     'k={!r} should be a finite number, at least 0'),
    (lambda value: check_number('k', value, above=0, at_most=1), [0, 1.1],
     'k={!r} should be a finite number, above 0, at most 1'),
    (lambda value: check_choice('k', value, ['a', 'b']), ['c', None], "k={!r} should be one of ('a', 'b')"),
    (lambda value: check_bool('k', value), [1, 'yes'], 'k={!r} should be True or False'),
    (lambda value: check_dict('k', value, 'dict(a=1)'), ['a', [1]], 'k={!r} should be a dict, say dict(a=1)'),
    (lambda value: check_keys('k', value, ('tau', )), [4], 'k={!r} should be a dict with keys of tau'),
    (lambda value: check_keys('k', value, ('tau', 'loss')), [dict(taau=1)],
     "k: unknown key 'taau'; did you mean 'tau'? Known are tau, loss"),
    (lambda value: check_keys('k', value, ('tau', 'loss')), [dict(x=1)],
     "k: unknown key 'x'; known are tau, loss"),
])
def test_what_is_refused(check, values, message):
    for value in values:
        with pytest.raises(ConfigError) as caught:
            check(value)
        assert str(caught.value) == message.format(value)


def test_what_passes_is_returned():
    assert check_int('k', 1, 1) == 1 and check_number('k', 0, at_least=0) == 0
    assert check_number('k', 1, above=0, at_most=1) == 1
    assert check_choice('k', 'b', ['a', 'b']) == 'b' and check_bool('k', False) is False
    assert check_keys('k', dict(tau=1, _scope_='x'), ('tau', )) == dict(tau=1, _scope_='x')
