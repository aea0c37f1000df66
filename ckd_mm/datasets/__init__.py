from .digits import Digits
from .split import split_dataset

__all__ = ['Digits', 'split_dataset']
