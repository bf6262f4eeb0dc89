"""A better banked memory is not slower: a law for some streams, found to hold for the kernels.

For any program it is no law, in neither detail: transfers that meet in another order may be slower,
as with the flat memory (see `test_monotonicity`).
"""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled
from accelsim.engine.memory.hbm.stream import Accesses, stream_seconds
from accelsim.hardware.dram import ControllerSpec
from accelsim.hardware.hbm import BankedHbmSpec, Detail
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from tests.property.engine.test_shipped_kernels import PROBLEMS, TILES
from tests.strategies.memories import device_of

DETAILS = get_args(Detail)
BANKED = "ascend-910b-banked"
IN_TURN = ("row", "column", "bank", "bank_group", "rank", "pseudo_channel", "channel")
"""Channels and banks take turns, so larger rows and more of them move no burst to another bank."""


def seconds_of(bursts, detail, *, channels=1, window=1, **shape):
    """Return the time of reads, without refreshes, which may fall before or after the last row."""
    device = device_of({"rows": 2**10, "pseudo_channels": 1, **shape}, {"t_refi": 2**20})
    accesses = Accesses(
        addresses=np.asarray(bursts, np.int64) * device.shape.burst,
        is_write=np.zeros(len(bursts), np.int64),
        channels=channels,
        mapping=IN_TURN,
    )
    controller = ControllerSpec(window=window, write_window=1)
    return stream_seconds(accesses, device, controller, 2**20, detail)


@pytest.mark.parametrize("detail", DETAILS)
@settings(max_examples=200)
@given(st.integers(0, 200), st.integers(1, 400))
def test_a_range_of_bytes_is_not_slower_with_larger_rows_or_more_channels(detail, first, count):
    """Served in order, fewer rows are opened, or the same ones in more places at once."""
    bursts = np.arange(first, first + count)
    slowest = seconds_of(bursts, detail)
    assert seconds_of(bursts, detail, columns=8) <= slowest
    assert seconds_of(bursts, detail, channels=2) <= slowest


@pytest.mark.parametrize("detail", DETAILS)
def test_more_banks_can_slow_a_range_of_bytes(detail):
    """The fifth burst finds the row of the first open among four banks, and none among eight."""
    assert seconds_of(range(5), detail, banks=2) < seconds_of(range(5), detail, banks=4)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 4000), min_size=1, max_size=200), st.sampled_from([1, 2, 4, 16]))
def test_a_larger_window_costs_placed_bursts_a_row_cycle_at_most(bursts, window):
    """What comes into sight earlier may take the slot of another, which then waits for its row.

    Of 8000 streams 21 became slower, by 8 clocks at most; a controller of commands made 143 slower,
    by up to 40, for it also closes other rows.
    """
    timing = device_of().timing
    wide = seconds_of(bursts, "bursts", window=2 * window)
    narrow = seconds_of(bursts, "bursts", window=window)
    assert wide <= narrow + timing.t_rc * timing.t_ck


@pytest.mark.parametrize(
    ("detail", "bursts", "window"),
    [("bursts", range(11, 16), 1), ("commands", [39, 59, 58, 6, 20, 83, 53, 43], 4)],
)
def test_a_larger_window_can_slow_a_stream(detail, bursts, window):
    """An anomaly of serving in the order of a list (Graham, SIAM J. Appl. Math. 17, 1969)."""
    wide = seconds_of(bursts, detail, window=2 * window)
    assert wide > seconds_of(bursts, detail, window=window)


def recorded(kernel_name, machine):
    """Return the program of a kernel with tiles that do not follow from the machine."""
    name, problem = PROBLEMS[kernel_name]
    kernel = get_kernel(name)
    program, _ = kernel.record(problem, machine, kernel.parameters(**TILES[name]), None)
    return program


def with_shape(machine, mapping=None, **changes):
    """Return the machine with another shape of every device."""
    device = machine.hbm.dram
    shape = device.shape.model_copy(update=changes)
    fields = machine.hbm.model_dump(exclude={"device"}) | ({"mapping": mapping} if mapping else {})
    hbm = BankedHbmSpec(**fields, device=device.model_copy(update={"shape": shape}))
    return machine.model_copy(update={"hbm": hbm})


def with_columns(machine, columns):
    """Return the machine with rows of more columns, the new ones above all other parts."""
    mapping = list(machine.hbm.mapping)
    mapping[mapping.index("column")] = "column:3"
    return with_shape(machine, mapping=("row", "column", *mapping[1:]), columns=columns)


@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("kernel_name", ["gemm", "flash"])
def test_a_better_memory_does_not_slow_a_kernel(kernel_name, detail):
    def loaded(key, values):
        return [
            load_machine(BANKED, {key: str(n), "hbm.detail": detail, "l2": None}) for n in values
        ]

    (machine,) = loaded("hbm.stacks", [4])
    program = recorded(kernel_name, machine)
    for machines in (
        loaded("hbm.stacks", [1, 2, 4, 8]),
        loaded("hbm.controller.window", [16, 32, 64, 128, 256]),
        loaded("hbm.controller.write_window", [16, 32, 64, 128, 256]),
        [with_shape(machine, banks=n) for n in (2, 4, 8)],
        [with_columns(machine, n) for n in (32, 64, 128)],
    ):
        cycles = [compiled.schedule(program, each).cycles for each in machines]
        assert cycles == sorted(cycles, reverse=True)
