"""ImageNet, ResNet-34 to ResNet-18, on many GPUs: where the time of a step would go, from counts and stated
assumptions.

    python benchmarks/on_paper.py [--gpus 8 64] [--teraflops 10 60 120] [--batch 32] [--cores 12] [--json
    FILE] ...

Counted here: the operations of a step (convolutions and matrix products), how many operators the host starts
for it, the bytes of gradients, images and snapshots. Measured on a CPU core, and given as options: the
teacher's forward pass beside a student's step (`scale.py`; by default the ratio of their operations), and
milliseconds to make a training image of its file (`imagenet_input.py`). Assumed, as it takes GPUs to measure:
what they sustain, the bandwidths, and the time to start an operator. The table is arithmetic.
"""

import argparse
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')

from measure import Contender, operations  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from steps import distilling, mmengine_contender  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from workload import Workload, build, check_batch, make_workload, snapshots  # noqa: E402

from ckd_mm.files import write_json  # noqa: E402
from ckd_mm.flops import network_flops  # noqa: E402

TRAINING_IMAGES = 1_281_167
BACKWARD = 2 / 3  # of a training step's operations; gradients are all-reduced meanwhile


@dataclass(frozen=True)
class Counts:
    """
    Args:
        teacher_step, student_step: operations of training on one image, forward and backward.
        teacher_forward: operations of the frozen teacher on one image.
        teacher_gradients, student_gradients: bytes, float32.
        image: bytes of one cropped image, uint8.
        snapshot: bytes of the teacher's weights and buffers.
        teacher_starts, student_starts, taught_starts: operators that the host starts in a step: of the
            teacher's own training, of the student's without a teacher, and with one.
    """
    teacher_step: float
    student_step: float
    teacher_forward: float
    teacher_gradients: int
    student_gradients: int
    image: int
    snapshot: int
    teacher_starts: int
    student_starts: int
    taught_starts: int


@dataclass(frozen=True)
class Assumptions:
    """
    Args:
        gpus: processes, one GPU each.
        teraflops: 1e12 operations a second that a GPU sustains in training, all its small operations
            included.
        batch: images a GPU and step.
        teacher_forward: time of the frozen teacher / time of a student's step; None: as their operations.
        decode: milliseconds to make a training image from its file on one core.
        cores: CPU cores a GPU that load images.
        all_reduce: 1e9 bytes a second of a ring over all GPUs.
        copy: 1e9 bytes a second from the host to one GPU.
        start: microseconds until the host has started an operator (eager; compiled networks and CUDA graphs
            start far fewer).
    """
    gpus: int
    teraflops: float
    batch: int
    teacher_forward: float | None
    decode: float
    cores: int
    all_reduce: float
    copy: float
    start: float


class Starts(TorchDispatchMode):
    """Counts the operators inside the block that compute something; views only describe what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        aliases = [returned.alias_info for returned in function._schema.returns]
        self.count += not any(alias is not None and not alias.is_write for alias in aliases)
        return function(*args, **(kwargs or {}))


def starts(contender: Contender) -> int:
    """Of one step, the optimizer's included; not the first, which also makes the optimizer's state."""
    contender.step(contender.batch())
    batch = contender.batch()
    with Starts() as counter:
        contender.step(batch)
    return counter.count


def as_on_a_gpu(model: nn.Module, work: Workload) -> Contender:
    """A step whose optimizer treats all weights at once, which torch does by default on a GPU and not on a
    CPU."""
    wrapper = work.optim_wrapper(model.train())
    for group in wrapper.param_groups:
        group['foreach'] = True
    return Contender(lambda batch: model.train_step(batch, wrapper)['loss'], work.collated)


def count(work: Workload) -> Counts:
    """Of the workload's networks and batch. Operations are counted on its first two images; operators, of
    which there are as many for
    images of any size, on all images with few pixels."""
    one = replace(work, images=work.images[:2], labels=work.labels[:2])
    thin = replace(work, images=work.images[..., ::7, ::7].contiguous())
    teacher, student = build(work.teacher), build(work.student)
    weights = {
        network: 4 * sum(parameter.numel() for parameter in network.parameters())
        for network in (teacher, student)
    }
    snapshot = sum(tensor.nbytes for tensor in teacher.state_dict().values())
    forward = network_flops(teacher, work.images)
    with snapshots(work, [teacher]) as files:
        taught_starts = starts(as_on_a_gpu(distilling(work, build(work.student), files), thin))
    return Counts(teacher_step=operations(mmengine_contender(teacher, one)) / 2,
                  student_step=operations(mmengine_contender(student, one)) / 2,
                  teacher_forward=forward,
                  teacher_gradients=weights[teacher],
                  student_gradients=weights[student],
                  image=work.images[0].nbytes,
                  snapshot=snapshot,
                  teacher_starts=starts(as_on_a_gpu(teacher, thin)),
                  student_starts=starts(as_on_a_gpu(student, thin)),
                  taught_starts=taught_starts)


def stages(counts: Counts, given: Assumptions) -> dict[str, dict]:
    """A step of each: training the teacher, distilling, and distilling from cached targets (the teacher never
    runs)."""
    student = milliseconds(counts.student_step, given)
    share = counts.teacher_forward / counts.student_step if given.teacher_forward is None else given.teacher_forward
    teacher = milliseconds(counts.teacher_step, given)
    return {
        'teacher alone':
        step_of(teacher, 0.0, counts.teacher_gradients, counts.teacher_starts, counts, given),
        'student, taught':
        step_of(student, share * student, counts.student_gradients, counts.taught_starts, counts, given),
        'student, cached':
        step_of(student, 0.0, counts.student_gradients, counts.student_starts, counts, given)
    }


def milliseconds(operations_an_image: float, given: Assumptions) -> float:
    return operations_an_image * given.batch / given.teraflops / 1e9


def step_of(learns: float, teaches: float, gradients: int, starts_: int, counts: Counts,
            given: Assumptions) -> dict:
    """Milliseconds of one step by part, what binds, and what follows from it.

    A ring moves :math:`2 (n - 1) / n` of the gradients through each GPU, during the backward pass; ``waits``
    is what lasts longer than that. The host starts operators, and its cores load images, beside all of it, so
    a step takes as long as the slowest of the three.
    """
    reduces = 2 * (given.gpus - 1) / given.gpus * gradients / given.all_reduce / 1e6
    waits = max(0.0, reduces - BACKWARD * learns)
    copies = given.batch * counts.image / given.copy / 1e6
    parts = dict(learns=learns, teaches=teaches, waits=waits, copies=copies)
    gpu = sum(parts.values())
    beside = dict(starts=starts_ * given.start / 1e3, loads=given.batch * given.decode / given.cores)
    step = max(gpu, *beside.values())
    binds = max(parts, key=parts.__getitem__) if step == gpu else max(beside, key=beside.__getitem__)
    return dict(parts,
                **beside,
                all_reduce=reduces,
                step=step,
                binds=binds,
                images_per_second=given.gpus * given.batch / step * 1e3,
                cores_wanted=given.batch * given.decode / max(gpu, beside['starts']),
                epoch_minutes=TRAINING_IMAGES / (given.gpus * given.batch) * step / 6e4)


def table(counts: Counts, cases: list[Assumptions]) -> list[dict]:
    return [dict(gpus=case.gpus, teraflops=case.teraflops, stage=name, **row)
            for case in cases for name, row in stages(counts, case).items()]


COLUMNS = (('GPUs', 'gpus', '{}'), ('TFLOP/s', 'teraflops', '{:g}'), ('stage', 'stage', '{}'),
           ('learns', 'learns', '{:.2f}'), ('teaches', 'teaches', '{:.2f}'), ('waits', 'waits', '{:.2f}'),
           ('copies', 'copies', '{:.2f}'), ('starts', 'starts', '{:.2f}'), ('loads', 'loads', '{:.2f}'),
           ('step', 'step', '{:.2f}'), ('binds', 'binds', '{}'), ('images/s', 'images_per_second', '{:.0f}'),
           ('cores', 'cores_wanted', '{:.1f}'), ('min/epoch', 'epoch_minutes', '{:.2f}'))


def markdown(rows: list[dict]) -> str:
    """The table as the docs have it: milliseconds a step, and CPU cores a GPU that would keep it fed."""
    lines = [' | '.join(title for title, _, _ in COLUMNS), ' | '.join('---' for _ in COLUMNS)]
    lines += [' | '.join(form.format(row[key]) for _, key, form in COLUMNS) for row in rows]
    return '\n'.join(f'| {line} |' for line in lines)


def main() -> int:
    args = parse_args()
    work = make_workload('imagenet', 'cpu', 'fp32', repeats=1)
    MMLogger.get_instance('benchmarks', log_level='ERROR')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        counts = count(replace(work, images=work.images[:args.batch], labels=work.labels[:args.batch]))
    cases = [
        Assumptions(gpus, teraflops, args.batch, args.teacher_forward, args.decode, args.cores,
                    args.all_reduce[0] if gpus <= args.machine else args.all_reduce[1], args.copy, args.start)
        for gpus in args.gpus for teraflops in args.teraflops
    ]
    rows = table(counts, cases)
    print(f'operations an image: student step {counts.student_step / 1e9:.2f}e9, teacher forward '
          f'{counts.teacher_forward / 1e9:.2f}e9, '
          f'teacher step {counts.teacher_step / 1e9:.2f}e9')
    print(f'bytes: gradients of the student {counts.student_gradients / 1e6:.1f}e6, of the teacher '
          f'{counts.teacher_gradients / 1e6:.1f}e6; '
          f'an image {counts.image / 1e6:.3f}e6; a snapshot {counts.snapshot / 1e6:.1f}e6')
    print(f'operators a step: student {counts.student_starts}, taught {counts.taught_starts}, teacher '
          f'{counts.teacher_starts}')
    print(markdown(rows))
    if args.json is not None:
        write_json(args.json, dict(counts=vars(counts), assumptions=[vars(case) for case in cases],
                                   rows=rows))
    return 0


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Milliseconds of a step on many GPUs, on paper.',
                                     allow_abbrev=False)
    parser.add_argument('--gpus', nargs='+', type=int, default=[8, 64])
    parser.add_argument('--teraflops',
                        nargs='+',
                        type=float,
                        default=[10, 60, 120],
                        help='sustained by a GPU')
    parser.add_argument('--batch', type=int, default=32, help='images a GPU')
    parser.add_argument('--teacher-forward', type=float, help="time of the teacher's forward pass / "
                                                              "student's step; default: by count")
    parser.add_argument('--decode', type=float, default=1.0, help='milliseconds an image and core, see '
                                                                  'imagenet_input.py')
    parser.add_argument('--cores', type=int, default=12, help='CPU cores a GPU')
    parser.add_argument('--all-reduce', nargs=2, type=float, default=[100, 10], metavar='GB/S',
                        help='inside a machine, and between machines')
    parser.add_argument('--machine', type=int, default=8, help='GPUs of one machine')
    parser.add_argument('--copy', type=float, default=20, help='GB/s from the host to a GPU')
    parser.add_argument('--start', type=float, default=10, help='microseconds to start an operator')
    parser.add_argument('--json', type=Path, metavar='FILE')
    args = parser.parse_args(arguments)
    check_batch(parser, 'imagenet', args.batch)
    return args


if __name__ == '__main__':
    sys.exit(main())
