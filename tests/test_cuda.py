"""What only a GPU can show; skipped without one."""

import pytest
import torch
from mmengine.registry import RUNNERS

from .conftest import resnet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


@pytest.mark.parametrize('compile', [False, True])
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_heads_generations_and_peers_in_mixed_precision(distil_run, tmp_path, dtype, compile):
    methods = dict(heads=dict(heads=dict(out_indices=[0, 1], train_cfg=dict(max_epochs=1)), generations=2),
                   peer=dict(peer=dict(model=resnet(2))))
    for name, settings in methods.items():
        config = distil_run(selector='last', probe=None, compile=compile, work_dir=str(tmp_path / name))
        for key in ('teacher', 'probe', 'selector', 'distill') if name == 'peer' else ():
            config.pop(key)
        config.update(settings)
        config.optim_wrapper.update(type='AmpOptimWrapper', dtype=dtype, loss_scale='dynamic')
        RUNNERS.build(config).train()
        for file in (tmp_path / name).glob('*.pth'):
            weights = torch.load(file, weights_only=True)['state_dict']
            assert all(value.isfinite().all()
                       for value in weights.values()) and not any('_orig_mod' in key for key in weights), file


@pytest.mark.parametrize('compile', [False, True])
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_mixed_precision_trains(distil_run, dtype, compile):
    config = distil_run(compile=compile)
    config.optim_wrapper.update(type='AmpOptimWrapper', dtype=dtype, loss_scale='dynamic')
    summary = RUNNERS.build(config).train()
    weights = torch.load(f'{config.work_dir}/student.pth', weights_only=True)['state_dict']
    assert all(value.isfinite().all() for value in weights.values()) and not any('_orig_mod' in key
                                                                                 for key in weights)
    assert summary['student']['accuracy_top1'] >= 0
