"""What mmengine loads is read without running it, and a resumed training gets all that it wrote."""

import functools
import http.server
import io
import os
import pickle
import threading
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import CheckpointLoader, checkpoint

from ckd_mm.errors import ConfigError, SnapshotError
from ckd_mm.trajectory import safe_loading
from ckd_mm.trajectory.checkpoint_file import UnknownType
from ckd_mm.trajectory.safe_loading import TrainingUnpickler

from ..helpers import Evil, train


def load(file, **config):
    with safe_loading.safe_loading(config):
        return CheckpointLoader.load_checkpoint(str(file), map_location='cpu')


def parts(value, path=''):
    """All that is in it, by where it is, down to numbers."""
    if isinstance(value, HistoryBuffer):
        yield from parts(vars(value), f'{path}:HistoryBuffer')
    elif isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from parts(item, f'{path}:{type(value).__name__}.{key}')
    else:
        arrays = isinstance(value, (torch.Tensor, np.ndarray, np.generic))
        yield path, type(value), (str(value.dtype), value.tolist()) if arrays else value


@pytest.mark.parametrize('scheduler', [
    dict(type='CosineAnnealingLR', T_max=1),
    dict(type='OneCycleLR', eta_max=0.1, total_steps=4, by_epoch=False)], ids=lambda config: config['type'])
def test_the_whole_checkpoint_of_a_training(digits_run, scheduler):
    runner = train(digits_run(epochs=1, param_scheduler=scheduler,
                              custom_hooks=[dict(type='EMAHook'), dict(type='ckd_mm.StageStateHook')]))
    file = f'{runner.work_dir}/epoch_1.pth'
    whole = list(parts(torch.load(file, weights_only=False)))
    assert list(parts(load(file))) == whole and len(whole) > 100
    assert load(file)['message_hub']['log_scalars']['train/loss'].statistics('mean') > 0


@pytest.mark.parametrize('core', ['core', '_core'])
def test_arrays_of_numpy_1_and_2(core):
    values = dict(scalar=np.float64(0.1), array=np.arange(6.0).reshape(2, 3))
    data = pickle.dumps(values, protocol=2)
    for written in (b'numpy.core.', b'numpy._core.'):
        data = data.replace(written, f'numpy.{core}.'.encode())
    found = TrainingUnpickler(io.BytesIO(data)).load()
    assert found['scalar'] == 0.1 and np.array_equal(found['array'], values['array'])


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
@pytest.mark.parametrize('function', [os.system, eval, exec, os.mkdir])
@pytest.mark.parametrize('place', ['meta', 'state_dict', 'message_hub'])
def test_code_is_refused_by_name(tmp_path, function, place, zipped):
    marker, file = tmp_path / 'marker', tmp_path / 'file.pth'
    code = f'open({str(marker)!r}, "w")'
    argument = {os.system: f'touch {marker}', os.mkdir: str(marker)}.get(function, code)
    content = dict(state_dict=dict(weight=torch.zeros(2)), meta={}, message_hub={})
    content[place]['evil'] = Evil(function, argument)
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    name = f'{function.__module__}.{function.__name__}'.replace('posix.', r'\w+\.')
    with pytest.raises(SnapshotError, match=rf'^checkpoint {file} holds {name}, and to load .* trust_checkp'):
        load(file)
    assert not marker.exists()
    load(file, trust_checkpoint=True)
    assert marker.exists()  # it was hostile


@pytest.mark.parametrize('owner, name', [
    (os, 'system'), (HistoryBuffer, '__init__'), (HistoryBuffer, '__class__'), (Counter, 'min'),
    ([], 'append')])
def test_getattr_gives_only_what_mmengine_stores(owner, name):
    getattr_of_pickles = TrainingUnpickler(io.BytesIO()).find_class('__builtin__', 'getattr')
    with pytest.raises((UnknownType, TypeError)):
        getattr_of_pickles(owner, name)
    assert getattr_of_pickles(HistoryBuffer, 'mean') is HistoryBuffer.mean


@pytest.mark.parametrize('module, name', [
    ('mmengine.logging.history_buffer', 'HistoryBuffer.min.__globals__'), ('numpy', 'load'),
    ('codecs', 'encode'),
    ('numpy._core.multiarray', 'fromfile'), ('mmengine.config.config', 'Config'),
    ('argparse', 'FileType'),
    ('collections', 'ChainMap'), ('torch', 'load'), ('mmengine.config.lazy', 'LazyObject')])
def test_other_names_are_refused(module, name):
    with pytest.raises(UnknownType, match=f'^{module}.{name}$'):
        TrainingUnpickler(io.BytesIO()).find_class(module, name)


@pytest.mark.parametrize('settings', [
    dict(type='MultiStepLR', milestones=[1]), dict(type='StepLR', step_size=1), dict(type='LinearLR'),
    dict(type='ExponentialLR', gamma=0.9), dict(type='CosineAnnealingLR', T_max=3), dict(type='ConstantLR'),
    dict(type='PolyLR'), dict(type='CosineRestartLR', periods=[3], eta_min=0.0),
    dict(type='OneCycleLR', eta_max=1, total_steps=3), dict(type='ReduceOnPlateauLR')],
    ids=lambda settings: settings['type'])
def test_schedulers_of_mmengine_are_read(tmp_path, settings):
    """Each stores all that it has."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    state = PARAM_SCHEDULERS.build(settings, default_args=dict(optimizer=optimizer)).state_dict()
    torch.save(dict(state_dict={}, param_schedulers=[state]), tmp_path / 'file.pth')
    assert load(tmp_path / 'file.pth')['param_schedulers'][0].keys() == state.keys()


def test_a_program_is_no_checkpoint(tmp_path):
    """torch.load runs one where it finds one."""
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / 'file.pth')
    with pytest.raises(SnapshotError, match=r'file\.pth cannot be read.*TorchScript program'):
        load(tmp_path / 'file.pth')


def test_config_text_is_left_out_and_told(tmp_path, monkeypatch):
    file, told = tmp_path / 'a.pth', []
    monkeypatch.setattr(safe_loading, 'print_log', lambda line, *_: told.append(line))
    torch.save(dict(state_dict={}, meta=dict(epoch=1, config='import os')), file)
    assert load(file)['meta'] == dict(epoch=1)
    assert load(file, trust_checkpoint=True)['meta'] == dict(epoch=1, config='import os')
    assert told == [f'{file}: its meta.config is left out, a config as text that mmengine would run to '
                    'resume',
                    f'trust_checkpoint=True: code in {file} is run where there is any']


def test_a_url(tmp_path, monkeypatch):
    """Downloaded into torch's folder, and read like any file; also of a network in a list of mmengine's."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    (tmp_path / 'served').mkdir()
    torch.save(dict(weight=torch.ones(1)), tmp_path / 'served' / 'good.pth')
    torch.save({'backbone.weight': 2, 'head.weight': 3}, tmp_path / 'served' / 'backbone.pth')
    torch.save(dict(weight=Evil(os.mkdir, str(tmp_path / 'marker'))), tmp_path / 'served' / 'evil.pth')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / 'served')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        assert load(f'{url}/good.pth')['weight'] == 1
        monkeypatch.setattr(checkpoint, 'get_torchvision_models', lambda: dict(net=f'{url}/good.pth'))
        monkeypatch.setattr(checkpoint, 'get_mmcls_models', lambda: dict(net=f'{url}/backbone.pth'))
        assert load('torchvision://net') == load('modelzoo://net') == load(f'{url}/good.pth')
        assert load('mmcls://net') == dict(state_dict=dict(weight=2))
        with pytest.raises(SnapshotError, match='^torchvision://other: mmengine knows no other$'):
            load('torchvision://other')
        with pytest.raises(SnapshotError, match=rf'^checkpoint {url}/evil.pth holds .*mkdir'):
            load(f'{url}/evil.pth')
        server.shutdown()
    assert not (tmp_path / 'marker').exists()


def test_torch_may_be_told_to_read_weights_only(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    torch.save(dict(value=np.float64(2)), tmp_path / 'file.pth')
    assert load(tmp_path / 'file.pth')['value'] == 2 and os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'


def test_afterwards_mmengine_loads_as_before(tmp_path):
    before = dict(CheckpointLoader._schemes)
    with pytest.raises(ConfigError, match="trust_checkpoint='yes' should be True or False"):
        load(tmp_path, trust_checkpoint='yes')
    with pytest.raises(SnapshotError, match='nowhere.pth does not exist'):
        load(tmp_path / 'nowhere.pth')
    assert CheckpointLoader._schemes == before


def test_a_loader_that_a_user_registered_stays(monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    CheckpointLoader.register_scheme('ours://', lambda filename, map_location: filename)
    assert load('ours://a.pth') == 'ours://a.pth'
