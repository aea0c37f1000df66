"""Early-stopped distillation (ESKD) on the problem of kd.py: two thirds of the epochs with the teacher, then labels alone.

    python tools/train.py configs/small/eskd.py --cfg-options teacher.trajectory=work_dirs/kd
"""
_base_ = 'kd.py'

distill = dict(stop_epoch=4)
student_alone = False
