"""Pipelines of equal tiles against closed forms, exact to the cycle.

A tile takes S cycles of service by the memory and a latency L, is computed on for C cycles with a
pipeline depth P, and may be stored with a service S' and the latency L. Its way through alone takes
T = S + L + C + P, or F = T + S' + L with the store.

The start of any op is the longest of the chains of ops that must come before it. A chain from the
first to the last of n tiles advances by one tile where two tiles follow each other on one server,
which costs S, C or S', and by b tiles where a buffer of b slots is used again: the load of tile
i + b waits for the computation on tile i, which costs T, and the computation on tile i + b for the
store of tile i, which costs U = C + P + S' + L. With M the largest cost of a server, W of a buffer
and n - 1 = q b + r, the longest chain uses one kind of step as far as it goes, because its length
is linear in the number of steps over buffers:

    cycles = F + max((n - 1) M, q W + r M)        (T in place of F without stores)

A single buffer (b = 1) gives n T: nothing overlaps. Slow computation gives S + L + n C + P, a slow
memory n S + L + C + P.
"""

import pytest

from accelsim.engine import compiled, reference
from tests.handmade import load, machine_of, program_of, store, vector

SERVICE_CYCLES = [1, 16, 100]
COMPUTE_CYCLES = [1, 40, 250]
engines = pytest.mark.parametrize("engine", [compiled, reference])


def pipeline_cycles(tiles: int, slots: int, way: int, server: int, buffer: int) -> int:
    """Return the closed form for a way, a slowest server and a slowest buffer, in cycles."""
    rounds, rest = divmod(tiles - 1, slots)
    return way + max((tiles - 1) * server, rounds * buffer + rest * server)


@engines
@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("tiles", [1, 2, 7, 8])
@pytest.mark.parametrize("service", SERVICE_CYCLES)
@pytest.mark.parametrize("compute", COMPUTE_CYCLES)
def test_load_and_compute(engine, slots, tiles, service, compute):
    latency, depth = 30, 5
    item = []
    for tile in range(tiles):
        slot = 1 + tile % slots
        item += [load(slot, 0, service), vector(9, compute, reads=[slot])]
    machine = machine_of(latency_cycles=latency, vector_depth_cycles=depth, load_in_flight=slots)
    way = service + latency + compute + depth
    expected = pipeline_cycles(tiles, slots, way, max(service, compute), way)
    assert engine.schedule(program_of([item]), machine).cycles == expected


@engines
@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("tiles", [1, 2, 7, 8])
@pytest.mark.parametrize("service", SERVICE_CYCLES)
@pytest.mark.parametrize("compute", COMPUTE_CYCLES)
@pytest.mark.parametrize("store_service", SERVICE_CYCLES)
def test_load_compute_and_store(engine, slots, tiles, service, compute, store_service):
    """Loads and stores go to a channel each, so that they do not share a server."""
    latency, depth, channel_bytes = 30, 5, 2**12
    item = []
    for tile in range(tiles):
        source, result = 1 + tile % slots, 4 + tile % slots
        item += [load(source, 0, service), vector(result, compute, reads=[source])]
        item += [store(result, channel_bytes, store_service)]
    machine = machine_of(
        channels=2,
        hbm_bytes_per_cycle=2,
        interleave_bytes=channel_bytes,
        latency_cycles=latency,
        vector_depth_cycles=depth,
        load_in_flight=slots,
        store_in_flight=slots,
    )
    alone = compute + depth
    way = service + latency + alone + store_service + latency
    server = max(service, compute, store_service)
    buffer = alone + latency + max(service, store_service)
    expected = pipeline_cycles(tiles, slots, way, server, buffer)
    assert engine.schedule(program_of([item]), machine).cycles == expected


@engines
def test_a_second_item_in_flight_loads_under_the_first(engine):
    """One item at a time costs n T; with two, the loads of the next begin while one computes.

    Item 1 is claimed in the cycle after the load of item 0 was requested, while the memory is busy
    with it. From there on the items form a pipeline whose buffer is the pair of items in flight:
    item i + 2 is claimed when item i has ended.
    """
    tiles, service, latency, compute = 6, 20, 30, 100
    items = [
        [load(1 + i % 2, 0, service), vector(9, compute, reads=[1 + i % 2])] for i in range(tiles)
    ]
    way = service + latency + compute
    one, two = (
        machine_of(items_in_flight=count, latency_cycles=latency, load_in_flight=2)
        for count in (1, 2)
    )
    assert engine.schedule(program_of(items), one).cycles == tiles * way
    assert engine.schedule(program_of(items), two).cycles == pipeline_cycles(
        tiles, 2, way, compute, way
    )


@engines
def test_phases_are_barriers(engine):
    """Phase p + 1 starts on all cores when the slowest item of phase p has ended."""
    longest = [30, 7, 50]
    items = [[vector(1, length - core)] for length in longest for core in range(3)]
    phases = [phase for phase in range(3) for _ in range(3)]
    run = engine.schedule(program_of(items, phases), machine_of(cores=3))
    assert run.start.tolist() == [0] * 3 + [30] * 3 + [37] * 3
    assert run.cycles == sum(longest)
