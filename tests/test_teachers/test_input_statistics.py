"""Teachers whose inputs have another size; other statistics: test_snapshot_ensemble.py."""

import numpy
import pytest
import torch
from mmpretrain.registry import MODELS as CLASSIFIERS
from PIL import Image
from torch.testing import assert_close

from ckd_mm.errors import ConfigError
from ckd_mm.teachers import SnapshotEnsemble
from ckd_mm.teachers.input_statistics import input_converter, resized, resizing

from ..conftest import STATISTICS, resnet
from ..helpers import TEACHER, assert_same_weights, batch, network, trajectory


def preprocessor(size=None, **settings):
    config = {**STATISTICS, 'type': 'ClsDataPreprocessor', **settings}
    return CLASSIFIERS.build(config if size is None else resizing(config, size, 'input_size'))


@pytest.mark.parametrize('size', [(20, 12), (5, 7)], ids=['larger', 'smaller'])
def test_it_resizes_as_pillow_does(size):
    pixels = torch.rand(1, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(pixels[0, 0].numpy()).resize(size[::-1], Image.BILINEAR)
    expected = torch.from_numpy(numpy.array(image))
    assert_close(resized(pixels, size)[0, 0], expected, rtol=1e-5, atol=1e-5)


def test_a_teacher_gets_the_inputs_its_own_preprocessor_would_make():
    teacher = preprocessor(12, mean=[10.0, 20.0, 30.0], std=[7.0, 8.0, 9.0], to_rgb=True)
    student, images = preprocessor(), batch()
    converter = input_converter(student, teacher)
    assert_close(converter(student(images)['inputs']), teacher(images)['inputs'], rtol=1e-4, atol=1e-4)
    assert teacher(images)['inputs'].shape == (6, 3, 12, 12)


def test_nothing_is_done_where_nothing_is_to_do():
    for source, target in [(None, None), (8, 8), (8, None)]:
        assert type(input_converter(preprocessor(source), preprocessor(target))) is torch.nn.Identity
    inputs = torch.rand(2, 3, 8, 8)
    assert resized(inputs, (8, 8)) is inputs


def test_members_of_several_sizes_each_get_theirs_from_the_images(tmp_path):
    trajectory(tmp_path, (1, 2))
    large = dict(TEACHER, data_preprocessor=resizing(TEACHER['data_preprocessor'], 16, 'input_size'))
    cohort = SnapshotEnsemble([dict(trajectory=str(tmp_path), epoch=1, model=large),
                               dict(trajectory=str(tmp_path), epoch=2)])
    inputs = cohort.data_preprocessor(batch())['inputs']
    assert inputs.shape[-2:] == (8, 8)
    with torch.no_grad():
        expected = [network(TEACHER, 1)(resized(inputs, (16, 16)), mode='tensor'),
                    network(TEACHER, 2)(inputs, mode='tensor')]
    assert_close(cohort(inputs), torch.stack(expected))
    cohort.expect_inputs_of(preprocessor())
    assert_close(cohort(inputs), torch.stack(expected))


def test_a_preprocessor_of_another_type_is_refused():
    with pytest.raises(ConfigError, match="input_size=16: a data_preprocessor of type 'Own' is not known"):
        resizing(dict(type='Own'), 16, 'input_size')


@pytest.mark.parametrize('dtype, bits', [('bf16', 8), ('fp16', 11)])
def test_teachers_in_half_precision(tmp_path, dtype, bits):
    trajectory(tmp_path, (1, ))
    cohort = SnapshotEnsemble([dict(trajectory=str(tmp_path), epoch=1)], dtype=dtype)
    assert {value.dtype for value in cohort.networks.parameters()} == {cohort.dtype}
    cohort.expect_inputs_of(preprocessor())  # whose mean has more digits than a bfloat16
    assert type(cohort.converters[0]) is torch.nn.Identity
    inputs = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        exact = network(TEACHER, 1)(inputs, mode='tensor')
        with torch.autocast('cpu', dtype=torch.bfloat16):
            found = cohort(inputs)[0]
        twin = network(TEACHER, 1).to(cohort.dtype)(inputs.to(cohort.dtype), mode='tensor').float()
    assert found.dtype == torch.float32 and torch.equal(found, twin)
    assert 0 < (found - exact).abs().max() < 30 * 2**-bits * exact.abs().max()
    cohort.to_channels_last(inputs)
    assert any(value.dim() == 4 and not value.is_contiguous() for value in cohort.networks.parameters())
    with pytest.raises(ConfigError, match="dtype='half' should be one of"):
        SnapshotEnsemble([dict(trajectory=str(tmp_path), epoch=1)], dtype='half')


def test_off_loaded_teachers_are_on_the_device_in_turn(tmp_path):
    """'meta' is a device without memory: which network is there is seen by its weights."""
    trajectory(tmp_path, (1, 2, 3))
    snapshots, seen = [dict(trajectory=str(tmp_path), epoch=epoch) for epoch in (1, 2, 3)], []
    cohort = SnapshotEnsemble(snapshots, off_load=True)
    before = {key: value.clone() for key, value in cohort.networks.state_dict().items()}

    def devices(*_) -> None:
        seen.append([{value.device.type for value in (*each.backbone.parameters(), *each.backbone.buffers())}
                     for each in cohort.networks])

    for each in cohort.networks:
        each.head.register_forward_hook(devices)
    cohort.to('meta')
    logits = cohort(torch.zeros(2, 3, 8, 8, device='meta'))
    assert logits.shape == (3, 2, 10) and logits.device.type == 'meta'
    assert seen == [[{'meta' if index == own else 'cpu'} for index in range(3)] for own in range(3)]
    assert_same_weights(dict(cohort.networks.state_dict()), before)
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    here = SnapshotEnsemble(snapshots, off_load=True)
    assert torch.equal(here(inputs), SnapshotEnsemble(snapshots)(inputs))


def test_a_student_of_another_size_is_a_config_of_its_own():
    statistics = dict(STATISTICS, type='ckd_mm.ResizeDataPreprocessor', input_size=16)
    student = CLASSIFIERS.build(dict(resnet(), data_preprocessor=statistics))
    assert student.data_preprocessor(batch(), True)['inputs'].shape == (6, 3, 16, 16)
