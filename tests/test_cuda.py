"""What only a GPU can show; skipped without one."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS

from .conftest import resnet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
METHODS = dict(kd=dict(), peer=dict(peer=dict(model=resnet(2))),
               heads=dict(selector='last', probe=None, generations=2,
                          heads=dict(out_indices=[0, 1], train_cfg=dict(max_epochs=1))))


@pytest.mark.parametrize('compile', [False, True])
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
@pytest.mark.parametrize('method', METHODS)
def test_mixed_precision_trains(distil_run, method, dtype, compile):
    config = distil_run(compile=compile)
    for key in ('teacher', 'probe', 'selector', 'distill') if method == 'peer' else ():
        config.pop(key)
    config.update(METHODS[method])
    config.optim_wrapper.update(type='AmpOptimWrapper', dtype=dtype, loss_scale='dynamic')
    RUNNERS.build(config).train()
    files = list(Path(config.work_dir).glob('*.pth'))
    assert files
    for file in files:
        weights = torch.load(file, weights_only=True)['state_dict']
        assert all(value.isfinite().all() for value in weights.values()), file
        assert not any('_orig_mod' in key for key in weights), file
