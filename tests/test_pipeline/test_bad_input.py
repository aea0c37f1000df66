"""Every bad input is one clear error before anything is trained, and nothing already there is lost."""

import importlib.util
import json
import re
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ckd_mm.cli import load_config
from ckd_mm.compat import EnvironmentConflict
from ckd_mm.errors import CkdError, ConfigError, SnapshotError
from ckd_mm.pipeline.build import open_run, stage_of
from ckd_mm.stages.student import StudentStage
from ckd_mm.trajectory import Trajectory

from ..conftest import DEMO, ROOT, resnet, run_tool

SETTINGS = [
    (dict(distill=dict(tau=0)), r'distill.tau=0 should be a finite number, above 0'),
    (dict(distill=dict(tau=-4.0)), r'tau=-4.0'),
    (dict(distill=dict(kd_weight=-0.1)), r'distill.kd_weight=-0.1 should be a finite number, at least 0'),
    (dict(distill=dict(ce_weight=-1)), r'distill.ce_weight=-1'),
    (dict(distill=dict(aggregation='mean')), r"aggregation='mean' should be one of \('prob', 'logit', "
     r"'loss'\)"), (dict(distill=dict(teacher_weights=[1, -1])), r'teacher_weights=-1'),
    (dict(selector=dict(type='ensemble', kind='full', k=2), distill=dict(teacher_weights=[1, 2, 3])),
     r'distill.teacher_weights=\[1, 2, 3\] should be 2 numbers, one for each teacher'),
    (dict(distill=dict(teacher_weights=[1, 2])), r'distill.teacher_weights=\[1, 2\] should be 1 numbers?, '
     r'one for each teacher'),
    (dict(distill=dict(stop_epoch=3)), r'distill.stop_epoch=3 should be a whole number of epochs, 0 to 2'),
    (dict(distill=dict(alpha=0.9)), r"distill: unknown key 'alpha'; known are tau,"),
    (dict(heads=dict(out_indicies=[0])), r"heads: unknown key 'out_indicies'; did you mean 'out_indices'\? "
     r"Known are out_indices,"),
    (dict(selector='best'), r"selector: type='best' should be one of \['calibration', 'cmi', 'ensemble', "
     r"'epoch'"), (dict(selector=dict(type='epoch', epochs=[2, 7])),
     r'wants epochs \[2, 7\], but the trajectory has no snapshot at \[7\]; it has \[1, 2, 3\]'),
    (dict(distill=dict(fast_teachers='no')), r"distill: unknown key 'fast_teachers'; known are tau,"),
    (dict(selector=dict(type='even', k=0)), r'k=0 should be a whole number, at least 1'),
    (dict(selector=dict(type='even', n=2)), r'selector: even does not take these settings'),
    (dict(selector=dict(type='fraction', fraction=1.5)),
     r'fraction=1.5 should be a finite number, above 0, at most 1'),
    (dict(probe=None), r'probe=None, but the selector .* needs the information plane'),
    (dict(probe=dict(probe_split='train')), r"probe_split='train' should be one of"),
    (dict(probe=dict(decoder_epochs=0)), r'decoder_epochs=0'),
    (dict(probe=dict(depth=3)), r"probe: unknown key 'depth'; known are probe_split, held_out"),
    (dict(teacher=dict(snapshots=dict(interval=0))), r'interval=0'),
    (dict(teacher=dict(snapshots=dict(epochs=[9]))), r'asks for epoch 9, but the run ends after 3 epochs'),
    (dict(teacher=dict(snapshots=dict(interval=1, phases=2))), r'exactly one of interval, epochs, phases'),
    (dict(teacher=dict(model=None)), r'teacher.model is missing'),
    (dict(teacher=dict(nodel=resnet())), r"teacher: unknown key 'nodel'"),
    (dict(teacher=dict(model=resnet(2, classes=9))), r'teacher.model.head.num_classes=9 and '
     r'model.head.num_classes=10 should be equal'),
    (dict(teacher=dict(model=dict(type='ImageClassifier', backbone=dict(type='NoNet')))),
     r'the teacher network cannot be built'),
    (dict(heads=dict(out_indices=[0, 5])), r'out_indices=\[0, 5\].*0 to 1|out_indices=\[0, 5\].*\[0, 1\]'),
    (dict(heads=dict(out_indices=[])), r'heads.out_indices=\[\] should list at least one stage of the '
     r'teacher'), (dict(heads=dict(out_indices=[1, 1])), r'out_indices=\[1, 1\] names an output twice'),
    (dict(heads=dict(kind='pool')), r'heads: give either out_indices=\(...\), the stages .*, or file=..., '
     r'.*; not none of them'),
    (dict(heads=dict(out_indices=[0], file='heads.pth')), r'heads: give either out_indices=\(...\), .* or '
     r'file=..., .*; not both'), (dict(heads=dict(out_indices=[0], kind='conv')), r"kind='conv'"),
    (dict(heads=dict(out_indices=[0], use=['teacher', 1])), r"heads.use names 1, which is none of \[0, "
     r"'teacher'\]"),
    (dict(heads=dict(file='nowhere.pth')), r"heads.file='nowhere.pth' does not exist; name the heads.pth of "
     r"a run"), (dict(heads=dict(out_indices=[0]), selector=dict(type='even', k=2),
          probe=None), r"heads: they are mounted on one snapshot, but the selector .* chooses 2"),
    (dict(heads=dict(out_indices=[0, 1]), distill=dict(teacher_weights=[1, 1])),
     r'distill.teacher_weights=\[1, 1\] should be 3 numbers, one for each teacher'),
    (dict(generations=0), r'generations=0 should be a whole number, at least 1'),
    (dict(generations=-1), r'generations=-1 should be'),
    (dict(generations='2'), r"generations='2' should be a whole number"), (dict(generations=2,
          distill=dict(schedule=dict(type='ckd_mm.ProgressiveTeacherHook')), selector=dict(type='even', k=2),
          probe=None),
     r'ProgressiveTeacherHook walks along one trajectory; it cannot be combined with assistants or '
     r'generations'),
    (dict(assistants=dict(model=resnet())), r'assistants=.* should be a list of dict\(model='),
    (dict(assistants=[dict(train_cfg=dict(max_epochs=1))]), r'assistants\[0\].model is missing'),
    (dict(assistants=[dict(model=resnet(classes=9))]),
     r'assistant 1.model.head.num_classes=9 and model.head.num_classes=10 should be equal'),
    (dict(assistants=[dict(model=resnet(), train_cfg=dict(max_epochs=1))],
          distill=dict(stop_epoch=2)), r'assistant 1, 1 epochs: .*stop_epoch=2'),
    (dict(hint=dict(train_cfg=dict(max_epochs=1))), r'hint.distiller is missing'),
    (dict(heads=dict(out_indices=[0], train_cfg=dict(max_epochs=0))), r'heads.train_cfg.max_epochs=0 should '
     r'be a whole number, at least 1'),
    (dict(heads=dict(out_indices=[0], use=[0, 0])), r'heads.use=\[0, 0\] should name who teaches once each'),
    (dict(val_evaluator=dict(type='KDMetric')), r"val_evaluator: KDMetric cannot be built: .*; did you mean "
     r"ckd_mm.KDMetric\?"),
    (dict(val_evaluator=dict(type='ckd_mm.KDMetric', tau=-1)), r'val_evaluator: ckd_mm.KDMetric cannot be '
     r'built: .*tau=-1'),
    (dict(val_evaluator="[dict(type='Accuracy')]"), r'val_evaluator: .* should be a metric'),
    (dict(teacher=dict(val_evaluator=dict(type='Acuracy'))), r'teacher.val_evaluator: Acuracy cannot be '
     r'built'), (dict(student_alone=-2), r'student_alone=-2 should be a whole number, at least 0'),
    (dict(distill=dict(reduction='max')), r"distill.reduction='max' should be one of \('mean', 'sum'\)"),
    (dict(distill=dict(loss=dict(type='ckd_mm.DecoupledKDLoss'))),
     r'distill.tau=4.0 is a setting of the usual loss, and distill.loss names'),
    (dict(peer=dict(model=resnet())),
     r'^teacher, probe, selector: with `peer` the networks learn from each other.*; take them out, .* '
     r'teacher=None probe=None'),
    (dict(assistents=[]), r'assistents is no key of a distillation config; did you mean assistants'),
    (dict(head=dict(out_indices=(0, 1))), r'head is no key of a distillation config; did you mean heads\?'),
    (dict(teacher='r34.py'), r"^teacher='r34.py' should be a dict with keys of model, snapshots, trajectory"),
    (dict(teacher=dict(model='r34.py')), r"^teacher.model='r34.py' should be a dict: mmpretrain classifier; "
     r"or dict\(cfg_path=FILE, ...\)"),
    (dict(teacher=dict(train_cfg='60')), r"^teacher.train_cfg='60' should be a dict, say dict\(max_epochs="),
    (dict(train_cfg=None), r'^train_cfg.max_epochs is missing'),
    (dict(probe='test'), r"^probe='test' should be a dict with keys of probe_split"),
    (dict(distill='dkd'), r"^distill='dkd' should be a dict with keys of tau"),
    (dict(heads=(0, 1)), r'^heads=\(0, 1\) should be a dict with keys of out_indices'),
    (dict(hint='layer1'), r"^hint='layer1' should be a dict with keys of distiller"),
    (dict(assistants=['r26.py']), r"^assistants\[0\]='r26.py' should be a dict with keys of model"),
    (dict(selector=5), r"^selector=5 should be a str or a dict: name or config of a selector"),
]


@pytest.mark.parametrize('change, message', [
    (dict(distill=dict(kd_weight=0.9)), r'distill: with teacher=None nothing is distilled, .*; take it out, '
                                        r'.*--cfg-options distill=None'),
    (dict(selector='last', student_alone=True), r'selector, student_alone: with teacher=None nothing is '
                                                r'distilled'),
    (dict(peer=dict(mdoel=resnet())), r"peer: unknown key 'mdoel'; did you mean 'model'\? Known are model"),
    (dict(peer=dict(model=resnet(classes=9))), r'9'),
    (dict(peer=dict(model=resnet()), distill=dict(ce_weight=-1)), r'distill.ce_weight=-1'),
    (dict(peer=dict(model=resnet()), distill=dict(stop_epoch=1)), r"unknown key 'stop_epoch'; known are "
                                                                  r"tau, ce_weight, kd_weight"),
])
def test_settings_without_a_teacher(distil_run, change, message):
    config = distil_run()
    for key in ('probe', 'selector', 'distill'):
        config.pop(key)
    config.teacher = None
    for key, value in change.items():
        config[key] = value
    with pytest.raises(ConfigError, match=message):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth')), 'nothing should be trained'


def test_a_loss_of_labels_and_mixed_images(distil_run):
    config = distil_run(selector='last', probe=None)
    config.model.train_cfg = dict(augments=dict(type='Mixup', alpha=0.8))
    config.distill = dict(loss=dict(type='ckd_mm.DecoupledKDLoss'), ce_weight=1.0, kd_weight=1.0)
    with pytest.raises(ConfigError, match=r'distill.loss=ckd_mm.DecoupledKDLoss needs one label an image, '
                                          r'but the student is trained on'):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth')), 'nothing should be trained'


def test_a_missing_config_file(tool):
    for name in ('train.py', 'doctor.py'):
        status, _, error = tool(name, 'configs/dih/nothing.py')
        assert status == 1 and 'error: config configs/dih/nothing.py does not exist' in error


def test_attention_transfer_between_maps_of_different_sizes(distil_run):
    mapping = {
        f'{who[0]}_feature': dict(from_student=who == 'student', recorder='map')
        for who in ('student', 'teacher')
    }
    distiller = dict(
        type='mmrazor.ConfigurableDistiller',
        student_recorders=dict(map=dict(type='ModuleOutputs', source='backbone.layer1')),
        teacher_recorders=dict(map=dict(type='ModuleOutputs', source='networks.0.backbone.layer2')),
        distill_losses=dict(loss_at=dict(type='ATLoss', loss_weight=1000.0)),
        loss_forward_mappings=dict(loss_at=mapping))
    config = distil_run(selector='last', probe=None)
    config.distill.distiller = distiller
    with pytest.raises(ConfigError, match=r'distill.distiller.*loss_at.*layer1.*8x8.*layer2.*4x4'):
        RUNNERS.build(config).train()
    # teacher and first generation fit, the second generation finds no such layer in the first
    config.distill.distiller.teacher_recorders.map.source = 'networks.0.backbone.layer2'
    config.distill.distiller.student_recorders.map.source = 'backbone.layer1'
    config.model, config.generations = resnet(1, deep_stem=False), 2
    config.model.backbone.strides = (2, )
    with pytest.raises(ConfigError, match=r'networks.0.backbone.layer2'):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth')), 'nothing should be trained'


def test_heads_of_another_teacher(distil_run, tmp_path):
    first, second = (distil_run(selector='last', probe=None, work_dir=str(tmp_path / name),
                                **{'randomness.seed': seed}) for name, seed in (('first', 1), ('second', 2)))
    first.heads = dict(out_indices=[0], train_cfg=dict(max_epochs=1))
    for config in (first, second):
        RUNNERS.build(config).train()
    third = distil_run(selector='last', probe=None, work_dir=str(tmp_path / 'third'))
    third.teacher, third.heads = dict(trajectory=str(tmp_path / 'second')), dict(file=str(tmp_path / 'first' /
                                                                                          'heads.pth'))
    with pytest.raises(SnapshotError, match=r'heads .*first/heads.pth were trained on the weights of '
                                            r'.*epoch 3.*, the teacher .*second'):
        RUNNERS.build(third).train()
    assert not list((tmp_path / 'third').rglob('*.pth')), 'nothing should be trained'


@pytest.mark.parametrize('change, message', SETTINGS)
def test_settings(distil_run, change, message):
    config = distil_run()
    for key, value in change.items():
        config[key] = {
            **config.get(key, {}), **value
        } if isinstance(value, dict) and key not in ('selector', 'val_evaluator') else value
    with pytest.raises(ConfigError, match=message):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth')), 'nothing should be trained'


@pytest.fixture
def given(digits_run, distil_run, tmp_path):
    """A config whose teacher is a trajectory on disk, made by SnapshotHook."""
    made = digits_run(epochs=2, work_dir=tmp_path / 'made', model=resnet(2),
                      custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)])
    Runner.from_cfg(made).train()
    config = distil_run(selector='last')
    config.teacher, config.probe = dict(trajectory=str(tmp_path / 'made')), None
    return config, tmp_path / 'made'


def change_manifest(folder, **changes):
    manifest = json.loads((folder / 'trajectory.json').read_text())
    manifest.update(changes)
    (folder / 'trajectory.json').write_text(json.dumps(manifest))


def missing(config, folder):
    (folder / 'snapshots' / 'epoch_1.pth').unlink()


def truncated(config, folder):
    file = folder / 'snapshots' / 'epoch_2.pth'
    file.write_bytes(file.read_bytes()[:-100])


def flipped(config, folder):
    file = folder / 'snapshots' / 'epoch_2.pth'
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def manifest(**changes):
    return lambda config, folder: change_manifest(folder, **changes)


def settings(**changes):
    return lambda config, folder: config.update(changes)


def no_json(config, folder):
    (folder / 'trajectory.json').write_text('{"format": ')


def another_accuracy(config, folder):
    """Wrong input statistics would look like this."""
    snapshots = json.loads((folder / 'trajectory.json').read_text())['snapshots']
    snapshots[-1]['metrics']['accuracy/top1'] = 100.0
    change_manifest(folder, snapshots=snapshots)


@pytest.mark.parametrize('damage, error, message', [
    (missing, SnapshotError, r'epoch_1.pth \(epoch 1\) does not exist'),
    (truncated, SnapshotError, r'epoch_2.pth \(epoch 2\) is damaged: [\d,]+ bytes where'),
    (flipped, SnapshotError, r'epoch_2.pth \(epoch 2\) is damaged: its SHA-256'),
    (manifest(model=resnet(3)), SnapshotError, r'is not of the network type=ImageClassifier'),
    (manifest(classes=list('1023456789')), ConfigError,
     r"the same classes in another order: class 0 is '1' for "
     r"the teacher .* and '0' for the student"),
    (manifest(classes=list('abcdefghij')), ConfigError, r"other classes: class 0 is 'a' for the teacher"),
    (manifest(snapshots=[]), SnapshotError, r'trajectory at .* is empty'),
    (no_json, CkdError, r'cannot be read as JSON'),
    (another_accuracy, SnapshotError,
     r'% of 100 validation images rightly, but its manifest records 100.0 %'),
    (settings(teacher=dict(trajectory='nowhere')), SnapshotError, 'no trajectory at .*nowhere'),
    (settings(selector=dict(type='epoch', epochs=5)), ConfigError,
     r'no snapshot at \[5\]; it has \[1, 2\]'),
    (settings(model=resnet(classes=12)), ConfigError, 'num_classes=12'),
])
def test_given_trajectory(given, damage, error, message):
    config, folder = given
    damage(config, folder)
    with pytest.raises(error, match=message):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth')), 'nothing should be trained'


def test_snapshot_damaged_between_the_stages(distil_run, monkeypatch):
    """The teacher is trained and selected; before the student starts its snapshot is damaged. Nothing
    computed is lost, and
    with the file restored the run goes on."""
    config = distil_run(selector='last', probe=None)
    config.probe = None
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StudentStage, 'execute', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        RUNNERS.build(config).train()
    snapshot = Trajectory.open(config.work_dir).last
    whole = snapshot.file.read_bytes()
    snapshot.file.write_bytes(whole[:-9])
    config.resume = True
    with pytest.raises(SnapshotError, match='is damaged'):
        RUNNERS.build(config).train()
    snapshot.file.write_bytes(whole)
    assert RUNNERS.build(config).train()['selection']['epochs'] == [3]


def test_mmrazor_named_where_it_is_missing(distil_run, monkeypatch):
    config = distil_run()
    config.distill.distiller = dict(type='mmrazor.ConfigurableDistiller')
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'mmrazor' else real(name))
    with pytest.raises(EnvironmentConflict, match='distiller=mmrazor.ConfigurableDistiller needs '
                                                         'mmrazor, which is not installed'):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth'))


@pytest.mark.parametrize('kind', ['AmpOptimWrapper', AmpOptimWrapper])
def test_mixed_precision_without_a_gpu(distil_run, kind):
    if torch.cuda.is_available():
        pytest.skip('this machine has a GPU')
    config = distil_run()
    config.optim_wrapper.type = kind
    with pytest.raises(ConfigError, match="optim_wrapper.type='AmpOptimWrapper' .--amp.: mmengine's mixed "
                                          "precision needs an accelerator"):
        RUNNERS.build(config).train()


def test_command_line_prints_one_line_and_fails(tmp_path):
    done = run_tool(sys.executable, 'tools/train.py', DEMO, '--work-dir', tmp_path / 'run',
                    '--cfg-options', 'distill.tau=0', check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == 'error: distill.tau=0 should be a finite number, above 0'
    assert 'Traceback' not in done.stderr


def test_helper_variables_of_a_config_are_its_own(distil_run):
    config = distil_run(selector='last', probe=None)
    config.head = dict(type='LinearClsHead', num_classes=10)
    run, _ = open_run(config)
    assert run.settings.heads is None


NO_PROBE = f'_base_ = "{DEMO}"\nprobe = None\nselector = "last"\n'


@pytest.mark.parametrize('derived, options', [('probe = dict(held_out=16)\n', []),
                                              ('', ['--cfg-options', 'probe.held_out=16'])])
def test_a_probe_over_an_inherited_none(tool, tmp_path, derived, options):
    """One line says how to write it, and so written it is what was meant."""
    (tmp_path / 'base.py').write_text(NO_PROBE)
    file = tmp_path / 'derived.py'
    file.write_text(f'_base_ = "{tmp_path / "base.py"}"\n{derived}')
    status, _, error = tool('doctor.py', file, '--work-dir', tmp_path / 'run', *options)
    assert status == 1
    assert re.fullmatch(r"error: probe=\{'held_out': 16\} .* is of type <class 'NoneType'> in base "
                        r"config\. You may set `_delete_=True` .* --cfg-options KEY\._delete_=True .*",
                        error.strip().splitlines()[-1])
    file.write_text(file.read_text().replace('dict(', 'dict(_delete_=True, '))
    args = Namespace(config=str(file), work_dir=str(tmp_path), cfg_options=None)
    if options:
        args.cfg_options = {'probe._delete_': True, 'probe.held_out': 16}
    _, stages = open_run(load_config(args))
    assert stage_of(stages, 'select').probe.held_out == 16


def vision_transformer() -> dict:
    return dict(type='ImageClassifier', backbone=dict(type='VisionTransformer', img_size=8, patch_size=4,
                              arch=dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16)),
                neck=None, head=dict(type='VisionTransformerClsHead', num_classes=10, in_channels=8,
                          loss=dict(type='CrossEntropyLoss')))


def test_a_teacher_without_maps_is_refused_before_it_is_trained(distil_run):
    config = distil_run()
    config.teacher.model = vision_transformer()
    with pytest.raises(ConfigError, match='last output of VisionTransformer is no feature map'):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth'))
    config.selector, config.probe = 'last', None  # logits can be distilled from it all the same
    assert RUNNERS.build(config).train()['cohort']['size'] == 1


def test_a_head_that_does_not_fit_is_refused_before_anything_is_trained(distil_run):
    config = distil_run()
    config.teacher.model.head.in_channels = 99
    with pytest.raises(ConfigError, match='the teacher network fails on two images of the test set'):
        RUNNERS.build(config).train()


def test_data_sets_that_cannot_be_built_lazily(distil_run):
    config = distil_run()
    config.train_dataloader.dataset = dict(type='KFoldDataset', num_splits=2,
                                           dataset=config.train_dataloader.dataset)
    config.probe, config.selector = None, 'last'
    assert RUNNERS.build(config).train()['student']['epoch'] == 2


@pytest.mark.parametrize('place, hook', [('top', 'ckd_mm.InfoPlaneHook'), ('top', 'ckd_mm.SnapshotHook'),
                                         ('teacher', 'ckd_mm.SnapshotHook')])
def test_hooks_that_the_stages_bring_themselves(distil_run, place, hook):
    config = distil_run()
    (config if place == 'top' else config.teacher).custom_hooks = [dict(type=hook, interval=1)]
    with pytest.raises(ConfigError, match=f'custom_hooks: {hook.split(".")[1]} stands for what'):
        RUNNERS.build(config).train()


def test_a_loss_that_is_no_number_stops_the_run(distil_run):
    config = distil_run()
    config.optim_wrapper.optimizer.lr = 1e30
    config.train_cfg.max_epochs = config.teacher.train_cfg.max_epochs = 30
    with pytest.raises(CkdError, match='the loss is (nan|inf) in iteration'):
        RUNNERS.build(config).train()


def test_a_diverged_snapshot_is_named(digits_run, tmp_path):
    from ckd_mm.infoplane.probe import Probe, probe_trajectory
    config = digits_run(epochs=2, model=resnet(2),
                        custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)])
    runner = Runner.from_cfg(config)
    runner.train()
    from ckd_mm.trajectory import write_snapshot
    trajectory = Trajectory.open(tmp_path / 'run')
    broken = {
        key: value * float('nan') if value.is_floating_point() else value
        for key, value in runner.model.state_dict().items()
    }
    trajectory.add(
        write_snapshot(trajectory.last.file, broken, epoch=2, iteration=8, lr=None,
                       model=trajectory.info['model'], classes=None))
    with pytest.raises(CkdError, match='snapshot of epoch 2 is not finite'):
        probe_trajectory(trajectory, Probe(config, probe_split='test', decoder_epochs=1),
                         tmp_path / 'plane.json')


@pytest.mark.parametrize('only_the_student', [False, True])
def test_training_images_that_are_not_there(distil_run, tmp_path, only_the_student):
    """The student's are needed only after the teacher is trained, and asked for before."""
    config = distil_run()
    if only_the_student:
        config.teacher.train_dataloader = dict(dataset=dict(config.train_dataloader.dataset))
        config.probe, config.selector = None, 'last'
    config.train_dataloader.dataset = dict(type='CustomDataset', data_root=str(tmp_path / 'nowhere'),
                                           data_prefix='train', pipeline=[dict(type='LoadImageFromFile'),
                                                     dict(type='PackInputs')])
    if only_the_student:
        config.teacher.train_dataloader.dataset['_delete_'] = True
    with pytest.raises(ConfigError, match=r'train_dataloader.dataset cannot be read: FileNotFoundError: '
                                          r'.*nowhere'):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth'))


def test_mistyped_key(distil_run):
    config = distil_run()
    config.seletor = 'last'
    with pytest.raises(ConfigError,
                       match='seletor is no key of a distillation config; did you mean selector'):
        RUNNERS.build(config).train()


@pytest.mark.parametrize('probe', ['', 'probe = None\nselector = "last"\n'])
@pytest.mark.parametrize('name', ['train_dataloader', 'test_dataloader'])
def test_another_data_set_where_one_in_memory_is_inherited(tmp_path, name, probe):
    """The message says how to write it; and so written, it is what was meant."""
    base = (f'_base_ = "{ROOT}/configs/ckd/r34_r18_cifar10.py"\nwork_dir = "{tmp_path}"\n{probe}'
            f'{name} = dict(dataset=')

    def derived(dataset: str) -> Config:
        (tmp_path / 'derived.py').write_text(f'{base}{dataset})')
        return Config.fromfile(tmp_path / 'derived.py')

    with pytest.raises(ConfigError, match=rf"{name}.dataset: CIFAR100 takes no `dataset`, but inherits that "
                                          r"of ckd_mm.InMemory, of type "
                       r"CIFAR10. Write dataset=dict\(dataset=dict\(type='CIFAR100', ...\)\) .* or "
                       r"dataset=dict\(_delete_=True"):
        open_run(derived('dict(type="CIFAR100", data_root="data/cifar100")'))
    for right in ('dict(dataset=dict(type="CIFAR100", data_root="d"))', 'dict(_delete_=True, '
                                                                        'type="CIFAR100", data_root="d", '
                                                                        'pipeline=[])'):
        dataset = open_run(derived(right))[0].config[name].dataset
        innermost = dataset.get('dataset', dataset)
        assert (innermost.type, innermost.data_root) == ('CIFAR100', 'd')
