"""Finished runs of several seeds as one row."""

import json
from statistics import stdev

import pytest
from mmengine.config import Config

from ckd_mm.errors import ConfigError
from ckd_mm.files import write_json
from ckd_mm.sweep import methods_table, read_runs


def leave(folder, accuracy, seed=0, **options) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = Config(
        dict(randomness=dict(seed=seed), work_dir=str(folder), distill=dict(tau=options.pop('tau', 4.0))))
    write_json(folder / 'summary.json', dict(
        {name: dict(accuracy_top1=value) for name, value in dict(student=accuracy, **options).items()},
        cost=dict(total_epochs=17), config=dict(text=config.pretty_text)))


def test_mean_and_spread_over_seeds(tmp_path):
    for seed, accuracy in ((10, 61.0), (3, 62.0), (21, 64.0)):
        leave(tmp_path / 'dih' / f'seed_{seed}', accuracy, seed, cohort=70.0 + seed)
    leave(tmp_path / 'ce', 59.77)
    dih, single = read_runs(tmp_path / 'dih'), read_runs(tmp_path / 'ce')
    assert dih['seeds'] == [3, 10, 21] and dih['student']['values'] == [62.0, 61.0, 64.0]
    assert dih['student']['mean'] == pytest.approx(187 / 3) and dih['student']['spread'] == pytest.approx(
        stdev([61, 64, 62]))
    assert 'student_alone' not in dih and single['student']['spread'] is None
    rows = methods_table([dih, single]).splitlines()
    assert rows[0] == '| method | runs | who teaches | student | epochs trained |'
    assert rows[2:] == ['| dih | 3 | 81.33 ± 9.07 | 62.33 ± 1.53 | 17 |', '| ce | 1 |  | 59.77 | 17 |']


def test_what_cannot_be_averaged(tmp_path):
    with pytest.raises(ConfigError, match=r'none holds no finished run'):
        read_runs(tmp_path / 'none')
    leave(tmp_path / 'kd' / 'a', 60.0, 1)
    leave(tmp_path / 'kd' / 'b', 61.0, 2, tau=20.0)
    with pytest.raises(ConfigError, match=r'are not runs of one method: distill.tau was 4.0, now 20.0'):
        read_runs(tmp_path / 'kd')
    leave(tmp_path / 'kd' / 'b', 61.0, 1)
    with pytest.raises(ConfigError, match=r'two runs with randomness.seed=1'):
        read_runs(tmp_path / 'kd')


def test_the_tool(tool, tmp_path):
    leave(tmp_path / 'kd' / 'a', 60.0, 1)
    status, out, _ = tool('compare_runs.py', tmp_path / 'kd', '--json', tmp_path / 'out.json')
    assert status == 0 and '| kd | 1 | 60.00 | 17 |' in out
    assert json.loads((tmp_path / 'out.json').read_text())[0]['student']['mean'] == 60.0
    assert tool('compare_runs.py', tmp_path / 'nothing')[0] == 1
