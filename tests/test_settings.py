"""What a config may say."""

from dataclasses import dataclass

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.pipeline.build import open_run
from ckd_mm.settings import TrainingSettings, setting


def test_none_is_the_default_and_what_was_given_is_kept():
    @dataclass(frozen=True, kw_only=True)
    class Own(TrainingSettings):
        rate: float = setting(0.5, above=0, help='of drops')

    read = Own.read('own', dict(rate=None, load_from=None, train_cfg=dict(max_epochs=3)))
    assert read == Own() and read.rate == 0.5
    assert read.given == read.overrides == dict(load_from=None, train_cfg=dict(max_epochs=3))
    with pytest.raises(ConfigError, match='own.rate=0 should be a finite number, above 0'):
        Own.read('own', dict(rate=0))


@pytest.mark.parametrize('key, value, message', [
    ('train_dataloader', 'x', r"^train_dataloader='x' should be a dict, say dict\(batch_size=64, dataset="),
    ('val_dataloader', ['x'], r"^val_dataloader=\['x'\] should be a dict, say dict\(batch_size="),
    ('optim_wrapper', 'SGD', r"^optim_wrapper='SGD' should be a dict, say dict\(optimizer="),
    ('model', 'r18.py', r"^model='r18.py' should be a dict, say dict\(type='ImageClassifier', "),
    ('teacher.train_dataloader', 'x', r"^teacher.train_dataloader='x' should be a dict, say dict"),
    ('student_alone', 'x', r"^student_alone='x' should be a whole number, at least 0$"),
    ('probe.num_images', 'all', r"^probe.num_images='all' should be a whole number, at least 3$"),
])
def test_a_text_instead_of_a_dict_or_a_number(distil_run, key, value, message):
    config = distil_run()
    outer, _, inner = key.rpartition('.')
    (config[outer] if outer else config)[inner] = value
    with pytest.raises(ConfigError, match=message):
        open_run(config)
