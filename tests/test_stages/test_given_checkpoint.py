"""Teachers that somebody else has trained: single files."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.pipeline.model_files import resolve_model_files
from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import STATISTICS, resnet
from ..helpers import (
    accuracy,
    assert_same_weights,
    digits,
    network,
    train,
    trajectory,
    vision_transformer,
    weights_of,
    with_statistics,
)

TEACHER = with_statistics(resnet(2))


def summary_of(config) -> dict:
    return json.loads(Path(config.work_dir, 'summary.json').read_text())


def taught(config, **teacher) -> dict:
    config.teacher = teacher
    RUNNERS.build(config).train()
    return summary_of(config)


@pytest.fixture
def plain(distil_run):
    return lambda name: distil_run(work_dir=distil_run().work_dir + name, selector='last', probe=None)


def test_a_single_file_teaches_as_a_trajectory_of_one(plain, tmp_path):
    """Also a bare state dict, of which only the config tells the network."""
    given = trajectory(tmp_path / 'made', epochs=(3, )).last
    torch.save(torch.load(given.file)['state_dict'], tmp_path / 'bare.pth')
    configs = [plain(name) for name in ('whole', 'file', 'bare')]
    summaries = [taught(configs[0], trajectory=str(tmp_path / 'made')),
                 taught(configs[1], checkpoint=str(given.file)),
                 taught(configs[2], checkpoint=tmp_path / 'bare.pth', model=resnet(2))]
    students = [weights_of(Path(config.work_dir, 'student.pth')) for config in configs]
    for student in students[1:]:
        assert_same_weights(student, students[0])
    assert [each['selection']['epochs'] for each in summaries] == [[3], [3], [0]]
    assert summaries[0]['teacher']['metrics'] == summaries[1]['teacher']['metrics'] == \
        summaries[2]['teacher']['metrics']
    assert 'the checkpoint' in Path(configs[2].work_dir, 'ckd_mm.log').read_text()


def test_the_best_checkpoint_of_an_ordinary_run(plain, digits_run, tmp_path):
    """It tells its network itself."""
    ordinary = digits_run(model=resnet(2), work_dir=tmp_path / 'ordinary')
    ordinary.default_hooks.checkpoint.update(save_best='auto')
    train(ordinary)
    best, = (tmp_path / 'ordinary').glob('best_*.pth')
    config = plain('best')
    summary = taught(config, checkpoint=str(best))
    assert summary['selection']['epochs'] == [int(best.stem.rpartition('_')[2])]
    RUNNERS.build(Config(dict(config, resume=True))).train()
    assert summary_of(config)['student'] == summary['student']


def test_several_are_an_ensemble_also_of_other_architectures(plain, tmp_path):
    files, models = [tmp_path / f'{number}.pth' for number in (1, 2)], [TEACHER, dict(
        vision_transformer(), data_preprocessor=dict(STATISTICS))]
    for file, model in zip(files, models):
        torch.save(network(model, 1).state_dict(), file)
    summary = taught(plain('several'), checkpoint=[
        dict(file=str(file), model=model) for file, model in zip(files, models)])
    with torch.no_grad():
        mean = sum(network(model, 1)(digits()[0]).softmax(1) for model in models) / 2
    assert summary['cohort']['size'] == 2 and summary['cohort']['accuracy_top1'] == accuracy(mean)


@pytest.mark.parametrize('teacher, message', [
    (dict(checkpoint='gone.pth', model=TEACHER), 'gone.pth'),
    (dict(checkpoint='gone.pth', trajectory='here'), 'teacher.trajectory and teacher.checkpoint: give one'),
    (dict(checkpoint=[]), 'teacher.checkpoint is empty'),
    (dict(model=TEACHER, snapshots=dict(interval=1), strict=False), 'teacher.strict=False is for teachers'),
    (dict(checkpoint=[3]), r'teacher.checkpoint: 3 should be a file, a URL, or dict\(file=..., model=...\)'),
    (dict(checkpoint=dict(path='a.pth')), 'teacher.checkpoint: .* should be a file, a URL'),
    (dict(pretrained=True, model=TEACHER), "teacher.pretrained=True takes .* give a name in it"),
    (dict(pretrained=True, model='resnet43_8xb32_in1k'),
     "teacher.model='resnet43_8xb32_in1k' cannot be found .*; did you mean .*'resnet34_8xb32_in1k'"),
])
def test_bad_settings_are_named(plain, teacher, message):
    config = plain('bad')
    config.teacher = teacher
    with pytest.raises(CkdError, match=message):
        RUNNERS.build(config).train()


def test_a_file_that_does_not_tell_its_network(plain, tmp_path):
    torch.save(network(TEACHER, 1).state_dict(), tmp_path / 'bare.pth')
    config = plain('bad')
    config.teacher = dict(checkpoint=str(tmp_path / 'bare.pth'))
    with pytest.raises(CkdError, match='bare.pth does not say which network it is of: give its config'):
        RUNNERS.build(config).train()


def test_a_name_of_the_model_zoo():
    teacher = dict(model='ResNet34_8xb32_in1k', pretrained=True)
    config = Config(dict(model=dict(type='Student'), teacher=teacher))
    resolve_model_files(config)
    assert config.teacher.model.backbone.depth == 34 and config.teacher.model.data_preprocessor.to_rgb is True
    assert config.teacher.checkpoint.endswith('/resnet34_8xb32_in1k_20210831-f257d4e6.pth')
    assert 'pretrained' not in config.teacher


def test_a_selector_that_wants_a_trajectory(plain, tmp_path):
    file = trajectory(tmp_path / 'made', epochs=(3, )).last.file
    config = plain('two')
    config.teacher, config.selector = dict(checkpoint=str(file)), dict(type='even', k=2)
    with pytest.raises(ConfigError, match=r'^selector: wants epochs \[2, 3\], .*; it has \[3\]'):
        RUNNERS.build(config).train()


def test_a_file_that_fits_in_part_teaches_where_strict_is_false(plain, tmp_path):
    """Of a network with a further head; one weight is missing and one has another shape."""
    weights = dict(network(TEACHER, 1).state_dict())
    fitting = dict(weights)
    gone, other = 'backbone.layer1.0.bn1.bias', 'head.fc.bias'
    del weights[gone]
    weights.update({other: torch.zeros(11), 'auxiliary.weight': torch.zeros(3)})
    torch.save(weights, tmp_path / 'part.pth')
    config = plain('strict')
    config.teacher = dict(checkpoint=str(tmp_path / 'part.pth'), model=TEACHER)
    with pytest.raises(CkdError, match=r'1 weights of another shape, first: head.fc.bias is \(11,\), '
                                       r'expected \(10,\); 1 weights missing, first: '
                                       r'backbone.layer1.0.bn1.bias; '
                                       r'1 weights unknown, first: auxiliary.weight.*teacher.strict=False'):
        RUNNERS.build(config).train()
    config = plain('part')
    summary = taught(config, checkpoint=str(tmp_path / 'part.pth'), model=TEACHER, strict=False)
    assert 'strict=False' in Path(config.work_dir, 'ckd_mm.log').read_text()
    cohorts = [SnapshotEnsemble([dict(file=str(tmp_path / 'part.pth'), model=TEACHER, strict=False)])
               for _ in range(2)]
    found = [dict(cohort.networks[0].state_dict()) for cohort in cohorts]
    assert_same_weights(*found)  # what is drawn, too
    assert all(torch.equal(found[0][key], fitting[key]) for key in fitting if key not in (gone, other))
    with torch.no_grad():
        assert summary['cohort']['accuracy_top1'] == accuracy(cohorts[0].networks[0](digits()[0]))
    RUNNERS.build(Config(dict(config, resume=True))).train()
    assert summary_of(config)['student'] == summary['student']


def test_where_nothing_fits_strict_false_is_refused_too(plain, tmp_path):
    torch.save({'a.weight': torch.zeros(3)}, tmp_path / 'other.pth')
    config = plain('other')
    config.teacher = dict(checkpoint=str(tmp_path / 'other.pth'), model=TEACHER, strict=False)
    with pytest.raises(CkdError, match='other.pth.* is not of the network'):
        RUNNERS.build(config).train()
