"""Copies of weights in memory that is kept."""

import io
import resource
from collections import OrderedDict

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ckd_mm.memory_format import set_memory_format
from ckd_mm.trajectory import write_snapshot
from ckd_mm.trajectory.host_memory import HostMemory

from ..conftest import resnet
from ..helpers import assert_same_weights, is_last, network, weights_of, with_statistics


def as_file(weights) -> bytes:
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getvalue()


def odd_weights() -> OrderedDict:
    """Tied, transposed, cut out, empty, without dimensions, of many types."""
    embedding = torch.nn.Parameter(torch.randn(5, 3))
    flat = torch.arange(12.)
    return OrderedDict(embedding=embedding, tied=embedding, transposed=embedding.t(), first=flat[:4],
                       second=flat[4:].view(2, 4),
                       images=torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
                       empty=torch.empty(0, 7), also_empty=torch.empty(0, dtype=torch.int8),
                       steps=torch.tensor(3), half=torch.randn(5).half(), bits=torch.tensor([True, False]),
                       brain=torch.randn(3).bfloat16(), expanded=torch.ones(1).expand(4))


@pytest.mark.parametrize('make', [odd_weights, lambda: network(with_statistics(resnet(3)), 1).state_dict()],
                         ids=['odd', 'resnet'])
def test_saved_a_copy_is_the_file_of_the_same_weights_in_the_usual_order(make):
    """Byte for byte, and tied weights are saved once."""
    weights = make()
    usual = OrderedDict((name, value.detach().contiguous().clone()) for name, value in weights.items())
    if 'tied' in usual:
        usual['tied'] = usual['embedding']
    copy, events = HostMemory().copy(weights)
    assert as_file(copy) == as_file(usual) and events == []
    assert_same_weights(copy, weights)
    assert all(value.is_contiguous() and not value.requires_grad for value in copy.values())


def test_a_copy_does_not_follow_the_weights():
    weights = dict(a=torch.ones(3), b=torch.zeros(2))
    copy, _ = HostMemory().copy(weights)
    weights['a'].add_(1)
    assert copy['a'].tolist() == [1, 1, 1]


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_memory_is_used_again_and_given_back():
    """40 MB: new memory costs a page fault for every 4 KiB (or for 2 MiB, where pages are huge)."""
    memory = HostMemory()
    weights = {str(index): torch.full((1_000_000, ), float(index)) for index in range(10)}
    first = {name: value.data_ptr() for name, value in memory.copy(weights)[0].items()}
    weights['3'].fill_(33)
    before = page_faults()
    copy, _ = memory.copy(weights)
    assert page_faults() - before < 100
    assert {name: value.data_ptr() for name, value in copy.items()} == first
    assert_same_weights(copy, weights)
    memory.clear()
    assert not memory._blocks and not memory._sources and not memory._copy


def test_other_weights_get_other_memory():
    """Of other sizes, of other types, elsewhere, or laid out otherwise."""
    memory = HostMemory()
    one = torch.randn(4, 4)
    for weights in (dict(a=one), dict(a=one, b=torch.randn(7)), dict(a=one.t()), dict(a=one[1:]),
                    dict(a=one.half()), dict(b=one), dict(a=one.clone()), dict(a=one)):
        copy, _ = memory.copy(weights)
        assert_same_weights(copy, weights)
        one.add_(1)
        assert not torch.equal(next(iter(copy.values())).float(), one)


class Operations(TorchDispatchMode):
    """Names of what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_channels_last_weights_are_written_from_where_they_wait(tmp_path):
    """To put them into the usual order is done while training waits: the thread that writes neither computes
    nor holds them again."""
    taken = network(with_statistics(resnet(2)), 1)
    set_memory_format(taken, torch.channels_last)
    assert is_last(taken.backbone.conv1.weight)
    copy, _ = HostMemory().copy(taken.state_dict(keep_vars=True))
    operations = Operations()
    with operations:
        file = write_snapshot(tmp_path / 'epoch_1.pth', copy, epoch=1, iteration=1, lr=None, model={},
                              classes=None).file
    assert set(operations.seen) <= {'detach'}
    assert_same_weights(weights_of(file), taken.state_dict())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_weights_on_a_gpu():
    """Copied on the stream between the steps before and after; the host's memory is pinned and kept."""
    memory = HostMemory()
    weights = {str(index): torch.full((1 << 22, ), float(index), device='cuda') for index in range(8)}
    places = None
    for step in range(3):
        copy, events = memory.copy(weights)
        for value in weights.values():
            value.add_(100)
        for event in events:
            event.synchronize()
        assert len(events) == 1 and all(value.device.type == 'cpu' and value.is_pinned()
                                        for value in copy.values())
        assert all(bool((value == float(name) + 100 * step).all()) for name, value in copy.items())
        assert places in (None, [value.data_ptr() for value in copy.values()])
        places = [value.data_ptr() for value in copy.values()]
