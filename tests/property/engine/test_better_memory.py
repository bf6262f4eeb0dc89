"""A better banked memory is not slower: a law for a stream, found to hold for the kernels.

For any program it is no law: transfers that meet in another order may be slower, as with the flat
memory (see `test_monotonicity`).
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled
from accelsim.engine.banked.stream import Accesses, stream_seconds
from accelsim.hardware.dram import ControllerSpec
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from tests.property.engine.test_shipped_kernels import PROBLEMS
from tests.strategies.memories import device_of

FIRST_IN_FIRST_OUT = ControllerSpec(window=1, write_window=1)
IN_TURN = ("row", "column", "bank", "bank_group", "rank", "pseudo_channel", "channel")
"""Channels and banks take turns, so larger rows and more of them move no burst to another bank."""


def seconds_of(bursts, *, channels=1, **shape):
    device = device_of({"rows": 2**10, "pseudo_channels": 1, **shape}, {"t_refi": 2**20})
    accesses = Accesses(
        addresses=np.asarray(bursts, np.int64) * device.shape.burst,
        is_write=np.zeros(len(bursts), np.int64),
        channels=channels,
        mapping=IN_TURN,
    )
    return stream_seconds(accesses, device, FIRST_IN_FIRST_OUT, 2**20)


@settings(max_examples=200)
@given(st.integers(0, 200), st.integers(1, 400))
def test_a_range_of_bytes_is_not_slower_with_larger_rows_or_more_channels(first, count):
    """Served in order, fewer rows are opened, or the same ones in more places at once.

    Without refreshes, which may fall before or after the last row of a range.
    """
    bursts = np.arange(first, first + count)
    slowest = seconds_of(bursts)
    assert seconds_of(bursts, columns=8) <= slowest
    assert seconds_of(bursts, channels=2) <= slowest


def test_more_banks_can_slow_a_range_of_bytes():
    """The fifth burst finds the row of the first open among four banks, and none among eight."""
    assert seconds_of(range(5), banks=2) < seconds_of(range(5), banks=4)


def with_shape(machine, **changes):
    """Return the machine with another shape of every device."""
    device = machine.hbm.dram
    shape = device.shape.model_copy(update=changes)
    fields = machine.hbm.model_dump(exclude={"device"})
    hbm = BankedHbmSpec(**fields, device=device.model_copy(update={"shape": shape}))
    return machine.model_copy(update={"hbm": hbm})


@pytest.mark.parametrize("kernel_name", ["gemm", "flash"])
def test_a_better_memory_does_not_slow_a_kernel(kernel_name):
    machine = load_machine("ascend-910b-banked")
    name, problem = PROBLEMS[kernel_name]
    kernel = get_kernel(name)
    program, _ = kernel.record(problem, machine, kernel.parameters(), None)
    stacks = [load_machine("ascend-910b-banked", {"hbm.stacks": str(n)}) for n in (1, 2, 4, 8)]
    banks = [with_shape(machine, banks=n) for n in (2, 4, 8)]
    for machines in (stacks, banks):
        cycles = [compiled.schedule(program, each).cycles for each in machines]
        assert cycles == sorted(cycles, reverse=True)
