"""What is kept of a target, and what comes back."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.fileio import read_json, write_json
from ckd_mm.models import CheckpointDistill
from ckd_mm.models.losses import SoftTarget, soft_target
from ckd_mm.targets import Layout, TargetFile, TargetWriter, target_file, target_writer
from ckd_mm.targets.layout import mark_of

from ..conftest import resnet


def made(rows: int = 12, classes: int = 7, teachers: int = 3, aggregation: str = 'loss', scale: float = 5.0, seed: int = 0) -> SoftTarget:
    logits = scale * torch.randn(teachers, rows, classes, generator=torch.Generator().manual_seed(seed))
    return soft_target(logits, 2.0, aggregation)._replace(predicted=logits.softmax(dim=2).mean(dim=0).argmax(dim=1))


def there_and_back(layout: Layout, target: SoftTarget) -> SoftTarget:
    return layout.decode(layout.encode(target, torch.zeros(len(target.log_p))))


# ---------------------------------------------------------------- the rows
def test_float32_is_kept_bit_for_bit():
    target = made()
    for kept, given in zip(there_and_back(Layout(6, 2, 7, 3, spread=True), target), target):
        assert torch.equal(kept, given)


def test_float16_is_close_and_sums_to_one():
    target = made(classes=100)
    kept = there_and_back(Layout(6, 2, 100, 3, 'float16'), target)
    assert kept.spread is None and torch.equal(kept.predicted, target.predicted)
    torch.testing.assert_close(kept.log_p.exp().sum(dim=1), torch.ones(12), rtol=0, atol=2e-6)
    assert not torch.equal(kept.log_p, target.log_p)
    torch.testing.assert_close(kept.log_p, target.log_p, rtol=2**-10, atol=2e-2)  # half of the last place, and what the sum moves


@pytest.mark.parametrize('dtype,tolerance', [('float32', 1e-6), ('float16', 2e-3)])
def test_top_k_and_the_rest_worked_out_on_paper(dtype, tolerance):
    """Of 0.5, 0.2, 0.15, 0.1, 0.05 the first two are kept, and each other gets a third of 0.3."""
    target = SoftTarget(torch.tensor([[0.15, 0.5, 0.05, 0.2, 0.1]]).log(), None, torch.tensor([1]))
    layout = Layout(1, 1, 5, dtype=dtype, top_k=2)
    assert layout.encode(target, torch.zeros(1))['top'].tolist() == [[1, 3]]
    expected = torch.tensor([[0.1, 0.5, 0.1, 0.2, 0.1]])
    torch.testing.assert_close(there_and_back(layout, target).log_p.exp(), expected, rtol=0, atol=tolerance)


def test_a_rest_too_small_for_a_difference_is_kept():
    """1 minus the largest is 0 in float32, but the others' share is known: e^-40 each."""
    target = SoftTarget(torch.tensor([[40.0, 0.0, 0.0, 0.0]]).log_softmax(dim=1), None, torch.tensor([0]))
    torch.testing.assert_close(there_and_back(Layout(1, 1, 4, top_k=1), target).log_p, target.log_p)


@pytest.mark.parametrize('top_k', [None, 2])
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_sure_teachers_give_no_infinite_loss(dtype, top_k):
    target = SoftTarget(torch.tensor([[1e5, 0.0, 0.0, 0.0]]).log_softmax(dim=1), None, torch.tensor([0]))
    kept = there_and_back(Layout(1, 1, 4, dtype=dtype, top_k=top_k), target)
    loss = torch.nn.functional.kl_div(torch.zeros(1, 4).log_softmax(dim=1), kept.log_p, reduction='batchmean', log_target=True)
    assert loss.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize('layout,expected', [
    (Layout(50000, 10, 100), 500_000 * (100 * 4 + 2 + 4)),
    (Layout(1_281_167, 1, 1000, 8, 'float16'), 1_281_167 * (1000 * 2 + 2 + 4)),
    (Layout(1_281_167, 1, 1000, 8, 'float16', top_k=16), 1_281_167 * (17 * 2 + 16 * 2 + 2 + 4)),
    (Layout(10, 1, 40000, 2, top_k=3, spread=True), 10 * (4 * 4 + 3 * 4 + 4 + 4 + 4))])
def test_bytes(layout, expected):
    assert layout.bytes == expected


@pytest.mark.parametrize('settings,words', [(dict(dtype='int8'), "dtype='int8' should be one of"), (dict(top_k=7), 'top_k=7 should be'),
                                            (dict(top_k=0), 'top_k=0 should be')])
def test_what_cannot_be_kept(settings, words):
    with pytest.raises(ConfigError, match=words):
        Layout(6, 2, 7, **settings)


def test_a_mark_tells_mirrored_and_shifted_images_apart():
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for other in (images.flip(3), images.roll(1, dims=2), images + 0.01 * torch.randn(images.shape)):
        assert (mark_of(images) != mark_of(other)).all()


@pytest.mark.parametrize('size', [32, 224])
def test_a_mark_tells_smooth_images_apart(size):
    """Of 8x8 spots, blown up: neighbours are as like each other as those of a blurred photograph. Rounding is far below."""
    spots = torch.randn(100, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = F.interpolate(spots, size=(size, size), mode='bilinear')
    marks, tolerance = mark_of(images), target_file.TOLERANCE
    for other in (images.flip(3), images.flip(2), images.roll(1, dims=3), images.roll(1, dims=2)):
        assert ((marks - mark_of(other)).abs() > tolerance).float().mean() >= 0.95
    signs = torch.from_numpy(np.random.RandomState(0).randint(0, 2, 3 * size * size) * 2.0 - 1)
    exact = (images.double().flatten(1) * signs).sum(dim=1) / (3 * size * size)**0.5
    assert (marks - exact).abs().max() < tolerance / 20
    assert (mark_of(images.contiguous(memory_format=torch.channels_last)) - marks).abs().max() < tolerance / 20


def test_the_signs_of_a_mark_are_the_same_everywhere():
    """0, 1, 1, 0, 1, 1: the first bits that numpy's RandomState(0) has given ever since."""
    marks = mark_of(torch.eye(6).view(6, 3, 1, 2))
    torch.testing.assert_close(marks, torch.tensor([-1.0, 1, 1, -1, 1, 1]) / 6**0.5)


def test_a_mark_is_not_rounded_by_mixed_precision():
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = mark_of(images)
    assert torch.equal(inside, mark_of(images))


# ---------------------------------------------------------------- the files
BATCH = 2
FINGERPRINT = dict(teachers=[dict(sha256='abc')], views=2)


@pytest.fixture
def writer_of(tmp_path, monkeypatch):
    monkeypatch.setattr(target_writer, 'BATCHES_A_BLOCK', 2)  # of 12 rows: three blocks

    def make(layout=Layout(6, 2, 7, 3, spread=True), fingerprint=FINGERPRINT, batch=BATCH) -> TargetWriter:
        return TargetWriter(tmp_path / 'targets', layout, fingerprint, batch)

    return make


def fill(writer: TargetWriter, blocks, target=None) -> None:
    target = target or made()
    for block in blocks:
        for start in range(writer.rows_of(block).start, writer.rows_of(block).stop, BATCH):
            rows = slice(start, start + BATCH)
            writer.write(start, SoftTarget(*(part[rows] for part in target)), torch.zeros(BATCH))
        writer.done(block)
    writer.close()


def finished(writer: TargetWriter) -> TargetFile:
    fill(writer, writer.prepare(print))
    writer.finish()
    return TargetFile(writer.folder)


def test_written_and_read(writer_of):
    file, target = finished(writer_of()), made()
    file.check()
    rows = np.array([7, 0, 11, 7])
    for kept, given in zip(file.read(rows), target):
        assert torch.equal(kept, given[torch.from_numpy(rows)])
    assert copy.deepcopy(file) is file and file.teachers == 3
    assert np.array_equal(np.load(file.folder / 'log_p.npy'), target.log_p.numpy())  # anyone can read it
    assert not (file.folder / 'progress.npy').exists()


def test_blocks_that_are_done_are_not_asked_for_again(writer_of):
    writer = writer_of()
    assert writer.prepare(print) == [0, 1, 2]
    fill(writer, [1])
    assert writer_of().prepare(print) == [0, 2]
    with pytest.raises(CkdError, match='are not finished; go on with the run that makes them'):
        TargetFile(writer.folder).check()
    fill(writer, [0, 2])
    writer.finish()
    assert writer_of().prepare(print) == []


@pytest.mark.parametrize('changed,word', [(dict(fingerprint=dict(FINGERPRINT, views=3)), 'views was 2, now 3'),
                                          (dict(layout=Layout(6, 2, 7, 3, 'float16', spread=True)), "layout.dtype was 'float32'"),
                                          (dict(batch=4), 'batch was 2, now 4')])
def test_targets_of_other_settings_are_replaced(writer_of, changed, word):
    finished(writer_of())
    said = []
    assert writer_of(**changed).prepare(said.append)[0] == 0
    assert word in said[0]


@pytest.mark.parametrize('name', ['log_p', 'spread', 'predicted', 'mark'])
def test_a_shortened_file_is_found(writer_of, name):
    folder = finished(writer_of()).folder
    file = folder / f'{name}.npy'
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CkdError, match=f'{name}.npy is damaged'):
        TargetFile(folder).read(np.array([0]))
    with pytest.raises(CkdError, match=f'{name}.npy is damaged'):
        writer_of().prepare(print)


def test_a_changed_byte_is_found(writer_of):
    folder = finished(writer_of()).folder
    data = bytearray((folder / 'log_p.npy').read_bytes())
    data[-3] ^= 1
    (folder / 'log_p.npy').write_bytes(data)
    with pytest.raises(CkdError, match='log_p.npy is damaged: its SHA-256'):
        TargetFile(folder).check()


def test_another_file_is_no_target_file(tmp_path):
    with pytest.raises(CkdError, match='there are no teacher targets in this folder'):
        TargetFile(tmp_path).record()
    write_json(tmp_path / 'targets.json', dict(format='something else'))
    with pytest.raises(CkdError, match="format='something else'"):
        TargetFile(tmp_path).record()


def test_a_damaged_progress_is_found(writer_of):
    writer = writer_of()
    writer.prepare(print)
    np.save(writer.folder / 'progress.npy', np.zeros(2, np.uint8))
    with pytest.raises(CkdError, match='tells of 2 blocks, expected 3'):
        writer_of().prepare(print)


@pytest.mark.parametrize('bytes_left', [0, 40])
def test_a_progress_that_was_cut_off_is_said(writer_of, bytes_left):
    progress = writer_of().folder / 'progress.npy'
    writer_of().prepare(print)
    progress.write_bytes(progress.read_bytes()[:bytes_left])
    with pytest.raises(CkdError, match='progress.npy is damaged: .*Remove the folder'):
        writer_of().prepare(print)


def test_what_is_not_written_is_not_finished(writer_of):
    writer = writer_of()
    writer.prepare(print)
    fill(writer, [0, 2])
    with pytest.raises(CkdError, match='1 of 3 blocks are not written'):
        writer.finish()
    assert not TargetFile(writer.folder).is_complete
    fill(writer, [1])
    assert writer.finish()['complete'] and writer.finish() == TargetFile(writer.folder).record()


def test_numbers_that_are_not_finite_are_not_kept(writer_of):
    writer = writer_of()
    writer.prepare(print)
    target = made(2)
    target.log_p[1, 3] = math.nan
    with pytest.raises(CkdError, match='rows 4 to 5 are not finite'):
        writer.write(4, target, torch.zeros(2))


def test_a_full_disk_is_said(writer_of, monkeypatch):
    writer = writer_of()
    writer.prepare(print)

    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(target_writer.os, 'pwrite', full)
    with pytest.raises(CkdError, match='No space left on device.*in all; what was written before is intact'):
        writer.write(0, made(2), torch.zeros(2))


# ---------------------------------------------------------------- a batch
def samples(*places):
    return [DataSample(metainfo=dict(sample_idx=image, view=view)) for image, view in places]


def test_rows_are_found_by_image_and_view(writer_of):
    target, file = made(), finished(writer_of())
    found = file.of(samples((3, 0), (3, 1), (0, 1)), torch.zeros(3, 3, 4, 4))  # whose marks are 0
    assert torch.equal(found.log_p, target.log_p[[3, 9, 6]])


def test_images_without_a_view_are_refused(writer_of):
    with pytest.raises(ConfigError, match="sampler=dict\\(type='ckd_mm.ViewSampler', views=2\\)"):
        finished(writer_of()).of([DataSample(metainfo=dict(sample_idx=1))], torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize('place', [(6, 0), (0, 2)])
def test_other_images_and_views_are_refused(writer_of, place):
    with pytest.raises(ConfigError, match=f'image {place[0]} in view {place[1]} '):
        finished(writer_of()).of(samples(place), torch.zeros(1, 3, 4, 4))


def test_an_image_that_the_teachers_did_not_see_is_found(writer_of):
    file = finished(writer_of())
    with pytest.raises(CkdError, match=r'image 2 in view 1 is not the one that the teachers saw .* \(and so are 0 more of 2\)'):
        file.of(samples((1, 1), (2, 1)), torch.stack([torch.zeros(3, 4, 4), torch.linspace(0, 1, 48).view(3, 4, 4)]))


def test_images_in_0_to_255_may_be_rounded_in_proportion(writer_of, monkeypatch):
    """An error of 1e-6 of each pixel, all in the direction of its sign, is none; half a grey level of each is one."""
    file, inputs = finished(writer_of()), torch.full((1, 3, 4, 4), 200.0)
    signs = torch.from_numpy(np.random.RandomState(0).randint(0, 2, 48) * 2 - 1).view(1, 3, 4, 4)
    monkeypatch.setattr(target_file, 'mark_of', lambda given: mark_of(given) - mark_of(inputs))  # 0 is kept, of this image
    file.of(samples((1, 1)), inputs + 2e-4 * signs)
    with pytest.raises(CkdError, match='image 1 in view 1'):
        file.of(samples((1, 1)), inputs + 0.5 * signs)


def test_another_image_in_a_later_batch_is_found(writer_of):
    file, right = finished(writer_of()), torch.zeros(2, 3, 4, 4)
    for _ in range(3):
        file.of(samples((1, 1), (2, 1)), right)
    with pytest.raises(CkdError, match=r'image 5 in view 0 is not .* \(and so are 0 more of 2\)'):
        file.of(samples((4, 0), (5, 0)), right + torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))


def test_another_device_is_looked_at_from_time_to_time(writer_of, monkeypatch):
    """After the first batch, then after three, and at the end."""
    monkeypatch.setattr(target_file, 'AT_ONCE', ())
    monkeypatch.setattr(target_file, 'BATCHES_A_LOOK', 3)
    right, wrong = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    with pytest.raises(CkdError, match='0 more of 1'):
        finished(writer_of()).of(samples((3, 0)), wrong)
    file = TargetFile(writer_of().folder)
    for inputs in (right, right, 0.5 * wrong):
        file.of(samples((3, 0)), inputs)
    with pytest.raises(CkdError, match='image 4 in view 1 .* 1 more of 3'):
        file.of(samples((4, 1)), wrong)
    file.of(samples((5, 1)), wrong)
    with pytest.raises(CkdError, match='image 5 in view 1 .* 0 more of 1'):
        file.look()
    file.look()


def test_targets_for_another_loss_are_refused(writer_of):
    loss = dict(type='ckd_mm.CohortKDLoss', tau=2.0, aggregation='loss')
    kept = dict(tau=2.0, aggregation='loss', teacher_weights=None, standardize=False)
    folder = finished(writer_of(fingerprint=dict(target=kept))).folder

    def learn(**changes):
        model = CheckpointDistill(resnet(), kd_loss=dict(loss, **changes), targets=str(folder))
        model.targets.of(samples((1, 0)), torch.zeros(1, 3, 8, 8))

    learn()
    learn(loss_weight=3.0)  # weighs the same target
    with pytest.raises(ConfigError, match="another loss: aggregation was 'loss', now 'logit'; tau was 2.0, now 1.0"):
        learn(tau=1.0, aggregation='logit')


def test_the_record_names_what_it_was_made_of(writer_of):
    record = read_json(finished(writer_of()).folder / 'targets.json')
    assert record['fingerprint'] == FINGERPRINT and record['complete'] and set(record['sha256']) == {'log_p', 'spread', 'predicted', 'mark'}
    assert record['layout'] == dict(images=6, views=2, classes=7, teachers=3, dtype='float32', top_k=None, spread=True)
