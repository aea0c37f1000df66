"""What the contenders work on: two networks and a batch of random images."""

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ckd_mm.trajectory import write_snapshot

CONFIGS = Path(__file__).parents[1] / 'configs' / '_base_'
PRESETS = {  # teacher, student, data set of the configs; pixels and images of a batch
    'small': ('resnet34_cifar10', 'resnet18_cifar10', 'cifar10_bs128', 32, 32),
    'cifar': ('resnet34_cifar10', 'resnet18_cifar10', 'cifar10_bs128', 32, 128),
    'wrn': ('wrn40-2_cifar100', 'wrn40-1_cifar100', 'cifar100_bs128', 32, 128),
    'imagenet': ('resnet34', 'resnet18', 'imagenet_bs32', 224, 256),
    'imagenet_r50': ('resnet50', 'resnet18', 'imagenet_bs32', 224, 256)}
CONFIDENT = 4.0  # standard deviation of a teacher's logits over the classes


@dataclass(frozen=True)
class Workload:
    """
    Args:
        teacher, student: mmpretrain configs, with their data preprocessor.
        images, labels: one batch, uint8 (N, 3, H, W) and (N, ), where a data loader leaves it: in (pinned)
            host memory.
        dtype: 'fp32', or 'bf16' for autocast.
    """
    preset: str
    teacher: dict
    student: dict
    images: Tensor
    labels: Tensor
    device: torch.device
    dtype: str
    repeats: int

    @property
    def steps(self) -> int:
        """Steps in a timed half: on a GPU so many that the host runs ahead, as in training."""
        return 10 if self.device.type == 'cuda' else 1

    def collated(self) -> dict:
        """The batch as mmpretrain's data loaders collate it."""
        samples = [DataSample().set_gt_label(label) for label in self.labels]
        return dict(inputs=self.images, data_samples=samples)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """The same batch as torch's own data loader collates it."""
        return self.images, self.labels

    def optim_wrapper(self, network: nn.Module) -> OptimWrapper:
        if self.dtype == 'bf16':
            return AmpOptimWrapper(dtype='bfloat16', optimizer=sgd(network))
        return OptimWrapper(sgd(network))


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)


def make_workload(preset: str, device: str, dtype: str, repeats: int) -> Workload:
    torch.manual_seed(0)
    *models, data, size, batch = PRESETS[preset]
    preprocessor = Config.fromfile(CONFIGS / 'datasets' / f'{data}.py').data_preprocessor
    teacher, student = (dict(Config.fromfile(CONFIGS / 'models' / f'{model}.py').model.to_dict(),
                             data_preprocessor=preprocessor.to_dict()) for model in models)
    if preset == 'small':  # the CIFAR networks with a quarter of the channels
        for model in (teacher, student):
            model['backbone'].update(stem_channels=16, base_channels=16)
            model['head']['in_channels'] = 128
    images = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8)
    labels = torch.randint(student['head']['num_classes'], (batch, ))
    if device == 'cuda':
        images, labels = images.pin_memory(), labels.pin_memory()
    return Workload(preset, teacher, student, images, labels, torch.device(device), dtype, repeats)


def normaliser(model: dict, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Normalises uint8 images on the device as the network of this config wants them, with torch alone."""
    statistics = model['data_preprocessor']
    mean, std = (torch.tensor(statistics[name], device=device).view(3, 1, 1) for name in ('mean', 'std'))
    return lambda images: ((images.flip(1) if statistics['to_rgb'] else images).float() - mean) / std


def build(model: dict) -> nn.Module:
    network = MODELS.build(copy.deepcopy(model))
    network.init_weights()
    return network


def confident_teachers(work: Workload, count: int = 1) -> list[nn.Module]:
    """Networks of the preset's teacher, each with weights of its own, as confident as trained ones.

    As initialised, all give nearly the same logits to every class: to learn from one, from another or from
    none gives nearly the same loss, and :func:`measure.check_same_work` would see no difference. So the last
    layer is scaled.
    """
    teachers = [build(work.teacher).eval() for _ in range(count)]
    images = normaliser(work.teacher, torch.device('cpu'))(work.images[:8])
    with torch.no_grad():
        for teacher in teachers:
            factor = CONFIDENT / teacher(images).std(dim=1).mean()
            for parameter in teacher.head.fc.parameters():
                parameter.mul_(factor)
    return teachers


@contextmanager
def snapshots(work: Workload, teachers: Sequence[nn.Module]) -> Iterator[list[str]]:
    """Files of these networks, for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f'epoch_{epoch}.pth') for epoch in range(1, len(teachers) + 1)]
        for epoch, (file, teacher) in enumerate(zip(files, teachers), 1):
            write_snapshot(file, teacher.state_dict(), epoch=epoch, iteration=epoch, lr=None,
                           model=work.teacher, classes=None)
        yield files
