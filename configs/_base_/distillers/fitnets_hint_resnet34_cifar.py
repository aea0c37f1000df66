"""FitNets' first stage as in fitnets_hint_cifar.py, for a CIFARResNet student of a ResNet_CIFAR-18 or -34
teacher: the outputs of the second stages have 32 and 128 channels.
"""
_base_ = 'fitnets_hint_cifar.py'

hint = dict(distiller=dict(losses=dict(loss_hint=dict(teacher_channels=128))))
