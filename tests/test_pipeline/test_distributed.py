"""Two processes on one machine without a GPU (gloo) do what one does."""

import json
import socket
import sys

import pytest
import torch
from mmengine.config import Config

from ..conftest import ROOT, resnet, run_tool


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return str(listener.getsockname()[1])


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """The same run by one process with batches of 16 and by two with batches of 8; GroupNorm, since BatchNorm
    would take its statistics from half a batch."""
    folder = tmp_path_factory.mktemp('distributed')
    norm = dict(norm_cfg=dict(type='GN', num_groups=2))
    config = Config.fromfile(ROOT / 'configs' / 'ckd' / 'demo_digits.py')
    config.merge_from_dict({
        'train_dataloader.dataset.pipeline': [dict(type='PackInputs')],
        'train_dataloader.dataset.indices': 144, 'train_cfg.max_epochs': 2, 'teacher.train_cfg.max_epochs': 3,
        'teacher.snapshots.interval': 1, 'probe.held_out': 16, 'probe.decoder_epochs': 2,
        'student_alone': False, 'optim_wrapper.optimizer.lr': 0.02, 'generations': 2,
        'val_evaluator': [dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.KDMetric')],
        'test_evaluator': [dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.KDMetric')],
        'custom_hooks': [dict(type='ckd_mm.TrainAgreementHook')], 'distill.aggregation': 'loss'
    })
    config.heads = dict(out_indices=[0, 1], train_cfg=dict(max_epochs=2))
    config.model = resnet(1, **norm)
    config.teacher.model = resnet(2, **norm)
    for name, batch in (('one', 16), ('two', 8)):
        config.train_dataloader.batch_size = batch
        config.dump(folder / f'{name}.py')
    run_tool(sys.executable, 'tools/train.py', folder / 'one.py', '--work-dir', folder / 'one')
    done = run_tool('tools/dist_train.sh', folder / 'two.py', 2, '--work-dir', folder / 'two',
                    PORT=free_port())
    return folder / 'one', folder / 'two', done


def read(folder, name):
    return json.loads((folder / name).read_text())


def test_same_weights(both):
    one, two, _ = both
    for name in ('snapshots/epoch_1.pth', 'snapshots/epoch_3.pth', 'heads.pth', 'generation_1.pth',
                 'student.pth'):
        first, second = (torch.load(folder / name, weights_only=True)['state_dict'] for folder in (one, two))
        assert first.keys() == second.keys()
        for key in first:
            torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=1e-4, msg=f'{name}: {key}')


def test_same_plane_and_summary(both):
    one, two, _ = both
    for first, second in zip(
            read(one, 'information_plane.json')['points'], read(two, 'information_plane.json')['points']):
        assert first['epoch'] == second['epoch']
        assert first['information_y'] == pytest.approx(second['information_y'], abs=1 / 16)
        assert first['information_x'] == pytest.approx(second['information_x'], abs=1e-3)
    first, second = (read(folder, 'summary.json') for folder in (one, two))
    assert first['student']['accuracy_top1'] == pytest.approx(second['student']['accuracy_top1'], abs=1.0)
    for name, tolerance in (('kd/error', 1.0), ('kd/divergence', 1e-2)):
        assert first['student']['metrics'][name] == pytest.approx(second['student']['metrics'][name],
                                                                  abs=tolerance), name
    for members in zip(first['heads']['members'], second['heads']['members']):
        assert members[0]['accuracy_top1'] == pytest.approx(members[1]['accuracy_top1'], abs=1.0)
    trained = [[
        json.loads(line) for file in folder.glob('student/*/vis_data/scalars.json')
        for line in file.read_text().splitlines()
    ] for folder in (one, two)]
    for name in ('train/kd_error', 'train/kd_loss'):
        values = [[row[name] for row in rows if name in row] for rows in trained]
        assert len(values[0]) == 2 and values[0] == pytest.approx(values[1], rel=2e-2, abs=1.0), name


def test_the_probe_is_shared_and_nothing_is_written_twice(both):
    _, two, done = both
    output = done.stdout + done.stderr
    assert output.count('Stage probe: finished') == 1
    assert output.count('Report:') == 1
    # three snapshots on two processes take two rounds; one process would announce 1/3 and 2/3
    assert 'Probe: 2/3 snapshots' in output and 'Probe: 1/3 snapshots' not in output
    assert sorted(
        path.name for path in (two / 'snapshots').iterdir()) == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']
    assert len(list((two / 'teacher').glob('2*'))) == 1


def test_dist_test_evaluates_the_student(both):
    _, two, _ = both
    run_tool('tools/dist_test.sh', two.parent / 'two.py', two / 'student.pth', 2, '--work-dir',
             two.parent / 'test', '--out', two.parent / 'metrics.json', PORT=free_port())
    expected = read(two, 'summary.json')['student']['accuracy_top1']
    assert read(two.parent, 'metrics.json')['accuracy/top1'] == pytest.approx(expected, abs=1e-3)


def test_batch_norm_and_no_validation(tmp_path):
    """With BatchNorm each process has statistics of its own: what is reported should be the accuracy of what
    is written. Without validation nothing but the runner itself makes rank 1 wait for the last snapshot. The
    selector's short distillations take both processes, too."""
    config = Config.fromfile(ROOT / 'configs' / 'ckd' / 'demo_digits.py')
    config.merge_from_dict({
        'train_cfg.max_epochs': 2, 'teacher.train_cfg.max_epochs': 4, 'teacher.snapshots.interval': 2,
        'selector': 'short_probe', 'student_alone': False
    })
    config.probe = None
    config.dump(tmp_path / 'config.py')
    run_tool('tools/dist_train.sh', tmp_path / 'config.py', 2, '--work-dir', tmp_path / 'run',
             '--no-validate', PORT=free_port())
    summary = read(tmp_path / 'run', 'summary.json')
    assert summary['processes'] == 2 and summary['images_a_step'] == 64
    scores = read(tmp_path / 'run' / 'select', 'scores_short_probe.json')['rows']
    assert [row['epoch'] for row in scores] == [2, 4]
    assert summary['selection']['epochs'] == [max(scores, key=lambda row: row['score'])['epoch']]
    assert (tmp_path / 'run' / 'select' / 'epoch_2' / 'epoch_1.pth').exists()
    from ckd_mm.evaluation import evaluate
    from ckd_mm.teachers import SnapshotEnsemble
    for file, expected in (('student.pth', summary['student']), ('snapshots/epoch_4.pth',
                                                                 summary['teacher'])):
        found = evaluate(SnapshotEnsemble([tmp_path / 'run' / file]), config)
        assert found['accuracy/top1'] == pytest.approx(expected['accuracy_top1'], abs=1e-3), file
