"""What it gains to make a frozen teacher fast: its forward pass alone, beside that of the same network as it
was saved, on a CPU.

    python benchmarks/teachers.py [NETWORK ...] [--repeats N]

NETWORK is a file of configs/_base_/models. Prints how many of its BatchNorm layers became part of
convolutions, the time of a pass with these / as saved, and the same with weights in channels_last as well.
Outputs are compared first.
"""

import argparse
import os
import sys
from dataclasses import replace

os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch  # noqa: E402
from measure import Contender, Pair, paired_ratios, summary  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.modules.batchnorm import _BatchNorm  # noqa: E402
from workload import CONFIGS, Workload, build, make_workload, snapshots  # noqa: E402

from ckd_mm.memory_format import set_memory_format  # noqa: E402
from ckd_mm.teachers import SnapshotEnsemble  # noqa: E402

NETWORKS = {  # images and pixels of a batch
    'resnet34_cifar10': (16, 32),
    'resnet110_cifar100': (32, 32),
    'wrn40-2_cifar100': (32, 32),
    'vgg11_cifar100': (32, 32),
    'densenet40-12_cifar10': (16, 32),
    'mobilenetv2-0.75_cifar100': (32, 32),
    'resnet50': (2, 224),
    'resnet34': (2, 224)
}


def measured(work: Workload, name: str) -> dict:
    """BatchNorm layers before and after; summaries of ratios, ``fused`` and ``channels_last``."""
    work = replace(work, teacher=dict(Config.fromfile(CONFIGS / 'models' / f'{name}.py').model.to_dict(),
                                      data_preprocessor=work.teacher['data_preprocessor']))
    images, pixels = NETWORKS[name]
    inputs = torch.randn(images, 3, pixels, pixels)
    network = build(work.teacher)
    with snapshots(work, [network]) as files:
        ratios = [
            paired_ratios(lambda how=how: pair(files, inputs, how),
                          work.repeats,
                          1,
                          work.device,
                          tolerance=1e-3) for how in (torch.contiguous_format, torch.channels_last)
        ]
        left = norms(fast(files, inputs, torch.channels_last))
    return dict(norms=norms(network), left=left, fused=summary(ratios[0]), channels_last=summary(ratios[1]))


def pair(files: list[str], inputs: torch.Tensor, memory_format: torch.memory_format) -> Pair:
    cohorts = fast(files, inputs, memory_format), SnapshotEnsemble(files)
    return tuple(
        Contender(lambda batch, cohort=cohort: cohort(batch).abs().mean(), lambda: inputs)
        for cohort in cohorts)


def fast(files: list[str], inputs: torch.Tensor, memory_format: torch.memory_format) -> SnapshotEnsemble:
    cohort = SnapshotEnsemble(files).only_teach()
    cohort(inputs)  # the first pass makes it fast
    set_memory_format(cohort, memory_format)
    return cohort


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


def main() -> int:
    args = parse_args()
    work = make_workload('small', 'cpu', 'fp32', args.repeats)
    MMLogger.get_instance('benchmarks', log_level='ERROR')
    print('a pass of the teacher / as it was saved\n')
    print('| network | images | BatchNorm layers fused | fused | fused, channels_last '
          '|\n|---|---|---|---|---|')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for name in args.names:
            images, pixels = NETWORKS[name]
            found = measured(work, name)
            of, ratios = found['norms'], [f'{found[how]["median"]:.2f}' for how in ('fused', 'channels_last')]
            print(f'| {name} | {images} of {pixels}x{pixels} | {of - found["left"]} of {of} | '
                  f'{" | ".join(ratios)} |', flush=True)
    return 0


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='A fast teacher / the same as it was saved.')
    parser.add_argument('names', nargs='*', metavar='NETWORK', help=f'default: {", ".join(NETWORKS)}')
    parser.add_argument('--repeats', type=int, default=20)
    args = parser.parse_args(arguments)
    unknown = [name for name in args.names if name not in NETWORKS]
    if unknown:
        parser.error(f'no network {unknown[0]!r}; there are {", ".join(NETWORKS)}')
    if args.repeats < 1:
        parser.error(f'--repeats {args.repeats} should be at least 1')
    args.names = args.names or list(NETWORKS)
    return args


if __name__ == '__main__':
    sys.exit(main())
