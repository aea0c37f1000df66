from .cifar_resnet import CIFARResNet
from .mobilenet_v2_cifar import MobileNetV2CIFAR
from .wide_resnet import WideResNet

__all__ = ['CIFARResNet', 'MobileNetV2CIFAR', 'WideResNet']
