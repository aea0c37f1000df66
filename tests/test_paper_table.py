"""docs/papers.md: the commands work on their configs, the numbers are those of the papers."""

import argparse
import json
import re
import runpy
import shlex
import sys

import pytest

from .conftest import ROOT
from .test_configs import (
    ALL,
    ORDINARY,
    PRINTED,
    SHARED,
    SIZES,
    SLIPS,
    config_of,
    data_of,
    header,
    logits_of,
    networks_of,
    open_config,
    plain_data,
)

TABLE = ROOT / 'docs' / 'papers.md'
NUMBER = re.compile(r'(?<![\w.])\d+\.\d+')


def rows() -> list:
    """(what, command cell, printed cell)"""
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith('| ')]
    return [tuple(cell.strip() for cell in line.strip('|').split(' | ')) for line in lines[1:]]


ROWS = {what: (commands, printed) for what, commands, printed in ((row + ('', ''))[:3] for row in rows())}


def commands_of(what: str) -> list:
    return [shlex.split(code) for code in re.findall(r'`((?:python )?tools/[^`]+)`', ROWS[what][0])]


COMMANDS = sorted({tuple(command) for what in ROWS for command in commands_of(what)})


def test_rows_are_whole():
    assert all(len(row) == 3 for row in rows())
    assert len(ROWS) == len(rows()) > 80  # no two rows say the same of


# ------------------------------------------------------------ commands
def arguments(command: tuple, monkeypatch) -> argparse.Namespace:
    """As the tool itself parses them."""
    words = [word for word in command if word != 'python']
    if words[0].endswith('.sh'):  # launches tools/train.py with all but the number of GPUs
        assert (ROOT / words[0]).is_file() and words[2].isdigit()
        words = ['tools/train.py', words[1], *words[3:]]
    monkeypatch.setattr(sys, 'argv', words)
    return runpy.run_path(str(ROOT / words[0]), run_name='not main')['parse_args']()


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_command_fits_its_tool_and_config(command, monkeypatch):
    found = arguments(command, monkeypatch)
    name = str(found.config).removeprefix('configs/').removesuffix('.py')
    assert name in ALL
    if name in ORDINARY:
        return
    config = config_of(name)
    config.merge_from_dict(found.cfg_options or {})
    for setting in getattr(found, 'search', None) or {}:  # what a search varies is a setting of the config
        assert all(key.split('.')[1] in config.distill for key in setting.split('+'))
    for network in networks_of(*open_config(config)):
        shape = logits_of(plain_data(network), SIZES[data_of(config)])
        assert shape == (2, config.data_preprocessor.num_classes)


def test_every_config_is_in_the_table():
    named = {word for command in COMMANDS for word in command if word.startswith('configs/')}
    assert named == {f'configs/{name}.py' for name in ALL}


def test_configs_without_a_command_exist():
    for path in set(re.findall(r'configs/[\w./-]+\.py', TABLE.read_text())):
        assert (ROOT / path).is_file()


# ------------------------------------------------------------ every table and figure
PAPERS = {'CheckpointKD': ('checkpoint_kd', 7, 3), 'DIH': ('dih', 2, 4), 'ESKD': ('efficacy_of_kd', 6, 10)}


@pytest.mark.parametrize('short', PAPERS)
def test_every_table_and_figure_has_a_row(short):
    name, figures, tables = PAPERS[short]
    rows_of = ' '.join(what for what in ROWS if what.startswith(short))
    found = {(kind, int(number))
             for kind, numbers in re.findall(r'(Figure|Table)s? ((?:\d+(?: and |, )?)+)', rows_of)
             for number in re.findall(r'\d+', numbers)}
    wanted = {(kind, number) for kind, count in (('Figure', figures), ('Table', tables))
              for number in range(1, count + 1)}
    assert found == wanted
    paper = SHARED / 'papers' / f'{name}.md'
    if paper.is_file():  # and the paper has no more
        captions = re.findall(r'^(?:.*\s)?(Figure|Table) (\d+)[.:]', paper.read_text(), re.MULTILINE)
        assert wanted == {(kind, int(number)) for kind, number in captions}


# ------------------------------------------------------------ numbers
def named(row: dict) -> str:
    return f'{row["teacher"]} to {row["student"]}'


def values_of(row: dict, *keys: str) -> list:
    return [row[key] for key in keys if key in row]


def checkpoint_kd(tables: dict):
    for row in tables['table1_full_vs_intermediate']:
        yield (f'Table 1, {named(row)}, {row["dataset"]}',
               values_of(row, 'acc_t_full', 'acc_t_half', 'acc_student', 'kd_full', 'kd_half', 'kd_best'))
    for row in tables['table2_ensembles']['rows']:
        yield (f'Table 2, {named(row)}, {row["dataset"]}',
               values_of(row, 'acc_teacher', 'acc_student', 'acc_en1', 'acc_en2', 'acc_en3', 'kd', 'kd_en1',
                         'kd_en2', 'kd_en3'))
    for row in tables['table3_selection_cifar100']:
        yield (f'Table 3, {named(row)}', [SLIPS.get((row['teacher'], row['student'], key), row[key])
                                          for key in ('t0.3', 't0.5', 't0.7', 't_full', 't_star')])


def dih(tables: dict):
    yield 'Table 1', list(tables['table1_parameters_millions_cifar100'].values())
    for row in tables['table2']:
        for data in ('CIFAR-10', 'CIFAR-100'):
            yield f'Table 2, {named(row)}, {data}', list(row[data].values())
    for row in tables['table3_cifar100']:
        yield f'Table 3, {named(row)}', values_of(row, 'ce', 'kd', 'fitnets', 'takd', 'dml', 'dih')
    for row in tables['table4_small_gap_cifar100']:
        yield f'Table 4, {named(row)}', values_of(row, 'ce', 'kd', 'dih')


def dashed(network: str) -> str:
    return network.replace('WRN', 'WRN-').replace('ResNet', 'ResNet-')


def eskd(tables: dict):
    yield 'Table 1', list(tables['table1_imagenet_r18_full_kd'].values())
    for row in tables['table2_cifar10_kd_error']:
        yield f'Table 2, {dashed(named(row))}', [row['train'], row['test']]
    for row in tables['table3_imagenet_r18']:
        yield f'Table 3, {dashed(row["teacher"])}', [row['kd'], row['eskd']]
    for row in tables['table4_cifar10_generations']:
        yield (f'Table 4, {dashed(row["model"])}, {row["method"]}',
               values_of(row, 'last_generation', 'ensemble_of_generations', 'scratch', 'scratch_ensemble'))
    row = tables['table5_cifar10_wrn16_1_from_wrn16_3']
    yield 'Table 5', [row['student_scratch'], *(row[teacher][who]
                                                for teacher in ('teacher_scratch', 'teacher_5_generations')
                                                for who in ('teacher', 'student'))]
    yield 'Table 6', values_of(tables['table6_cifar10_stepwise'], 'WRN16-8 -> WRN16-3 -> WRN16-1',
                               'WRN16-3 -> WRN16-1', 'WRN16-8 -> WRN16-1')
    yield 'Table 7', list(tables['table7_imagenet_sequential_eskd'].values())
    stopped = list(tables['table8_imagenet_early_stopped_teachers'].values())
    yield 'Table 8, early-stopped teachers', stopped[:3]
    yield 'Table 8, with attention transfer', stopped[3:]
    yield 'Table 10, tau = 20', list(tables['table10_imagenet_tau20'].values())


@pytest.mark.parametrize('short, expected', [('CheckpointKD', checkpoint_kd), ('DIH', dih), ('ESKD', eskd)])
def test_numbers_are_the_papers(short, expected):
    if not PRINTED.is_file():
        pytest.skip(f'needs the numbers printed in the papers: {PRINTED} is not there')
    tables = json.loads(PRINTED.read_text())[expected.__name__]
    checked = []
    for what, values in expected(tables):
        flat = [float(number) for value in values
                for number in (value if isinstance(value, list) else [value])]
        assert [float(number) for number in NUMBER.findall(ROWS[f'{short}, {what}'][1])] == flat, what
        checked.append(f'{short}, {what}')
    printed = {what for what in ROWS if what.startswith(short) and NUMBER.search(ROWS[what][1])}
    unchecked = printed - set(checked)
    assert unchecked == ({'ESKD, Table 9'} if short == 'ESKD' else set())  # the JSON has no Table 9


def test_table_9():
    """ESKD, Table 9, top-1 errors, as the text has them."""
    paper = SHARED / 'papers' / 'efficacy_of_kd.md'
    if not paper.is_file():
        pytest.skip(f'needs the text of the paper: {paper} is not there')
    table = paper.read_text().split('Table 8. Overall')[1].split('Table 9.')[0]
    rows = re.findall(r'^(Scratch|ESKD|Full KD)\t(\S.*)\t(\d+\.\d+)\t', table, re.MULTILINE)
    printed = ROWS['ESKD, Table 9'][1]
    assert len(rows) == 7 and sorted(NUMBER.findall(printed)) == sorted(error for _, _, error in rows)
    for _, teacher, error in rows:
        assert f'{"scratch" if teacher == "-" else dashed(teacher)} {error}' in printed


@pytest.mark.parametrize('what', [what for what in ROWS
                                  if NUMBER.search(ROWS[what][1]) and commands_of(what)])
def test_numbers_are_in_the_headers(what):
    """Of the configs of their row."""
    headers = ' '.join(header(word.removeprefix('configs/').removesuffix('.py'))
                       for command in commands_of(what)
                       for word in command if word.startswith('configs/') and '_base_' not in word)
    assert set(NUMBER.findall(ROWS[what][1])) <= set(NUMBER.findall(headers))
