from .cifar_resnet import CIFARResNet
from .densenet_cifar import DenseNetCIFAR
from .mobilenet_v2_cifar import MobileNetV2CIFAR
from .wide_resnet import WideResNet

__all__ = ['CIFARResNet', 'DenseNetCIFAR', 'MobileNetV2CIFAR', 'WideResNet']
