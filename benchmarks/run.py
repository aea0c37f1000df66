"""Speed and size of ckd_mm as ratios to something that anyone would accept as a yardstick: README.md here.

    python benchmarks/run.py [NAME ...] --json FILE [--device cpu|cuda] [--preset NAME] [--dtype fp32|bf16]
    [--repeats N]

Prints a table, and writes FILE after each line of it. Exit status 1 if a median is above its limit, or if
something could not be measured.
"""

import argparse
import os
import platform
import shlex
import statistics
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')  # two threads beside any other load are slower than one

import torch  # noqa: E402
from cached import cached_vs_plain  # noqa: E402
from loader import small_images_loader  # noqa: E402
from measure import summary  # noqa: E402
from memory import cohort4_memory  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from probing import probe_vs_epoch  # noqa: E402
from razor import kd_step_vs_mmrazor  # noqa: E402
from steps import ensemble4_vs_floor, kd_step_vs_floor  # noqa: E402
from workload import PRESETS, Workload, make_workload  # noqa: E402

from ckd_mm.compat import versions  # noqa: E402
from ckd_mm.files import write_json  # noqa: E402


@dataclass(frozen=True)
class Benchmark:
    """
    Args:
        what: our side / the other side.
        limit: the median may be at most this.
        ratios: measures them.
        trains: a step of our side is a training step on the workload's batch, so that its images/s mean
            something.
    """
    what: str
    limit: float
    ratios: Callable[[Workload], list[float]]
    trains: bool = False

    def measure(self, work: Workload) -> dict:
        """Median and spread of the ratios; of a training step also our images/s and peak memory in bytes
        (None on a CPU)."""
        ratios = self.ratios(work)
        if not self.trains:
            return summary(ratios)
        speed = len(work.labels) / statistics.median(ratios.seconds)
        return dict(summary(ratios), images_per_second=speed, peak_memory=ratios.peak_memory)


BENCHMARKS = dict(
    kd_step_vs_floor=Benchmark('one-teacher step / hand-written torch loop', 1.03, kd_step_vs_floor, True),
    kd_step_vs_mmrazor=Benchmark('one-teacher step / that of mmrazor', 1.00, kd_step_vs_mmrazor, True),
    ensemble4_vs_floor=Benchmark('four-teacher step / hand-written loop', 1.00, ensemble4_vs_floor, True),
    cached_vs_plain=Benchmark('step with cached targets / mmpretrain step', 1.10, cached_vs_plain, True),
    probe_vs_epoch=Benchmark('probing a snapshot / an epoch of the teacher', 0.20, probe_vs_epoch),
    small_images_loader=Benchmark('batches of CIFAR: mmpretrain images/s / ours', 0.10, small_images_loader),
    cohort4_memory=Benchmark('peak of four teachers / of one, less weights', 1.10, cohort4_memory))
COLUMNS = '{:<22} {:<48} {:>7} {:>7} {:>7} {:>5} {:>6}  {:<4} {:>8} {:>7}'


def main() -> int:
    args = parse_args()
    work = make_workload(args.preset, args.device, args.dtype, args.repeats)
    torch.backends.cudnn.benchmark = True
    MMLogger.get_instance('benchmarks', log_level='ERROR')  # the table alone
    results = {}
    print(COLUMNS.format('name', 'ours / the other', 'median', 'low', 'high', 'n', 'limit', '', 'images/s',
                         'peak GB'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for name in args.names:
            results[name] = result_or_failure(BENCHMARKS[name], work)
            print(line_of(name, results[name]), flush=True)
            if args.json is not None:  # each time: the next one may take the process with it
                write_json(args.json, dict(_about=about(args), **results))
    return int(any('failed' in result or result['median'] > BENCHMARKS[name].limit
                   for name, result in results.items()))


def result_or_failure(benchmark: Benchmark, work: Workload) -> dict:
    """Of a benchmark that fails (mmrazor is missing, memory is short) why: the others are measured all the
    same."""
    try:
        return benchmark.measure(work)
    except Exception as error:
        traceback.print_exc()
        return dict(failed=f'{type(error).__name__}: {error}')


def line_of(name: str, result: dict) -> str:
    benchmark = BENCHMARKS[name]
    if 'failed' in result:
        return f'{name:<22} failed: {result["failed"]}'
    speed, memory = result.get('images_per_second'), result.get('peak_memory')
    return COLUMNS.format(
        name, benchmark.what, *(f'{result[key]:.3f}' for key in ('median', 'low', 'high')), result['n'],
        f'{benchmark.limit:.2f}', 'ok' if result['median'] <= benchmark.limit else 'over',
        '' if speed is None else f'{speed:.0f}', '' if memory is None else f'{memory / 1e9:.2f}').rstrip()


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Measure ckd_mm in ratios.')
    parser.add_argument('names', nargs='*', metavar='NAME',
                        help=f'which; default: all of {", ".join(BENCHMARKS)}')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the results here')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--preset', choices=PRESETS, default='small',
                        help='networks and batch; a step on one core takes a part of a second with small, '
                             'some seconds with cifar, the others are for GPUs')
    parser.add_argument('--dtype', choices=('fp32', 'bf16'), default='fp32',
                        help='bf16: autocast, on cuda only')
    parser.add_argument('--repeats', type=int, default=100,
                        help='paired repetitions of each timed benchmark; default: 100')
    args = parser.parse_args(arguments)
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f'no benchmark {unknown[0]!r}; there are {", ".join(BENCHMARKS)}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch sees no GPU here')
    if args.dtype == 'bf16' and args.device == 'cpu':
        parser.error("--dtype bf16 needs --device cuda: mmengine's AmpOptimWrapper runs on accelerators only")
    if args.repeats < 1:
        parser.error(f'--repeats {args.repeats} should be at least 1')
    args.names = args.names or list(BENCHMARKS)
    return args


def about(args: argparse.Namespace) -> dict:
    """What the numbers were made with."""
    gpu = torch.cuda.get_device_name() if args.device == 'cuda' else None
    hardware = dict(cpu=cpu_name(), cores=os.cpu_count(), threads=torch.get_num_threads(), gpu=gpu,
                    load=os.getloadavg())
    return dict(hardware=hardware, torch=torch.__version__, versions=versions(), preset=args.preset,
                device=args.device, dtype=args.dtype, command=shlex.join(['python', *sys.argv]))


def cpu_name() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    return next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')),
                platform.processor())


if __name__ == '__main__':
    sys.exit(main())
