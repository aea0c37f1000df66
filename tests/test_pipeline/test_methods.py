"""Whole runs of the methods beside a checkpoint that teaches: heads, generations, assistants, hints, mutual
learning, no teacher."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from sklearn.datasets import load_digits

from ckd_mm.errors import SnapshotError
from ckd_mm.stages.student import StudentStage
from ckd_mm.teachers import DIHTeacher
from ckd_mm.trajectory import Trajectory

from ..conftest import resnet
from ..helpers import opened, with_statistics


@pytest.fixture
def distil_run(distil_run, tmp_path):
    """With a work_dir of its own name: mmengine mixes up the logs of runs of one name that start in the same
    second."""
    return lambda **settings: distil_run(**{'work_dir': str(tmp_path / tmp_path.name), **settings})


@pytest.fixture
def run(distil_run):
    """Runs the whole method on a few digits: by default the last teacher teaches."""

    def make(**settings):
        config = distil_run(**{'selector': 'last', 'probe': None, **settings})
        return Path(config.work_dir), RUNNERS.build(config).train()

    return make


def test_images() -> tuple:
    """Inputs and labels of the test images of the fixtures, straight from scikit-learn."""
    digits = load_digits()
    images = torch.from_numpy(digits.images[1297:1397]).float().mul(255 / 16).round()
    return ((images - 77.9) / 95.9)[:, None].expand(-1, 3, -1, -1), torch.from_numpy(digits.target[1297:1397])


test_images.__test__ = False  # a helper, whatever its name says


def logits_of(file: Path, model: dict = None) -> torch.Tensor:
    """Of a published student on the test images, by a network built here."""
    network = MODELS.build(with_statistics(model or resnet()))
    network.load_state_dict(torch.load(file, weights_only=True)['state_dict'], strict=True)
    with torch.no_grad():
        return network.eval()(test_images()[0])


def accuracy(scores: torch.Tensor) -> float:
    return 100 * (scores.argmax(1) == test_images()[1]).float().mean().item()


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def stages(work_dir: Path) -> dict:
    return json.loads((work_dir / 'stages.json').read_text())


# ------------------------------------------------------------ DIH
def test_heads_are_trained_evaluated_and_teach(run):
    distill = dict(tau=5.0, aggregation='loss', ce_weight=0.9, kd_weight=0.1)
    work_dir, summary = run(heads=dict(out_indices=(0, 1), kind='flatten', train_cfg=dict(max_epochs=2)),
                            distill=distill)
    assert list(summary['seconds']) == ['teacher', 'select', 'heads', 'student']
    cohort = DIHTeacher(dict(trajectory=str(work_dir), epoch=3), work_dir / 'heads.pth')
    with torch.no_grad():
        logits = cohort(test_images()[0])
    assert [member['name'] for member in summary['heads']['members']] == ['head 0', 'head 1', 'teacher']
    for member, found in zip(summary['heads']['members'], logits):
        assert member['accuracy_top1'] == pytest.approx(accuracy(found), abs=1e-3)
    assert summary['heads']['members'][2]['accuracy_top1'] == summary['teacher']['accuracy_top1']
    assert summary['cohort']['accuracy_top1'] == pytest.approx(accuracy(logits.softmax(2).mean(0)), abs=1e-3)
    assert summary['cost']['head_epochs'] == 2 and summary['cost']['total_epochs'] == 3 + 2 + 2

    # who taught, as the student's stage was configured
    settings = stages(work_dir)['student']['settings']
    assert settings['teachers.1.heads'] == sha256(work_dir / 'heads.pth')
    assert settings['model.kd_loss.aggregation'] == 'loss'
    page = (work_dir / 'report.html').read_text()
    assert 'head 0' in page and 'epoch 3: head 0, head 1, teacher' in page


def test_heads_that_exist_teach_again(run, distil_run, tmp_path):
    work_dir, _ = run(heads=dict(out_indices=(0, 1), train_cfg=dict(max_epochs=1)))
    config = distil_run(selector='last', probe=None, work_dir=str(tmp_path / 'second'))
    config.heads = dict(out_indices=None, kind='flatten', file=str(work_dir / 'heads.pth'), use=[0])
    config.teacher = dict(trajectory=str(work_dir))
    summary = RUNNERS.build(config).train()
    assert [member['name'] for member in summary['heads']['members']] == ['head 0']
    assert not list((tmp_path / 'second').rglob('heads.pth')) and 'head_epochs' not in summary['cost']


# ------------------------------------------------------------ one learns from the other
def test_generations_and_their_ensemble(run):
    work_dir, summary = run(generations=3, student_alone=2)
    assert list(summary['seconds']) == [
        'teacher', 'select', 'generation_1', 'generation_2', 'student', 'student_alone', 'student_alone_2',
        'ensembles'
    ]
    files = [work_dir / name for name in ('generation_1.pth', 'generation_2.pth', 'student.pth')]
    logits = [logits_of(file) for file in files]
    assert [link['name'] for link in summary['links']] == ['generation 1', 'generation 2']
    assert [link['accuracy_top1']
            for link in summary['links']] + [summary['student']['accuracy_top1']] == pytest.approx(
                [accuracy(found) for found in logits], abs=1e-3)
    teacher = logits_of(work_dir / 'snapshots' / 'epoch_3.pth', resnet(2))
    ensembles = summary['ensembles']
    mean = torch.stack([found.softmax(1) for found in logits])
    assert ensembles['generations']['accuracy_top1'] == pytest.approx(accuracy(mean.mean(0)), abs=1e-3)
    assert ensembles['generations and teacher']['accuracy_top1'] == pytest.approx(
        accuracy(mean.sum(0) + teacher.softmax(1)), abs=1e-3)
    alone = torch.stack(
        [logits_of(work_dir / f'{name}.pth').softmax(1) for name in ('student_alone', 'student_alone_2')])
    assert ensembles['students alone'] == dict(size=2,
                                               accuracy_top1=pytest.approx(accuracy(alone.mean(0)), abs=1e-3),
                                               metrics=ensembles['students alone']['metrics'])
    measured = [student['accuracy_top1'] for student in summary['students_alone']]
    assert measured == pytest.approx([accuracy(found) for found in alone], abs=1e-3)
    settings = {stage: record['settings'] for stage, record in stages(work_dir).items()}
    seeds = [
        settings[stage]['randomness.seed'] for stage in summary['seconds']
        if stage not in ('select', 'ensembles')
    ]
    assert seeds == [3, 4, 5, 6, 3, 4]
    teachers = [settings[stage]['teachers.0.sha256'] for stage in ('generation_2', 'student')]
    assert teachers == [sha256(file) for file in files[:2]]
    assert summary['cost']['student_epochs'] == 6 and summary['cost']['students'] == 3


def test_a_generation_learns_from_the_one_before(run):
    """Cross-entropy weighs nothing, so with the labels the student could learn nothing: it ends nearer to its
    teacher than to others."""
    work_dir, _ = run(generations=2, distill=dict(tau=1.0, ce_weight=0.0, kd_weight=1.0),
                      **{'train_cfg.max_epochs': 8})
    teacher = F.log_softmax(logits_of(work_dir / 'snapshots' / 'epoch_3.pth', resnet(2)), 1)
    first, second = (F.log_softmax(logits_of(work_dir / name), 1)
                     for name in ('generation_1.pth', 'student.pth'))
    distance = [
        F.kl_div(second, other, log_target=True, reduction='batchmean').item() for other in (first, teacher)
    ]
    assert distance[0] < distance[1]


def test_assistants_come_between(run):
    assistant = dict(model=resnet(2, channels=3), train_cfg=dict(max_epochs=1))
    work_dir, summary = run(assistants=[assistant])
    assert list(summary['seconds']) == ['teacher', 'select', 'assistant_1', 'student']
    assert [link['name']
            for link in summary['links']] == ['assistant 1'] and summary['links'][0]['epoch'] == 1
    found = logits_of(work_dir / 'assistant_1.pth', resnet(2, channels=3))
    assert summary['links'][0]['accuracy_top1'] == pytest.approx(accuracy(found), abs=1e-3)
    settings = stages(work_dir)['student']['settings']
    assert settings['teachers.0.sha256'] == sha256(work_dir / 'assistant_1.pth')
    assert 'more than the' not in (work_dir / 'ckd_mm.log').read_text()


def test_an_assistant_larger_than_its_teacher_is_warned_of(run):
    work_dir, _ = run(assistants=[dict(model=resnet(3, channels=8), train_cfg=dict(max_epochs=1))],
                      **{'train_cfg.max_epochs': 1})
    log = (work_dir / 'ckd_mm.log').read_text()
    assert 'WARNING' in log and 'assistant 1 has' in log
    assert 'more than the teacher that it learns from' in log


def test_networks_of_one_kind_begin_with_weights_of_their_own(distil_run):
    config = distil_run(selector='last', probe=None, generations=2, student_alone=True)
    config.teacher.model = config.model
    config.assistants = [
        dict(model=config.model), dict(model=config.model), dict(model=config.model, randomness=dict(seed=77))
    ]
    run, stages = opened(config)
    seeds = {name: stage.config(run).randomness.seed for name, stage in stages.items()
             if hasattr(stage, 'config')}
    assert seeds == dict(teacher=1003, assistant_1=103, assistant_2=203, assistant_3=77, generation_1=4,
                         student=5, student_alone=3)


class Broken(Exception):
    """The process died."""


def test_resumed_past_the_stop_without_its_teacher(distil_run, monkeypatch):
    """The missing file is named."""
    config = distil_run(selector='last', probe=None)
    config.distill.stop_epoch = 1
    with monkeypatch.context() as patch, pytest.raises(Broken):
        patch.setattr(StudentStage, 'finish', lambda *_: (_ for _ in ()).throw(Broken))
        RUNNERS.build(config).train()
    (Path(config.work_dir) / 'snapshots' / 'epoch_3.pth').unlink()
    config.resume = True
    with pytest.raises(SnapshotError, match=r'epoch_3.pth \(epoch 3\) does not exist'):
        RUNNERS.build(config).train()


@pytest.mark.parametrize('stage, trained', [('heads', 0), ('generation_1', 0), ('generation_2', 1),
                                            ('student', 2)])
def test_resumed_at_any_link(distil_run, tmp_path, monkeypatch, stage, trained):
    """A run that dies in the second epoch of a stage and is resumed ends like an unbroken one, and repeats
    nothing."""
    from ckd_mm.pipeline.stage_runner import StageRunner
    settings = dict(selector='last', probe=None, generations=3,
                    heads=dict(out_indices=(0, 1), train_cfg=dict(max_epochs=2)))
    unbroken, broken = (distil_run(**settings, work_dir=str(tmp_path / name))
                        for name in ('unbroken', 'broken'))
    RUNNERS.build(unbroken).train()
    call, started = StageRunner.call_hook, []

    def dies(self, name, **arguments):
        call(self, name, **arguments)
        if name == 'before_train':
            started.append((Path(self.work_dir).name, self.epoch))
        if name == 'after_train_iter' and Path(
                self.work_dir).name == stage and self.epoch == 1 and 'dead' not in started:
            started.append('dead')
            raise Broken

    monkeypatch.setattr(StageRunner, 'call_hook', dies)
    with pytest.raises(Broken):
        RUNNERS.build(broken).train()
    before = started.index('dead')
    again = distil_run(**settings, work_dir=str(tmp_path / 'broken'), resume=True)
    RUNNERS.build(again).train()
    links = ['generation_1', 'generation_2', 'student']
    left = [(stage, 1)] + [(name, 0) for name in (links if stage == 'heads' else links[trained + 1:])]
    assert started[before + 1:] == left
    for name in ('heads.pth', 'generation_1.pth', 'generation_2.pth', 'student.pth'):
        expected, found = (torch.load(tmp_path / folder / name, weights_only=True)['state_dict']
                           for folder in ('unbroken', 'broken'))
        assert expected.keys() == found.keys() and all(
            torch.equal(expected[key], found[key]) for key in expected), name


# ------------------------------------------------------------ FitNets
HINT = dict(
    type='mmrazor.ConfigurableDistiller',
    student_recorders=dict(guided=dict(type='ModuleOutputs', source='backbone.layer1')),
    teacher_recorders=dict(hint=dict(type='ModuleOutputs', source='networks.0.backbone.layer1')),
    distill_losses=dict(loss_hint=dict(type='L2Loss', normalize=False, div_element=True)), connectors=dict(
        regressor=dict(type='ConvModuleConnector', in_channel=4, out_channel=4, norm_cfg=None, act_cfg=None)),
    loss_forward_mappings=dict(
        loss_hint=dict(s_feature=dict(from_student=True, recorder='guided', connector='regressor'),
                       t_feature=dict(from_student=False, recorder='hint'))))


def test_a_student_begins_with_what_hints_taught_it(run):
    work_dir, summary = run(hint=dict(distiller=HINT, train_cfg=dict(max_epochs=3)),
                            **{'optim_wrapper.optimizer.lr': 1e-12})
    assert list(summary['seconds']) == ['teacher', 'select', 'hint', 'student']
    hint, student = (torch.load(work_dir / name, weights_only=True)['state_dict']
                     for name in ('hint.pth', 'student.pth'))
    torch.manual_seed(3)
    assert hint.keys() == student.keys()
    # with a learning rate of nearly 0 neither stage moves a weight, so the student has those of the hint
    # stage
    assert all(
        torch.allclose(hint[key], student[key], atol=1e-7) for key in hint
        if 'running' not in key and 'num_batches' not in key)
    assert summary['cost']['student_epochs'] == 3 + 2


def test_hints_teach_the_guided_layer_only(run):
    """After the hint stage the layers up to the guided one have moved, those behind it have not."""
    work_dir, _ = run(hint=dict(distiller=HINT, train_cfg=dict(max_epochs=2)), model=resnet(2),
                      **{'train_cfg.max_epochs': 1})
    first = torch.load(next((work_dir / 'hint').glob('epoch_1.pth')), weights_only=False)['state_dict']
    last = torch.load(work_dir / 'hint.pth', weights_only=True)['state_dict']
    moved = {key for key in last if not torch.equal(first[key], last[key])}
    assert {'backbone.conv1.weight', 'backbone.layer1.0.conv1.weight'} <= moved
    assert not {key for key in moved if key.startswith(('backbone.layer2', 'head'))}


# ------------------------------------------------------------ no teacher
def test_mutual_learning(distil_run):
    config = distil_run(distill=dict(tau=1.0))
    for key in ('teacher', 'probe', 'selector'):
        config.pop(key)
    config.distill = dict(tau=1.0)
    config.peer = dict(model=resnet(2))
    config.student_alone = True
    work_dir, summary = Path(config.work_dir), RUNNERS.build(config).train()
    assert list(summary['seconds']) == ['student', 'student_alone']
    assert summary['student']['accuracy_top1'] == pytest.approx(accuracy(logits_of(work_dir / 'student.pth')),
                                                                abs=1e-3)
    assert summary['peer']['accuracy_top1'] == pytest.approx(accuracy(
        logits_of(work_dir / 'peer.pth', resnet(2))), abs=1e-3)
    rows = [
        json.loads(line) for file in work_dir.glob('student/*/vis_data/scalars.json')
        for line in file.read_text().splitlines()
    ]
    validated = [row for row in rows if 'peer/top1' in row]
    assert [row['step'] for row in validated] == [1, 2]
    assert validated[-1]['peer/top1'] == pytest.approx(summary['peer']['accuracy_top1'], abs=1e-3)
    assert validated[-1]['accuracy/top1'] == pytest.approx(summary['student']['accuracy_top1'], abs=1e-3)


def test_the_peer_is_validated_under_names_of_its_own(distil_run):
    metrics = [dict(type='Accuracy', prefix='own'), dict(type='Accuracy', topk=(5, ))]
    config = distil_run(val_evaluator=metrics, teacher=None)
    for key in ('probe', 'selector', 'distill'):
        config.pop(key)
    config.teacher, config.peer = None, dict(model=resnet(2))
    RUNNERS.build(config).train()
    rows = [json.loads(line) for file in Path(config.work_dir).glob('student/*/vis_data/scalars.json')
            for line in file.read_text().splitlines()]
    assert {key
            for row in rows
            for key in row if 'top' in key} == {'own/top1', 'accuracy/top5', 'peer_own/top1', 'peer/top5'}


def test_without_a_teacher_it_is_plain_mmpretrain_training(distil_run, digits_run, tmp_path):
    config = distil_run(teacher=None)
    for key in ('probe', 'selector', 'distill'):
        config.pop(key)
    config.teacher = None
    summary = RUNNERS.build(config).train()
    found = torch.load(Path(config.work_dir) / 'student.pth', weights_only=True)['state_dict']
    plain = Runner.from_cfg(digits_run(epochs=2, work_dir=tmp_path / 'plain'))
    plain.train()
    expected = plain.model.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    assert set(summary) >= {'student', 'seconds', 'config'} and 'teacher' not in summary
    page = (Path(config.work_dir) / 'report.html').read_text()
    assert 'no teacher, after epoch 2' in page and page.count('<svg') == 1


# ------------------------------------------------------------ KD error
def test_kd_error_of_every_student_that_is_taught(run, distil_run):
    metrics = [dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.KDMetric', tau=4.0)]
    work_dir, summary = run(val_evaluator=metrics, test_evaluator=metrics, generations=2, student_alone=True)
    teachers = dict(generation_1=(work_dir / 'snapshots' / 'epoch_3.pth', resnet(2)),
                    student=(work_dir / 'generation_1.pth', resnet()))
    found = dict(generation_1=summary['links'][0]['metrics'], student=summary['student']['metrics'])
    for name, (file, model) in teachers.items():
        student, teacher = logits_of(work_dir / f'{name}.pth'), logits_of(file, model)
        assert found[name]['kd/error'] == pytest.approx(
            100 * (student.argmax(1) != teacher.argmax(1)).float().mean().item(), abs=1e-3)
        rows = [
            json.loads(line) for log in work_dir.glob(f'{name}/*/vis_data/scalars.json')
            for line in log.read_text().splitlines()
        ]
        assert [row['kd/error'] for row in rows if 'kd/error' in row][-1] == pytest.approx(
            found[name]['kd/error'], abs=1e-3)
    page = (work_dir / 'report.html').read_text()
    errors = {name: f'{metrics["kd/error"]:.2f} %' for name, metrics in found.items()}
    assert f'generation 1 {errors["generation_1"]}, student {errors["student"]}' in page
    assert 'kd/error' not in summary['student_alone']['metrics'] and 'kd/error' not in summary['teacher'][
        'metrics']
    assert Trajectory.open(work_dir).last.metrics.keys() == {'accuracy/top1'}


# ------------------------------------------------------------ the loss
def test_another_loss_of_logits(distil_run):
    """With one teacher, target and non-target weights of DKD that change nothing else than the loss's name in
    the log."""
    config = distil_run(selector='last', probe=None)
    config.distill = dict(loss=dict(type='ckd_mm.DecoupledKDLoss', tau=4.0), ce_weight=1.0, kd_weight=1.0,
                          reduction='sum')
    RUNNERS.build(config).train()
    settings = stages(Path(config.work_dir))['student']['settings']
    assert settings['model.kd_loss.type'] == 'ckd_mm.DecoupledKDLoss' and settings['model.reduction'] == 'sum'
    log = next(Path(config.work_dir).glob('student/*/vis_data/scalars.json')).read_text().splitlines()
    assert all(json.loads(line)['loss_kd'] > 0 for line in log if 'loss_kd' in line) and any('loss_kd' in line
                                                                                             for line in log)
