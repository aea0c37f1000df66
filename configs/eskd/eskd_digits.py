"""ESKD in a minute on two CPU cores: scikit-learn's handwritten digits, 8x8 pixels.

    python tools/train.py configs/eskd/eskd_digits.py

The teacher of ../ckd/demo_digits.py stops early, after 10 epochs of a schedule of its own; the student learns
from it for 6 of 8 epochs and from labels alone afterwards. The log says after every epoch how often both
differ, in percent: ``kd/error`` on the test images, ``train/kd_error`` on those that are learned from. One
run on 500 test images shows the measures at work, it is no result. Sequential KD on the same digits:
``--cfg-options generations=3 student_alone=3``.
"""
_base_ = [
    '../_base_/models/resnet_digits_small.py', '../_base_/datasets/digits_bs32.py',
    '../_base_/schedules/digits_8e.py', '../_base_/distill_eskd.py', '../_base_/default_runtime.py'
]

val_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.KDMetric')]
test_evaluator = val_evaluator
custom_hooks = [dict(type='ckd_mm.TrainAgreementHook')]
default_hooks = dict(logger=dict(interval=20))

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet_digits.py'),
    train_cfg=dict(max_epochs=10), param_scheduler=dict(T_max=10), snapshots=dict(phases=1))
selector = 'last'
distill = dict(stop_epoch=6)
student_alone = True
