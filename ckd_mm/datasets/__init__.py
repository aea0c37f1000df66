from .digits import Digits
from .split import split_dataset
from .tiny_imagenet import TinyImageNet

__all__ = ['Digits', 'TinyImageNet', 'split_dataset']
