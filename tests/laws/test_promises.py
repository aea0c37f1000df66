"""Every promise of docs/promises.md, and so each of README's five, has tests that exist."""

import re

import pytest

from ..conftest import ROOT

ROWS = re.findall(r'^\| (\d+) \| (.*) \|$', (ROOT / 'docs' / 'promises.md').read_text(), re.MULTILINE)
README = re.findall(r'^\d\. .*\(\[test\]\((\S+)\)\)\.$', (ROOT / 'README.md').read_text(), re.MULTILINE)


def linked(row: str) -> list:
    return [(ROOT / 'docs' / link).resolve() for link in re.findall(r'\]\((\S+\.py)\)', row)]


@pytest.mark.parametrize('number, row', ROWS, ids=lambda value: value[:2])
def test_a_promise_has_tests(number, row):
    assert linked(row)
    assert all('\ndef test_' in file.read_text() for file in linked(row))


def test_promises_are_numbered_and_readme_shows_five_of_them():
    assert [int(number) for number, _ in ROWS] == list(range(1, 16)) and len(README) == 5
    assert {(ROOT / link).resolve() for link in README} <= {file for _, row in ROWS for file in linked(row)}
