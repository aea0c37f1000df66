"""What only a GPU can show; skipped without one."""

import pytest
import torch
from mmengine.registry import RUNNERS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


@pytest.mark.parametrize('compile', [False, True])
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_mixed_precision_trains(distil_run, dtype, compile):
    config = distil_run(compile=compile)
    config.optim_wrapper.update(type='AmpOptimWrapper', dtype=dtype, loss_scale='dynamic')
    summary = RUNNERS.build(config).train()
    weights = torch.load(f'{config.work_dir}/student.pth', weights_only=True)['state_dict']
    assert all(value.isfinite().all() for value in weights.values()) and not any('_orig_mod' in key for key in weights)
    assert summary['student']['accuracy_top1'] >= 0
