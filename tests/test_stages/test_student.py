"""The trajectory of a student while it learns."""

import pytest
import torch
from mmengine.registry import RUNNERS

from ckd_mm.errors import ConfigError
from ckd_mm.files import plain
from ckd_mm.trajectory import Trajectory

from ..conftest import STATISTICS, resnet
from ..helpers import assert_same_weights, opened, prepared, stopped_at, weights_of


def test_student_and_baseline_leave_ordinary_classifiers(distil_run, tmp_path):
    settings = dict(selector='last', probe=None, student_snapshots=dict(interval=1), student_alone=True)
    unbroken, broken = (distil_run(**settings, work_dir=str(tmp_path / name))
                        for name in ('unbroken', 'broken'))
    RUNNERS.build(unbroken).train()
    for stage in ('student', 'student_alone'):
        found = Trajectory.open(tmp_path / 'unbroken' / stage)
        assert found.times == [1, 2] and found.length == 2 and 'held_out' not in found.info
        model = found.info['model']
        assert (model['type'], model['backbone']) == ('ImageClassifier', plain(resnet()['backbone']))
        assert model['data_preprocessor'] == STATISTICS and found.last.accuracy is not None
        assert_same_weights(found.last.build().state_dict(),
                            weights_of(tmp_path / 'unbroken' / stage / 'epoch_2.pth'))
    whole = Trajectory.open(tmp_path / 'unbroken' / 'student')
    assert_same_weights(whole.last.state_dict(), weights_of(tmp_path / 'unbroken' / 'student.pth'))

    stopped_at(broken, 'student', 1)
    first = Trajectory.open(tmp_path / 'broken' / 'student')
    assert first.times == [1]
    written = first.last.file.stat().st_mtime_ns
    RUNNERS.build(broken).train()
    resumed = Trajectory.open(tmp_path / 'broken' / 'student')
    resumed.check()
    assert resumed.times == [1, 2] and resumed.at(1).file.stat().st_mtime_ns == written
    for snapshot in whole:
        assert_same_weights(resumed.at(snapshot.epoch).state_dict(), snapshot.state_dict())
    heads = [snapshot.state_dict()['head.fc.weight'] for snapshot in whole]
    assert not torch.equal(*heads), 'the student should have learnt between its snapshots'


@pytest.mark.parametrize('given, message', [
    (dict(interval=0), '^student_snapshots.interval=0 should be a whole number, at least 1'),
    (dict(epochs=[1, 5]),
     r'^student_snapshots: epochs=\[1, 5\] asks for epoch 5, but the run ends after 2 epochs'),
    (dict(every=1), "^student_snapshots: unknown key 'every'; known are interval, epochs, iters, phases")])
def test_bad_settings(distil_run, given, message):
    with pytest.raises(ConfigError, match=message):
        RUNNERS.build(distil_run(student_snapshots=given)).train()


def test_without_the_key_nothing_is_kept(distil_run):
    run, stages = opened(distil_run(student_alone=True))
    for name in ('student', 'student_alone'):
        assert 'SnapshotHook' not in stages[name].config(run).pretty_text


def test_a_cohort_is_tried_with_the_weights_of_its_teachers(distil_run):
    """``teacher_weights`` are of the selected snapshots; a second generation has one teacher and none."""
    config = distil_run(probe=None, generations=2, distill=dict(
        cohort=dict(type='ckd_mm.SnapshotEnsemble'), teacher_weights=[1, 2]))
    config.selector = dict(type='even', k=2)
    before = torch.get_rng_state()
    lines, _ = prepared(config)
    for name in ('generation_1', 'student'):
        assert any(line.startswith(f'[ ok ] {name}: rehearsal: 2 steps') for line in lines)
    assert torch.equal(torch.get_rng_state(), before)
