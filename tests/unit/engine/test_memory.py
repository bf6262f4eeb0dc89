"""The flat memory: which channel serves which bytes, and when."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.engine.memory.door import new_memory, request
from accelsim.engine.subcycles import SUBCYCLES, service_rate, service_subcycles
from accelsim.program.transfer import Transfer
from tests.handmade import machine_of, program_of
from tests.strategies.machines import machines

sizes = st.integers(1, 500)
addresses = st.integers(0, 2000)


def memory_of(*, channels=4, interleave_bytes=64, latency_cycles=10, channel_bytes_per_cycle=1):
    """Return an idle memory; at one byte per cycle a channel is busy for a cycle per byte."""
    machine = machine_of(
        channels=channels,
        interleave_bytes=interleave_bytes,
        latency_cycles=latency_cycles,
        hbm_bytes_per_cycle=channels * channel_bytes_per_cycle,
    )
    return new_memory(machine, program_of([]))


def busy_cycles(memory):
    return (memory.hbm.device.channel_free // SUBCYCLES).tolist()


def requested(memory, now, address, num_bytes):
    """Request a contiguous run of bytes."""
    return request(memory, now, Transfer(address, 1, num_bytes, num_bytes, -1, False))


@pytest.mark.parametrize(
    ("address", "num_bytes", "expected"),
    [
        (0, 64, [64, 0, 0, 0]),
        (0, 65, [64, 1, 0, 0]),
        (63, 1, [1, 0, 0, 0]),
        (63, 2, [1, 1, 0, 0]),
        (64, 64, [0, 64, 0, 0]),
        (192, 128, [64, 0, 0, 64]),
        (0, 256, [64, 64, 64, 64]),
        (0, 257, [65, 64, 64, 64]),
        (10, 256, [64, 64, 64, 64]),
        (250, 300, [64 + 38, 64, 64, 6 + 64]),
    ],
)
def test_bytes_lie_in_the_channels_in_turn(address, num_bytes, expected):
    memory = memory_of()
    done = requested(memory, 0, address, num_bytes)
    assert busy_cycles(memory) == expected
    assert done == max(expected) + 10


@given(addresses, sizes, st.integers(1, 6), st.integers(1, 70))
def test_every_byte_is_served_by_the_channel_of_its_address(
    address, num_bytes, channels, interleave_bytes
):
    memory = memory_of(channels=channels, interleave_bytes=interleave_bytes)
    requested(memory, 0, address, num_bytes)
    channel = np.arange(address, address + num_bytes) // interleave_bytes % channels
    assert busy_cycles(memory) == np.bincount(channel, minlength=channels).tolist()


def test_a_request_waits_for_earlier_ones_on_its_channel_only():
    memory = memory_of()
    assert requested(memory, 0, 0, 64) == 64 + 10
    assert requested(memory, 5, 0, 32) == 64 + 32 + 10
    assert requested(memory, 5, 64, 32) == 5 + 32 + 10


def test_an_idle_memory_serves_at_once():
    memory = memory_of()
    requested(memory, 0, 0, 64)
    assert requested(memory, 1000, 0, 64) == 1000 + 64 + 10


@given(st.lists(st.tuples(addresses, sizes, st.integers(0, 50)), min_size=1), machines())
def test_a_stream_is_never_faster_than_the_pins(requests, machine):
    memory, now, moved_bytes = new_memory(machine, program_of([])), 0, 0
    for address, num_bytes, pause in requests:
        now += pause
        moved_bytes += num_bytes
        done = requested(memory, now, address, num_bytes)
        assert done >= now + machine.hbm_latency_cycles + num_bytes // machine.hbm_bytes_per_cycle
    last_cycle = memory.hbm.device.channel_free.max() / SUBCYCLES
    # The rate is a quotient of doubles, rounded up to a subcycle per mebibyte.
    assert moved_bytes <= machine.hbm_bytes_per_cycle * last_cycle * (1 + 2**-50)


@given(st.floats(0.01, 1e4), st.integers(1, 2**30))
def test_a_service_is_rounded_up_by_less_than_a_subcycle(bytes_per_cycle, num_bytes):
    """And its rate by less than a subcycle for 2^20 bytes; doubles add a part in 2^50."""
    exact = num_bytes / bytes_per_cycle * SUBCYCLES
    found = service_subcycles(num_bytes, service_rate(bytes_per_cycle))
    slack = exact * 2**-50
    assert exact - slack <= found <= exact + num_bytes / 2**20 + 1 + slack
