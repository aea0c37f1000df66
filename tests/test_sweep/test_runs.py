"""Finished runs of several seeds as one row."""

import json
from statistics import stdev

import pytest
from mmengine.config import Config

from ckd_mm.errors import ConfigError
from ckd_mm.files import write_json
from ckd_mm.sweep import methods_table, read_runs


def leave(folder, accuracy, seed=0, tau=4.0, **networks) -> None:
    config = Config(dict(randomness=dict(seed=seed), work_dir=str(folder), distill=dict(tau=tau)))
    write_json(folder / 'summary.json', dict(
        {name: dict(accuracy_top1=value) for name, value in dict(student=accuracy, **networks).items()},
        cost=dict(total_epochs=17), config=dict(text=config.pretty_text)))


def test_mean_and_spread_over_seeds(tmp_path, tool):
    for seed, accuracy in ((10, 61.0), (3, 62.0), (21, 64.0)):
        leave(tmp_path / 'dih' / f'seed_{seed}', accuracy, seed, cohort=70.0 + seed)
    leave(tmp_path / 'ce', 59.77)
    dih, single = read_runs(tmp_path / 'dih'), read_runs(tmp_path / 'ce')
    assert dih['seeds'] == [3, 10, 21] and dih['student']['values'] == [62.0, 61.0, 64.0]
    assert (dih['student']['mean'], dih['student']['spread']) == pytest.approx((187 / 3, stdev([61, 64, 62])))
    assert 'student_alone' not in dih and single['student']['spread'] is None
    rows = methods_table([dih, single]).splitlines()
    assert rows[0] == '| method | runs | who teaches | student | epochs trained |'
    assert rows[2:] == ['| dih | 3 | 81.33 ± 9.07 | 62.33 ± 1.53 | 17 |', '| ce | 1 |  | 59.77 | 17 |']
    file = tmp_path / 'out.json'
    status, out, _ = tool('compare_runs.py', tmp_path / 'dih', tmp_path / 'ce', '--json', file)
    assert status == 0 and out.splitlines() == rows and json.loads(file.read_text()) == [dih, single]


def test_what_cannot_be_averaged(tmp_path):
    with pytest.raises(ConfigError, match=r'none holds no finished run'):
        read_runs(tmp_path / 'none')
    leave(tmp_path / 'kd' / 'a', 60.0, 1)
    leave(tmp_path / 'kd' / 'b', 61.0, 2, tau=20.0)
    with pytest.raises(ConfigError, match=r'are not runs of one method: distill.tau was 4.0, now 20.0'):
        read_runs(tmp_path / 'kd')
    leave(tmp_path / 'kd' / 'b', 61.0, 1)
    for content in ([], {}, dict(config=3)):
        write_json(tmp_path / 'other' / 'summary.json', content)
        with pytest.raises(ConfigError, match=r'summary\.json is no summary of a run: \w+Error: '):
            read_runs(tmp_path / 'other')
    with pytest.raises(ConfigError, match=r'two runs with randomness.seed=1'):
        read_runs(tmp_path / 'kd')
