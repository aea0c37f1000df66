"""Targets that are read, and messages about files and images that are not as they should be."""

import copy
import json

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.files import read_json, write_json
from ckd_mm.students import CheckpointDistill
from ckd_mm.targets import TargetFile, target_file
from ckd_mm.targets.layout import image_checksum

from ..conftest import resnet
from .conftest import FINGERPRINT, finished, made


def test_written_and_read(writer_of):
    file, target = finished(writer_of()), made()
    file.check()
    rows = np.array([7, 0, 11, 7])
    for stored, given in zip(file.read(rows), target):
        assert torch.equal(stored, given[torch.from_numpy(rows)])
    assert copy.deepcopy(file) is file and file.layout.teachers == 3
    assert np.array_equal(np.load(file.folder / 'log_p.npy'), target.log_p.numpy())  # anyone can read it
    assert not (file.folder / 'progress.npy').exists()
    record = read_json(file.folder / 'targets.json')
    assert record['fingerprint'] == FINGERPRINT and record['complete']
    assert set(record['sha256']) == {'log_p', 'spread', 'predicted', 'checksum'}
    assert record['layout'] == dict(images=6, views=2, classes=7, teachers=3, dtype='float32', top_k=None,
                                    spread=True)


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
    with pytest.raises(CkdError, match='is no record of teacher targets: .*something else.*Remove the'):
        TargetFile(tmp_path).record()


@pytest.mark.parametrize('changes, message', [
    (dict(complete='yes'), "complete='yes' should be True or False"),
    (dict(layout=[]), r'layout=\[\] should be'),
    (dict(layout=dict(images=6, views=2)), 'layout.classes is missing: every such file has it'),
    (dict(layout=dict(images='6', views=2, classes=7)), "layout.images='6' should be a whole number"),
    (dict(layout=dict(images=6, views=-2, classes=7)), 'layout.views=-2 should be a whole number'),
    (dict(layout=dict(images=6, views=2, classes=7, dtype='O')), "layout.dtype='O' should be one of"),
    (dict(layout=dict(images=6, views=2, classes=7, folder='..')), "layout: unknown key 'folder'"),
    (dict(fingerprint='abc'), "fingerprint='abc' should be a dict"),
    (dict(batch=0), 'batch=0 should be a whole'),
    (dict(seconds=float('nan')), 'seconds=nan should be a finite number'),
    (dict(sha256=dict(log_p='abc')), r"sha256=\{'log_p': 'abc'\} should have a text for each of ")])
def test_a_record_of_other_types(writer_of, changes, message):
    file = finished(writer_of()).folder / 'targets.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(CkdError, match=f'^{file} is damaged: {message}.* Remove the folder'):
        TargetFile(file.parent).check()


RIGHT_WRONG = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)


def samples(*places):
    return [DataSample(metainfo=dict(sample_idx=image, view=view)) for image, view in places]


def test_rows_are_found_by_image_and_view(writer_of):
    target, file = made(), finished(writer_of())
    found = file.of(samples((3, 0), (3, 1), (0, 1)), torch.zeros(3, 3, 4, 4))  # whose checksums are 0
    assert torch.equal(found.log_p, target.log_p[[3, 9, 6]])


@pytest.mark.parametrize('place, words', [
    (dict(sample_idx=1), r"sampler=dict\(type='ckd_mm.ViewSampler', views=2\)"),
    (dict(sample_idx=6, view=0), 'none of image 6 in view 0 '),
    (dict(sample_idx=0, view=2), 'none of image 0 in view 2 ')])
def test_images_without_a_row_are_refused(writer_of, place, words):
    with pytest.raises(ConfigError, match=words):
        finished(writer_of()).of([DataSample(metainfo=place)], torch.zeros(1, 3, 4, 4))


def test_an_image_that_the_teachers_did_not_see_is_found(writer_of):
    file = finished(writer_of())
    with pytest.raises(CkdError, match=r'image 2 in view 1 is not the one that the teachers saw .* \(and so '
                                       r'are 0 more of 2\)'):
        file.of(samples((1, 1), (2, 1)), torch.linspace(0, 1, 48).view(1, 3, 4, 4) * RIGHT_WRONG)


def test_images_in_0_to_255_may_be_rounded_in_proportion(writer_of, monkeypatch):
    """An error of 1e-6 of each pixel, all in the direction of its sign, is none; half a grey level of each is
    one."""
    file, inputs = finished(writer_of()), torch.full((1, 3, 4, 4), 200.0)
    signs = torch.from_numpy(np.random.RandomState(0).randint(0, 2, 48) * 2 - 1).view(1, 3, 4, 4)
    monkeypatch.setattr(target_file, 'image_checksum',  # 0 is cached, for this image
                        lambda given: image_checksum(given) - image_checksum(inputs))
    file.of(samples((1, 1)), inputs + 2e-4 * signs)
    with pytest.raises(CkdError, match='image 1 in view 1'):
        file.of(samples((1, 1)), inputs + 0.5 * signs)


def test_another_image_in_a_later_batch_is_found(writer_of):
    file, right = finished(writer_of()), torch.zeros(2, 3, 4, 4)
    for _ in range(3):
        file.of(samples((1, 1), (2, 1)), right)
    with pytest.raises(CkdError, match=r'image 5 in view 0 is not .* \(and so are 0 more of 2\)'):
        file.of(samples((4, 0), (5, 0)), right + RIGHT_WRONG)


def test_another_device_is_waited_for_every_few_batches(writer_of, monkeypatch):
    """After the first batch, then after three, and at the end."""
    monkeypatch.setattr(target_file, 'VERIFIED_AT_ONCE', ())
    monkeypatch.setattr(target_file, 'BATCHES_BETWEEN_CHECKS', 3)
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
        file.verify()
    file.verify()


def test_targets_for_another_loss_are_refused(writer_of):
    loss = dict(type='ckd_mm.CohortKDLoss', tau=2.0, aggregation='loss')
    stored = dict(tau=2.0, aggregation='loss', teacher_weights=None, standardize=False)
    folder = finished(writer_of(fingerprint=dict(target=stored))).folder

    def learn(**changes):
        model = CheckpointDistill(resnet(), kd_loss=dict(loss, **changes), targets=str(folder))
        model.targets.of(samples((1, 0)), torch.zeros(1, 3, 8, 8))

    learn()
    learn(loss_weight=3.0)  # weighs the same target
    with pytest.raises(ConfigError, match="another loss: aggregation was 'loss', now 'logit'; tau was 2.0, "
                                          "now 1.0"):
        learn(tau=1.0, aggregation='logit')
