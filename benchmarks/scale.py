"""How the cost of a distilled step grows with teachers, with classes and with processes, each beside a plain
step in the same run.

    python benchmarks/scale.py [teachers] [classes] [processes] [--json FILE] [--figure FILE] [--device
    cpu|cuda]
                               [--preset NAME] [--batch N] [--teachers M ...] [--repeats N]

Beside what is measured stands what the operations foretell, counted in one step of either (convolutions and
matrix products). Two processes are gloo's on this machine's CPU, a thread each, and are left out on a GPU.
"""

import argparse
import copy
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from cached import cached_vs_plain  # noqa: E402
from measure import Pair, operations, paired_ratios, summary  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.model import MMDistributedDataParallel  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from run import about  # noqa: E402
from scale_figure import AXES, Row, draw, sentences  # noqa: E402
from steps import distilling, mmengine_contender  # noqa: E402
from workload import Workload, add_arguments, build, check_arguments, check_batch, make_workload, snapshots  # noqa: E402

from ckd_mm.files import write_json  # noqa: E402

TEACHERS, CLASSES, PROCESSES = (1, 2, 4, 8), (10, 100, 1000), 2
PATIENCE = 1800  # seconds for the processes
CACHED_ROWS = 12_800  # targets in the files: 51 MB of 1,000 classes


def against_teachers(work: Workload, counts: Sequence[int] = TEACHERS) -> list[Row]:
    """A step with so many snapshots as teachers / a plain mmpretrain step of the student. With cached targets
    it is one and the same
    step, since what is kept is the mean over the teachers: it is measured once, with the targets of four, and
    stands in each row."""
    from_files = with_cached_targets(work)
    return [dict(teachers=count, **measured(work, count), **from_files) for count in counts]


def against_classes(work: Workload, counts: Sequence[int] = CLASSES) -> list[Row]:
    """A step with one teacher / a plain one, both networks with so many classes."""
    works = {count: with_classes(work, count) for count in counts}
    return [
        dict(classes=count, **measured(own, 1), **with_cached_targets(own)) for count, own in works.items()
    ]


def measured(work: Workload, teachers: int) -> Row:
    """``summary`` of the ratios, and ``by_count``, the ratio of operations."""
    with snapshots(work, [build(work.teacher) for _ in range(teachers)]) as files:

        def make_pair() -> Pair:
            return mmengine_contender(distilling(work, build(work.student), files), work), mmengine_contender(
                build(work.student), work)

        pair = make_pair()
        pair[0].step(pair[0].batch())  # teachers are built
        by_count = operations(pair[0]) / operations(pair[1])
        return dict(summary(paired_ratios(make_pair, work.repeats, work.steps, work.device)),
                    by_count=by_count)


def with_cached_targets(work: Workload) -> Row:
    """``cached_median`` and so on: a step whose targets are read from files / a plain step."""
    return prefixed('cached_', summary(cached_vs_plain(work, CACHED_ROWS)))


def prefixed(prefix: str, row: Row) -> Row:
    return {prefix + key: value for key, value in row.items()}


def with_classes(work: Workload, count: int) -> Workload:
    """The same networks, but for the size of their last layer."""
    teacher, student = copy.deepcopy(work.teacher), copy.deepcopy(work.student)
    for model in (teacher, student):
        model['head']['num_classes'] = model['data_preprocessor']['num_classes'] = count
        model['head'].pop('topk', None)
    labels = torch.randint(count, work.labels.shape, generator=torch.Generator().manual_seed(0))
    return replace(work, teacher=teacher, student=student, labels=labels)


def against_processes(work: Workload, patience: float = PATIENCE) -> list[Row]:
    """Steps of one and of two processes, plain and distilled (one teacher), each / a plain step of one
    process alone.

    Every process takes a whole batch: with perfect scaling a step of two takes as long as a step of one, on
    twice the images. While one process is timed alone the other waits.

    Args:
        patience: see :func:`wait_for`, which raises.
    """
    context = multiprocessing.get_context('fork')  # all is imported already
    with snapshots(work, [build(work.teacher)]) as files, tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / 'seconds.npy'
        processes = [
            context.Process(target=one_process, args=(rank, work, files, folder, results))
            for rank in range(PROCESSES)
        ]
        for process in processes:
            process.start()
        wait_for(processes, patience)
        seconds = np.load(results)
    ratios = seconds / seconds[:, :1]
    alone, taught_alone, together, taught_together = ratios.transpose(1, 2, 0)
    return [process_row(1, taught_alone, alone), process_row(PROCESSES, taught_together, together)]


def wait_for(processes: Sequence[multiprocessing.Process], patience: float) -> None:
    """Until all have ended. Those that still run when one has failed, or when patience (seconds) ends, are
    killed."""
    last = time.monotonic() + patience
    failed, running = [], list(processes)
    while running and not failed and time.monotonic() < last:
        wait([process.sentinel for process in running], last - time.monotonic())
        running = [process for process in processes
                   if process.exitcode is None]  # first: one that fails now counts as both
        failed = [process.exitcode for process in processes if process.exitcode]
    for process in running:
        process.kill()
        process.join()
    if failed:
        raise RuntimeError(f'a process of the benchmark ended with exit status {failed[0]}: its own message '
                           'is above')
    if running:
        raise RuntimeError(f'{len(running)} of the {len(processes)} processes of the benchmark had not '
                           f'ended after {patience:g} s and were '
                           'killed: take fewer --repeats, a smaller --batch or a smaller --preset')


def process_row(processes: int, distilled: np.ndarray, plain: np.ndarray) -> Row:
    """Of ratios (2, repeats): of time, and of one process's own processor time, in which other work on the
    machine counts for little."""
    return dict(processes=processes,
                **summary(distilled[0]),
                **prefixed('plain_', summary(plain[0])),
                **prefixed('processor_', summary(distilled[1])),
                **prefixed('plain_processor_', summary(plain[1])))


def one_process(rank: int, work: Workload, files: Sequence[str], folder: str, results: Path) -> None:
    """Times, in turn, plain and distilled steps of rank 0 alone and of all; rank 0 writes seconds, (repeats,
    4, 2), the last of them by
    the clock and by its own processor time."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=PROCESSES)
    alone = [
        mmengine_contender(model, work)
        for model in (build(work.student), distilling(work, build(work.student), files))
    ]
    together = [
        mmengine_contender(MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False), work)
        for model in (build(work.student), distilling(work, build(work.student), files))
    ]
    contenders = [*alone, *together]
    seconds = np.zeros((work.repeats + 1, len(contenders), 2))  # the first is to warm up
    for repeat in range(len(seconds)):
        for column in np.roll(range(len(contenders)), repeat):
            batch = contenders[column].batch()
            dist.barrier()
            start = np.array([time.perf_counter(), time.process_time()])
            if rank == 0 or contenders[column] in together:
                contenders[column].step(batch)
            seconds[repeat, column] = np.array([time.perf_counter(), time.process_time()]) - start
            dist.barrier()
    if rank == 0:
        np.save(results, seconds[1:])
    dist.destroy_process_group()


def main() -> int:
    args = parse_args()
    work = make_workload(args.preset, args.device, args.dtype, args.repeats)
    if args.batch is not None:
        work = replace(work, images=work.images[:args.batch], labels=work.labels[:args.batch])
    MMLogger.get_instance('benchmarks', log_level='ERROR')
    # processes first: they are forked, which is safest from a process that has not computed yet
    measure = dict(processes=against_processes,
                   teachers=lambda work: against_teachers(work, args.teachers),
                   classes=against_classes)
    found = {}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for name in (name for name in measure if name in args.names):
            found[name] = measure[name](work)
            for row in found[name]:
                others = [key for key in row if key == 'by_count' or key.endswith('_median')]
                beside = '   '.join(f'{key.replace("_", " ")} {row[key]:.3f}' for key in others)
                print(f'{name:<10} {row[name]:>5}   {row["median"]:.3f} ({row["low"]:.3f} to '
                      f'{row["high"]:.3f})   {beside}', flush=True)
    print('\n'.join(sentences(found)))
    if args.json is not None:
        write_json(args.json, dict(_about=dict(about(args), batch=len(work.labels)), **found))
    if args.figure is not None:
        draw(found, args.figure)
    return 0


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='The cost of a distilled step against teachers, classes '
                                                 'and processes.')
    parser.add_argument('names', nargs='*', metavar='NAME', help=f'against what; default: {", ".join(AXES)}')
    parser.add_argument('--json', type=Path, metavar='FILE')
    parser.add_argument('--figure', type=Path, metavar='FILE', help='a .png or .svg to draw')
    add_arguments(parser, repeats=30)
    parser.add_argument('--batch', type=int, help="images; default: the preset's")
    parser.add_argument('--teachers', nargs='+', type=int, default=TEACHERS, metavar='M')
    args = parser.parse_args(arguments)
    unknown = [name for name in args.names if name not in AXES]
    if unknown:
        parser.error(f'nothing is measured against {unknown[0]!r}; there are {", ".join(AXES)}')
    check_arguments(parser, args)
    if args.batch is not None:
        check_batch(parser, args.preset, args.batch)
    if min(args.teachers) < 1:
        parser.error(f'--teachers {min(args.teachers)} should be at least 1')
    if 'processes' in args.names and args.device == 'cuda':
        parser.error("processes are gloo's, on the CPU: leave --device cuda out")
    args.names = args.names or [name for name in AXES if name != 'processes' or args.device == 'cpu']
    return args


if __name__ == '__main__':
    sys.exit(main())
