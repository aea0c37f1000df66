"""What a stage leaves behind."""

import multiprocessing
from pathlib import Path

from ckd_mm.pipeline.stage_runner import StageRunner

HOOKS = [dict(type='ckd_mm.StageStateHook')]


def test_no_worker_outlives_its_stage(digits_run):
    """Persistent workers serve all epochs of a stage, and not one thing more."""
    config = digits_run(custom_hooks=HOOKS)
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.update(num_workers=1, persistent_workers=True)
    runner, alive = StageRunner.from_cfg(config), []
    evaluate = runner.val_loop.run
    runner.val_loop.run = lambda: alive.append(len(multiprocessing.active_children())) or evaluate()
    before = len(multiprocessing.active_children())
    runner.train()
    assert alive == [before + 1, before + 2], 'of the training set; of the validation set from epoch 2 on'
    assert len(multiprocessing.active_children()) == before


def test_runs_that_begin_together_have_logs_of_their_own(digits_run, tmp_path):
    """Of one name, as the students of two work_dirs called alike are."""
    for number in range(3):
        config = digits_run(epochs=1, work_dir=tmp_path / str(number), experiment_name='student',
                            custom_hooks=HOOKS)
        StageRunner.from_cfg(config).train()
        rows, = Path(config.work_dir).glob('*/vis_data/scalars.json')
        assert len(rows.read_text().splitlines()) == 2, 'of one training and of one validation'
