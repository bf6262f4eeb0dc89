"""Streams of transfers against closed forms, exact to the cycle.

A transfer of S bytes at one byte per cycle is served for S cycles and complete L cycles later.
"""

import numpy as np
import pytest

from accelsim.engine import compiled, reference
from tests.handmade import load, machine_of, program_of, store

LATENCY_CYCLES = 100
engines = pytest.mark.parametrize("engine", [compiled, reference])


def stream(count, num_bytes, *, stride=0):
    """Loads of `num_bytes`, each into the next of 15 slots and `stride` bytes after the last."""
    return [load(1 + i % 15, i * stride, num_bytes) for i in range(count)]


@engines
@pytest.mark.parametrize("in_flight", [1, 2, 4])
@pytest.mark.parametrize("transfers", [1, 5, 8])
@pytest.mark.parametrize("service", [1, 30, 100, 400])
def test_transfers_in_flight_hide_latency(engine, in_flight, transfers, service):
    """Little's law: k transfers in flight move k S bytes in the S + L cycles that each one takes.

    Transfer i + k is requested when transfer i is complete, unless the memory is the limit, which
    takes S for each. With n - 1 = q k + r the last of n is complete after
    S + L + max((n - 1) S, q (S + L) + r S).
    """
    machine = machine_of(latency_cycles=LATENCY_CYCLES, load_in_flight=in_flight)
    rounds, rest = divmod(transfers - 1, in_flight)
    way = service + LATENCY_CYCLES
    expected = way + max((transfers - 1) * service, rounds * way + rest * service)
    assert engine.schedule(program_of([stream(transfers, service)]), machine).cycles == expected


@engines
@pytest.mark.parametrize("channels", [1, 2, 4, 8])
def test_a_stream_over_all_channels_runs_at_their_common_rate(engine, channels):
    """Each of n transfers puts the same bytes on each of C channels: n S / (C w) + L cycles."""
    transfers, interleave, channel_rate = 10, 64, 2
    num_bytes = 3 * interleave * channels
    machine = machine_of(
        channels=channels,
        interleave_bytes=interleave,
        hbm_bytes_per_cycle=channel_rate * channels,
        latency_cycles=LATENCY_CYCLES,
        load_in_flight=transfers,
    )
    program = program_of([stream(transfers, num_bytes, stride=num_bytes)])
    expected = transfers * num_bytes // (channel_rate * channels) + LATENCY_CYCLES
    assert engine.schedule(program, machine).cycles == expected


@engines
@pytest.mark.parametrize(
    ("stride_pieces", "channels_used"), [(1, 4), (2, 2), (4, 1), (3, 4), (6, 2)]
)
def test_a_stride_may_leave_channels_idle(engine, stride_pieces, channels_used):
    """Pieces of one channel's interleave at a stride of s of them meet C / gcd(s, C) channels."""
    transfers, channels, interleave = 12, 4, 64
    machine = machine_of(
        channels=channels,
        interleave_bytes=interleave,
        hbm_bytes_per_cycle=channels,
        latency_cycles=LATENCY_CYCLES,
        load_in_flight=transfers,
    )
    assert channels_used == channels // np.gcd(stride_pieces, channels)
    program = program_of([stream(transfers, interleave, stride=stride_pieces * interleave)])
    expected = transfers // channels_used * interleave + LATENCY_CYCLES
    assert engine.schedule(program, machine).cycles == expected


@engines
@pytest.mark.parametrize("unit", ["load", "store"])
def test_a_port_slower_than_the_memory_sets_the_rate(engine, unit):
    """The port serves one transfer after the other: n S / w + L cycles."""
    transfers, num_bytes, port_rate = 9, 128, 4
    machine = machine_of(
        hbm_bytes_per_cycle=64,
        latency_cycles=LATENCY_CYCLES,
        **{f"{unit}_bytes_per_cycle": port_rate, f"{unit}_in_flight": transfers},
    )
    transfer = load if unit == "load" else store
    item = [transfer(1 + i, 0, num_bytes) for i in range(transfers)]
    expected = transfers * num_bytes // port_rate + LATENCY_CYCLES
    assert engine.schedule(program_of([item]), machine).cycles == expected


@engines
def test_fractions_of_a_cycle_do_not_add_up(engine):
    """Ten transfers of a quarter of a cycle take two and a half cycles, rounded up once."""
    machine = machine_of(hbm_bytes_per_cycle=4, latency_cycles=LATENCY_CYCLES, load_in_flight=10)
    assert engine.schedule(program_of([stream(10, 1)]), machine).cycles == 3 + LATENCY_CYCLES


@engines
@pytest.mark.parametrize("in_flight", [2, 3])
def test_two_cores_share_the_memory_fairly(engine, in_flight):
    """Cores with k transfers in flight are served k at a time, in turns, while both have work.

    The memory never idles: 2 n S + L cycles for n transfers each. Core 0 asked first, so the last
    turn is that of core 1, k S earlier for core 0.
    """
    transfers, service = 6, 100
    machine = machine_of(cores=2, latency_cycles=LATENCY_CYCLES, load_in_flight=in_flight)
    items = [stream(transfers, service)] * 2
    run = engine.schedule(program_of(items), machine)
    ends = [int(run.end[run.op_core == core].max()) for core in range(2)]
    together = 2 * transfers * service + LATENCY_CYCLES
    assert ends == [together - in_flight * service, together]


@engines
def test_loads_and_stores_share_the_memory(engine):
    """A queue each, one memory: (n + m) S + L cycles."""
    loads, stores, service = 5, 3, 100
    item = stream(loads, service) + [store(1 + loads + i, 0, service) for i in range(stores)]
    machine = machine_of(latency_cycles=LATENCY_CYCLES, load_in_flight=8, store_in_flight=8)
    expected = (loads + stores) * service + LATENCY_CYCLES
    assert engine.schedule(program_of([item]), machine).cycles == expected
