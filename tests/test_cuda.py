"""What only a GPU can show; skipped without one."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS

from ckd_mm.teachers import SnapshotEnsemble

from .conftest import resnet
from .helpers import trajectory, with_statistics

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
METHODS = dict(kd=dict(), peer=dict(peer=dict(model=resnet(2))),
               heads=dict(selector='last', probe=None, generations=2,
                          heads=dict(out_indices=[0, 1], train_cfg=dict(max_epochs=1))))


def test_off_loaded_teachers_need_the_memory_of_one(tmp_path):
    """The peak of four, of 45 MB each, is below that of two on the device."""
    model, peaks, logits = with_statistics(resnet(3, channels=128)), {}, {}
    trajectory(tmp_path, (1, 2, 3, 4), model=model)
    snapshots = [dict(trajectory=str(tmp_path), epoch=epoch) for epoch in (1, 2, 3, 4)]
    inputs = torch.rand(2, 3, 8, 8, device='cuda')
    for count, off_load in [(4, True), (4, False), (2, False)]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        cohort = SnapshotEnsemble(snapshots[:count], off_load=off_load).to('cuda')
        logits[count, off_load] = cohort(inputs)
        peaks[count, off_load] = torch.cuda.max_memory_allocated()
        del cohort
    assert peaks[4, True] < peaks[2, False] < peaks[4, False]
    torch.testing.assert_close(logits[4, True], logits[4, False])


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
