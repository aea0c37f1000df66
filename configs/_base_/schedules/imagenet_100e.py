"""ESKD's recipe for ImageNet (Sec. 4): SGD with Nesterov momentum, weight decay 1e-4, x0.1 every 30 epochs.

How many epochs is not printed: 100, as in the code of attention transfer, which it follows "closely"; batch
256 from there, too.
"""
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
