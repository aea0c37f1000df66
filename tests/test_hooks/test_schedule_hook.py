"""Which schedules fit a run and each other, and how they are named."""

from pathlib import Path

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.hooks import ProgressiveTeacherHook, build_schedule, check_schedules
from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import resnet
from ..helpers import train, with_statistics
from .conftest import ANNEAL, OVERTAKEN, PROGRESSIVE, STOP


@pytest.mark.parametrize('schedule, message', [
    ([STOP, STOP], 'StopDistillationHook is there 2 times; keep one'),
    ([STOP, ANNEAL], 'StopDistillationHook and AnnealDistillationHook would each stop distillation; keep '
                     'one'),
    ([STOP, OVERTAKEN], 'StopDistillationHook and StopWhenOvertakenHook would each stop'),
    ([PROGRESSIVE, OVERTAKEN], 'StopWhenOvertakenHook compares the student with its teacher, which '
                               'ProgressiveTeacherHook changes'),
    ([dict(STOP, stop_epoch=5)], 'stop_epoch=5 is never reached: the run has 4 epochs'),
    ([dict(ANNEAL, end=5)], 'end=5 is never reached: the run has 4 epochs'),
    ([dict(OVERTAKEN, interval=3, patience=2)], '2 evaluations, one every 3 epochs, never come: the run has '
                                                '4 epochs'),
    ([dict(PROGRESSIVE, starts=[0, 2, 4])], r'starts=\[0, 2, 4\]: the last teacher would never teach, there '
                                            'are 4 epochs'),
    ([dict(PROGRESSIVE, starts=[0, 1, 2]), STOP], r'starts=\[0, 1, 2\]: the last teacher would never teach, '
                                                  'there are 2 epochs'),
    ([dict(PROGRESSIVE, starts=[0, 1])], r'starts=\[0, 1\] should be 3 epochs, one for each snapshot'),
    ([PROGRESSIVE, STOP], '3 snapshots cannot take turns in 2 epochs with distillation'),
])
def test_what_does_not_fit_is_named(schedule, message):
    with pytest.raises(ConfigError, match=message):
        check_schedules([build_schedule(item) for item in schedule], 4, 3)


def test_what_fits():
    """And until when it distils."""
    fading = dict(ANNEAL, end_value=0.1)
    three = [dict(STOP, stop_epoch=3), fading, dict(PROGRESSIVE, starts=[0, 2])]
    for schedule, teachers, distilled in ((three, 2, 3), ([dict(ANNEAL, end=3), PROGRESSIVE], 3, 3),
                                          ([OVERTAKEN, fading], None, 4)):
        assert check_schedules([build_schedule(item) for item in schedule], 4, teachers) == distilled


def test_what_the_run_lacks_is_named_before_training(scheduled, digits_run):
    built = SnapshotEnsemble(scheduled(teachers=(1, 2)).model.cohort.snapshots)
    by_iterations = scheduled(STOP)
    by_iterations.train_cfg = dict(by_epoch=False, max_iters=4)
    no_list = scheduled(PROGRESSIVE)
    no_list.model = CheckpointDistill(with_statistics(resnet()), built)
    for config, message in (
        (scheduled(PROGRESSIVE, STOP, teachers=(1, 2, 3)), '3 snapshots cannot take turns in 2 epochs'),
        (scheduled(PROGRESSIVE), 'one snapshot cannot take turns; let the selector choose several'),
        (no_list, 'needs a cohort that is given as a config with a list of `snapshots`'),
        (scheduled(dict(ANNEAL, end_value=0.5), distill=dict(cohort=None, kd_weight=0.0)),
         r'end_value=0\.5 needs teachers, but the model has no cohort'),
        (digits_run(custom_hooks=[ANNEAL]),
         r'AnnealDistillationHook needs a ckd_mm\.CheckpointDistill model, got ImageClassifier'),
        (by_iterations, 'stop_epoch=2, but the training counts iterations: give .*stop_iter=')):
        with pytest.raises(ConfigError, match=message):
            train(config)
        assert not list(Path(config.work_dir).glob('*.pth'))


def test_schedules_go_by_their_registered_names():
    assert isinstance(build_schedule(dict(PROGRESSIVE, starts=[0, 2])), ProgressiveTeacherHook)
    known = ', '.join(f'ckd_mm.{name}Hook' for name in ('AnnealDistillation', 'ProgressiveTeacher',
                                                        'StopDistillation', 'StopWhenOvertaken'))
    for wrong in ('anneal', 'ckd_mm.SnapshotHook', None):
        with pytest.raises(ConfigError) as caught:
            build_schedule(dict(type=wrong))
        assert str(caught.value) == f'distill.schedule: type={wrong!r} should be one of {known}'
    with pytest.raises(ConfigError, match="type='late' should be one of"):
        build_schedule('late')
    with pytest.raises(ConfigError, match="AnnealDistillationHook does not take these settings: .*'start'"):
        build_schedule(dict(type='ckd_mm.AnnealDistillationHook', start=1))
