"""Two processes on one machine without a GPU (gloo) do what one does."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ckd_mm.cli import set_loader_defaults
from ckd_mm.evaluation import evaluate
from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import DEMO, distil_config, free_port, resnet, run_tool
from ..helpers import BEFORE_STAGES, in_two_processes, logged


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """The same run by one process with batches of 16 and by two with batches of 8; GroupNorm, since BatchNorm
    would take its statistics from half a batch."""
    folder = tmp_path_factory.mktemp('distributed')
    norm, metrics = dict(norm_cfg=dict(type='GN', num_groups=2)), [
        dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.KDMetric')]
    config = Config.fromfile(DEMO)
    config.merge_from_dict({
        'train_dataloader.dataset.pipeline': [dict(type='PackInputs')],
        'train_dataloader.dataset.indices': 144, 'train_cfg.max_epochs': 2, 'teacher.train_cfg.max_epochs': 3,
        'teacher.snapshots.interval': 1, 'probe.held_out': 16, 'probe.decoder_epochs': 2,
        'student_alone': False, 'optim_wrapper.optimizer.lr': 0.02, 'generations': 2,
        'val_evaluator': metrics, 'test_evaluator': metrics,
        'custom_hooks': [dict(type='ckd_mm.TrainAgreementHook')],
        'distill.aggregation': 'loss'})
    config.heads = dict(out_indices=[0, 1], train_cfg=dict(max_epochs=2))
    config.model, config.teacher.model = resnet(1, **norm), resnet(2, **norm)
    config.train_dataloader.batch_size = 8
    config.dump(folder / 'two.py')
    done = run_tool('tools/dist_train.sh', folder / 'two.py', 2, '--work-dir', folder / 'two',
                    PORT=free_port())
    config.train_dataloader.batch_size, config.work_dir = 16, str(folder / 'one')
    set_loader_defaults(config)
    RUNNERS.build(config).train()
    return folder / 'one', folder / 'two', done.stdout + done.stderr


def test_same_weights(both):
    for name in ('snapshots/epoch_1.pth', 'snapshots/epoch_3.pth', 'heads.pth', 'generation_1.pth',
                 'student.pth'):
        first, second = (torch.load(folder / name, weights_only=True)['state_dict'] for folder in both[:2])
        assert first.keys() == second.keys()
        for key in first:
            torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=1e-4, msg=f'{name}: {key}')


def test_same_plane_and_summary(both):
    planes = [read(folder, 'information_plane.json')['points'] for folder in both[:2]]
    for first, second in zip(*planes):
        assert first['epoch'] == second['epoch']
        assert first['information_y'] == pytest.approx(second['information_y'], abs=1 / 16)
        assert first['information_x'] == pytest.approx(second['information_x'], abs=1e-3)
    first, second = (read(folder, 'summary.json') for folder in both[:2])
    assert first['student']['accuracy_top1'] == pytest.approx(second['student']['accuracy_top1'], abs=1.0)
    for name, tolerance in (('kd/error', 1.0), ('kd/divergence', 1e-2)):
        values = [summary['student']['metrics'][name] for summary in (first, second)]
        assert values[0] == pytest.approx(values[1], abs=tolerance), name
    for members in zip(first['heads']['members'], second['heads']['members']):
        assert members[0]['accuracy_top1'] == pytest.approx(members[1]['accuracy_top1'], abs=1.0)
    for name in ('train/kd_error', 'train/kd_loss'):
        values = [[row[name] for row in logged(folder / 'student', name)] for folder in both[:2]]
        assert len(values[0]) == 2 and values[0] == pytest.approx(values[1], rel=2e-2, abs=1.0), name


def test_the_probe_is_shared_and_nothing_is_written_twice(both):
    _, two, output = both
    assert output.count('Stage probe: finished') == 1
    assert output.count('Report:') == 1
    # three snapshots on two processes take two rounds; one process would announce 1/3 and 2/3
    assert 'Probe: 2/3 snapshots' in output and 'Probe: 1/3 snapshots' not in output
    names = sorted(path.name for path in (two / 'snapshots').iterdir())
    assert names == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']
    assert len(list((two / 'teacher').glob('2*'))) == 1


def test_dist_test_evaluates_the_student(both):
    folder, two = both[1].parent, both[1]
    run_tool('tools/dist_test.sh', folder / 'two.py', two / 'student.pth', 2, '--work-dir', folder / 'test',
             '--out', folder / 'metrics.json', PORT=free_port())
    expected = read(two, 'summary.json')['student']['accuracy_top1']
    assert read(folder, 'metrics.json')['accuracy/top1'] == pytest.approx(expected, abs=1e-3)


def test_batch_norm_and_no_validation(tmp_path, tool):
    """With BatchNorm each process has statistics of its own: what is reported should be the accuracy of what
    is written. Without validation nothing but the runner itself makes rank 1 wait for the last snapshot. The
    selector's short distillations take both processes, too."""
    config = Config.fromfile(DEMO)
    config.merge_from_dict({
        'train_dataloader.dataset.indices': 320, 'train_cfg.max_epochs': 2,
        'teacher.train_cfg.max_epochs': 4, 'teacher.snapshots.interval': 2,
        'selector': 'short_probe', 'student_alone': False, 'probe': None})
    config.dump(tmp_path / 'config.py')
    run = tmp_path / 'run'
    command = ('train.py', tmp_path / 'config.py', '--work-dir', run, '--no-validate', '--launcher',
               'pytorch')
    assert [status for status, _, _ in in_two_processes(lambda: tool(*command))] == [0, 0]
    summary, scores = read(run, 'summary.json'), read(run / 'select', 'scores_short_probe.json')['rows']
    assert summary['processes'] == 2 and summary['images_a_step'] == 64
    assert [row['epoch'] for row in scores] == [2, 4]
    assert summary['selection']['epochs'] == [max(scores, key=lambda row: row['score'])['epoch']]
    assert (run / 'select' / 'epoch_2' / 'epoch_1.pth').exists()
    for file, who in (('student.pth', 'student'), ('snapshots/epoch_4.pth', 'teacher')):
        metrics = evaluate(SnapshotEnsemble([run / file]), config)
        assert metrics['accuracy/top1'] == pytest.approx(summary[who]['accuracy_top1'], abs=1e-3), file


FAILS_ON_ONE = """
import os
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class FailsOnOne(Hook):

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert os.environ['RANK'] == '0', 'planted'
"""


def test_no_process_waits_for_one_that_fails_in_the_rehearsal(tmp_path, tool, monkeypatch):
    (tmp_path / 'fails_on_one.py').write_text(FAILS_ON_ONE)
    config = distil_config(tmp_path / 'run', selector='last', probe=None,
                           custom_imports=dict(imports=['fails_on_one']))
    config.custom_hooks = [dict(type='FailsOnOne')]
    config.dump(tmp_path / 'two.py')
    monkeypatch.syspath_prepend(str(tmp_path))
    for status, _, error in in_two_processes(lambda: tool('train.py', tmp_path / 'two.py', '--launcher',
                                                          'pytorch')):
        assert status == 1
        assert 'teacher: custom_hooks holds FailsOnOne, whose after_train_iter fails: Asser' in error
    assert {path.name for path in (tmp_path / 'run').iterdir()} == BEFORE_STAGES
