"""Checkpoints of other projects are read without running what is in them."""

import contextlib
import io
import os
import pickle
from collections import OrderedDict

import pytest
import torch
from mmengine.config import Config
from torch import nn
from yapf.yapflib import yapf_api

from ckd_mm.errors import SnapshotError
from ckd_mm.trajectory import Trajectory
from ckd_mm.trajectory.checkpoint_file import Placeholder, SafeUnpickler, load_checkpoint_file
from ckd_mm.trajectory.configs import parse_config_text

from ..conftest import DEMO, format_code, resnet
from ..helpers import DIGITS, Evil, assert_same_weights, network, train

WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), bias=torch.zeros(2))


# ---------------------------------------------------------------- real files
def test_a_checkpoint_of_mmengine(digits_run):
    """It holds more than tensors: the message hub's HistoryBuffers, numpy scalars, optimizer and
    scheduler."""
    runner = train(digits_run(epochs=1, param_scheduler=dict(type='CosineAnnealingLR', T_max=1)))
    file = f'{runner.work_dir}/epoch_1.pth'
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    checkpoint = load_checkpoint_file(file)
    assert_same_weights(checkpoint['state_dict'], runner.model.cpu().state_dict())
    assert (checkpoint['meta']['epoch'], checkpoint['meta']['iter'], checkpoint['meta']['seed']) == (1, 4, 3)
    assert tuple(checkpoint['meta']['dataset_meta']['classes']) == DIGITS
    assert checkpoint['optimizer']['param_groups'][0]['momentum'] == 0.9
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert type(history).__name__ == 'HistoryBuffer' and not type(history).__module__.startswith('mmengine')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8,
                                   torch.bool, torch.complex64])
@pytest.mark.parametrize('zipped', [True, False])
def test_tensors_of_every_kind(tmp_path, dtype, zipped):
    value = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    torch.save(dict(state_dict=dict(value=value, turned=value.t()), size=value.shape, dtype=dtype),
               tmp_path / 'file.pth', _use_new_zipfile_serialization=zipped)
    checkpoint = load_checkpoint_file(tmp_path / 'file.pth')
    found = checkpoint['state_dict']
    assert found['value'].dtype == dtype and torch.equal(found['value'], value)
    assert torch.equal(found['turned'], value.t()) and checkpoint['size'] == (2, 3)


def test_parameters_and_bare_state_dicts(tmp_path):
    layer = nn.Linear(3, 2)
    torch.save(dict(layer.named_parameters()), tmp_path / 'bare.pth')
    checkpoint = load_checkpoint_file(tmp_path / 'bare.pth')
    assert torch.equal(checkpoint['state_dict']['weight'], layer.weight) and checkpoint['meta'] == {}


@pytest.mark.parametrize('written, read', [
    *[(f'{prefix}weight', 'weight')
      for prefix in ('module.', '_orig_mod.', 'module._orig_mod.', '_orig_mod.module.')],
    ('backbone._orig_mod.conv.weight', 'backbone.conv.weight'),
    ('head.module_list.0', 'head.module_list.0')])
def test_wrappers_leave_no_name(tmp_path, written, read):
    torch.save(dict(state_dict={written: torch.ones(1)}), tmp_path / 'file.pth')
    assert list(load_checkpoint_file(tmp_path / 'file.pth')['state_dict']) == [read]


def test_what_torch_compile_and_data_parallel_write(tmp_path):
    model = network(resnet(1), 1)
    torch.save(dict(state_dict=nn.DataParallel(torch.compile(model, backend='eager')).state_dict()),
               tmp_path / 'file.pth')
    assert_same_weights(load_checkpoint_file(tmp_path / 'file.pth')['state_dict'], model.state_dict())


# ---------------------------------------------------------------- hostile files
@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
@pytest.mark.parametrize('function', [os.system, eval, exec, os.mkdir])
@pytest.mark.parametrize('place', ['meta', 'state_dict', 'top'])
def test_a_hostile_pickle_executes_nothing(tmp_path, function, place, zipped):
    marker = tmp_path / 'marker'
    code = f'open({str(marker)!r}, "w")'
    argument = {os.system: f'touch {marker}', os.mkdir: str(marker)}.get(function, code)
    content = dict(state_dict=dict(WEIGHTS), meta={})
    content.get(place, content)['evil'] = Evil(function, argument)
    torch.save(content, tmp_path / 'file.pth', _use_new_zipfile_serialization=zipped)
    checkpoint = load_checkpoint_file(tmp_path / 'file.pth')
    assert not marker.exists()
    assert list(checkpoint['state_dict']) == ['weight', 'bias']
    torch.load(tmp_path / 'file.pth', weights_only=False)  # it was hostile
    assert marker.exists()


def test_a_hostile_plain_pickle_executes_nothing(tmp_path):
    marker = tmp_path / 'marker'
    (tmp_path / 'file.pth').write_bytes(pickle.dumps(Evil(os.mkdir, str(marker))))
    with pytest.raises(SnapshotError, match=r'file\.pth'):
        load_checkpoint_file(tmp_path / 'file.pth')
    assert not marker.exists()
    pickle.loads((tmp_path / 'file.pth').read_bytes())
    assert marker.exists()


@pytest.mark.parametrize('module, name', [
    ('torch', 'os.system'), ('torch', 'storage.os.system'), ('torch.storage', '_load_from_bytes'),
    ('torch', 'load'), ('os', 'system'), ('torch', 'int_repr'), ('torch._utils', 'importlib'),
    ('collections', 'abc.sys'), ('builtins', 'getattr'), ('operator', 'attrgetter'),
    ('torch.serialization', 'pickle.loads'), ('torch', 'FloatStorage.from_file')])
def test_names_that_lead_to_functions_are_inert(module, name):
    """A pickle names what it wants; with protocol 4 the name may have dots that are followed."""
    found = SafeUnpickler(io.BytesIO()).find_class(module, name)
    assert isinstance(found, type) and issubclass(found, Placeholder)


# ---------------------------------------------------------------- files that are none
def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


WHOLE = saved(dict(state_dict=dict(WEIGHTS, big=torch.zeros(10000))))


@pytest.mark.parametrize('content, message', [
    (b'', 'cannot be read, it is damaged or no checkpoint'),
    (b'garbage' * 100, 'cannot be read'),
    (b'PK\x03\x04' + b'\0' * 200, 'cannot be read'),
    (b'<!DOCTYPE html><html>404</html>', 'cannot be read'),
    (pickle.dumps([1, 2]), ''),
    *[(WHOLE[:int(share * len(WHOLE))], 'cannot be read, it is damaged') for share in (0.1, 0.5, 0.99)],
    (saved([torch.zeros(1)]), 'holds a list, not a checkpoint'),
    (saved(torch.zeros(1)), 'holds a Tensor, not a checkpoint'),
    (saved(dict(state_dict=dict())), 'holds no weights'),
    (saved(dict(state_dict=None)), 'holds no weights'),
    (saved(dict(epoch=3)), 'holds no weights')], ids=range(13))
def test_files_that_are_none(tmp_path, content, message):
    file = tmp_path / 'file.pth'
    file.write_bytes(content)
    with pytest.raises(SnapshotError, match=rf'{file} {message}' if message else str(file)) as caught:
        load_checkpoint_file(file)
    assert '\n' not in str(caught.value)


def test_missing(tmp_path):
    for path in (tmp_path / 'nowhere.pth', tmp_path):
        with pytest.raises(SnapshotError, match=f'snapshot {path} does not exist'):
            load_checkpoint_file(path)


# ---------------------------------------------------------------- config text
@pytest.mark.parametrize('formatted', [False, True])
def test_the_text_mmengine_writes_is_read_back(formatted, monkeypatch):
    if formatted:
        monkeypatch.setattr(yapf_api, 'FormatCode', format_code)
    config = dict(model=resnet(3), numbers=[1, -2, 3.5, 1e-5, True, None],
                  nested=dict(a=dict(b=[dict(c=(1, )), ['x', ("it's", )]])), empty=dict(), none=None,
                  minus=-0.5, words='a "quoted" \n line', keys={1: 'one', 'a.b': dict(c=2)},
                  paramwise_cfg=dict(custom_keys={'.cls_token': dict(decay_mult=0.0),
                                                  'backbone.layer1': dict(lr_mult=0.1, decay_mult=-1)}))
    for written in (Config(config), Config.fromfile(DEMO)):
        assert parse_config_text(written.pretty_text, 'here') == written.to_dict()


def test_classes_are_read_as_their_names():
    # what mmengine 0.10.12 writes for dict(kinds=[int, nn.Linear], optimizer=dict(type=torch.optim.SGD));
    # 0.10.7 cannot write it
    text = ('kinds = [\n    int,\n    torch.nn.modules.linear.Linear,\n]\noptimizer = '
            'dict(type=torch.optim.sgd.SGD)\n')
    assert parse_config_text(text, 'here') == dict(
        optimizer=dict(type='torch.optim.sgd.SGD'), kinds=['int', 'torch.nn.modules.linear.Linear'])


@pytest.mark.parametrize('text', [
    "model = __import__('os').mkdir({marker!r})",
    "model = dict(type=__import__('os').mkdir({marker!r}))",
    "model = [dict(a=(open({marker!r}, 'w'), ))]",
    "model = dict(**__import__('os').mkdir({marker!r}))",
    "model = {{'a': open({marker!r}, 'w')}}",
    "model = dict([('a', open({marker!r}, 'w'))])",
    "model = dict(open({marker!r}, 'w'))",
    "model = [open({marker!r}, 'w') for _ in 'x']",
    "model = f\"{{open({marker!r}, 'w')}}\""])
def test_hostile_text_is_refused_and_not_run(tmp_path, text):
    marker = tmp_path / 'marker'
    text = text.format(marker=str(marker))
    with pytest.raises(SnapshotError, match='the config inside here cannot be read without running it'):
        parse_config_text(text, 'here')
    assert not marker.exists()
    with contextlib.suppress(TypeError, OSError):  # None or a file cannot become a dict
        exec(text, {})
    assert marker.exists()  # it was hostile


@pytest.mark.parametrize('text', [
    'model = ', 'model = dict(a=1', '<html>', 'model = dict(1)', 'model = [*a]', 'model = {**dict(a=1)}',
    'model = 1 + x'])
def test_text_that_is_no_config(text):
    with pytest.raises(SnapshotError, match='the config inside here cannot be read'):
        parse_config_text(text, 'here')


def test_statements_other_than_assignments_are_not_run(tmp_path):
    marker = tmp_path / 'marker'
    call = f'os.mkdir({str(marker)!r})'
    text = f'import os\n{call}\nif {call}:\n    pass\nmodel = dict(a=1)\n'
    assert parse_config_text(text, 'here') == dict(model=dict(a=1))
    assert not marker.exists()


def test_facts_of_other_types_are_unknown(tmp_path):
    """What stands beside the weights of a file from anywhere."""
    weights = {**network(resnet(2), 1).state_dict(), 7: torch.zeros(1)}
    config = "model = dict(type='ckd_mm.CheckpointDistill')"
    meta = dict(dataset_meta=[1], cfg=config, epoch='3')
    torch.save(dict(state_dict=weights, meta=meta), tmp_path / 'a.pth')
    snapshot = Trajectory.open(tmp_path / 'a.pth').last
    assert (snapshot.model, snapshot.classes, snapshot.epoch) == (None, None, 0)
    images = torch.zeros(1, 3, 8, 8)
    built = Trajectory.open(tmp_path / 'a.pth', resnet(2)).last.build()
    assert torch.equal(built(images), network(resnet(2), 1)(images))
