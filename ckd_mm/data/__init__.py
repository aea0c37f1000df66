from .digits import Digits
from .in_memory import InMemory
from .split import split_dataset
from .tiny_imagenet import TinyImageNet
from .view_sampler import ViewSampler
from .views import ReplayableDataset, Views

__all__ = ['Digits', 'InMemory', 'ReplayableDataset', 'TinyImageNet', 'ViewSampler', 'Views', 'split_dataset']
