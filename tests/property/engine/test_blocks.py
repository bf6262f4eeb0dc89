"""Tiles that are looked up at once change a cache as their lines would, one by one.

The rows of a gather are looked up one by one, so it stands for what is to be found.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine.memory.door import new_memory, request, traffic_of
from accelsim.engine.memory.sets import LINE, MOST_PLACES, last_uses
from accelsim.program.transfer import Transfer
from tests.handmade import cache_of, load, machine_of, program_of
from tests.strategies.machines import banked_machines, caches, machines

MOST_ROWS, MOST_BYTES = 9, 200
NOTHING = program_of([]).totals.requested

rows = st.integers(1, MOST_ROWS)
tiles = st.builds(
    lambda address, rows, row_bytes, step: Transfer(address, rows, row_bytes, step, -1, False),
    st.sampled_from([0, 32, 64, 96, 128, 256, 500, 640]),
    rows,
    st.sampled_from([16, 32, 48, 64, 96, 128, 200]),
    st.sampled_from([32, 64, 96, 128, 200, 256, 512]),
)
contiguous = tiles.map(lambda tile: tile._replace(step_bytes=tile.row_bytes))
kinds = st.sampled_from(["tile"] * 5 + ["gather", "store"])
accesses = st.lists(tiles | contiguous, min_size=1, max_size=4).flatmap(
    lambda few: st.lists(st.tuples(st.sampled_from(few), kinds, st.integers(0, 90)), max_size=40)
)
"""A few tiles again and again: which, how it is accessed, and cycles since the last one."""


def memory_of(machine):
    longest = [load(1, 0, MOST_BYTES, rows=MOST_ROWS)] * 2
    return new_memory(machine, program_of([longest], gathered_rows=range(MOST_ROWS)))


def one_by_one(transfer):
    return transfer if transfer.is_write else transfer._replace(first_index=0)


def assert_same(machine, drawn):
    memory, expected, time = memory_of(machine), memory_of(machine), 0
    for tile, kind, wait in drawn:
        time += wait
        transfer = one_by_one(tile) if kind == "gather" else tile._replace(is_write=kind == "store")
        end = request(memory, time, transfer)
        assert end == request(expected, time, one_by_one(transfer))
    assert traffic_of(memory, NOTHING) == traffic_of(expected, NOTHING)
    own, other = memory.cache, expected.cache
    np.testing.assert_array_equal(own.sets.ways[:, LINE], other.sets.ways[:, LINE])
    np.testing.assert_array_equal(last_uses(own.sets), last_uses(other.sets))


@settings(max_examples=1500)
@given(accesses, machines(l2=caches))
def test_as_one_by_one(drawn, machine):
    assert_same(machine, drawn)


roomy = st.builds(
    cache_of,
    sets=st.sampled_from([2, 3, 4, 8, 9]),
    ways=st.integers(2, 6),
    sectors=st.sampled_from([2, 4]),
    sector_bytes=st.sampled_from([16, 32]),
    writes=st.sampled_from(["back", "through"]),
)
"""Caches that keep some tiles, so that most look-ups are of blocks."""
beside = st.builds(
    lambda rows, widths: [
        Transfer(start, rows, width, 512, -1, False)
        for start, width in zip(np.cumsum([0, *widths]).tolist(), widths, strict=False)
    ],
    st.integers(2, 4),
    st.lists(st.sampled_from([16, 32, 48, 80, 96]), min_size=2, max_size=4),
)
"""Tiles beside each other, which share lines where one does not end with a line."""
neighbours = beside.flatmap(
    lambda few: st.lists(st.tuples(st.sampled_from(few), kinds, st.integers(0, 90)), max_size=40)
)


@settings(max_examples=1000)
@given(neighbours, machines(l2=roomy))
def test_tiles_that_share_lines_are_as_one_by_one(drawn, machine):
    assert_same(machine, drawn)


@settings(max_examples=300)
@given(accesses, banked_machines(l2=caches))
def test_as_one_by_one_before_a_banked_memory(drawn, machine):
    assert_same(machine, drawn)


def reads(step_bytes, row_bytes, starts, **cache):
    """Numbers of accesses to lines that were counted one by one, of tiles of four rows."""
    memory, looked_up = memory_of(machine_of(l2=cache_of(sets=64, ways=4, **cache))), [0]
    for time, start in enumerate(starts):
        request(memory, 1000 * time, Transfer(start, 4, row_bytes, step_bytes, -1, False))
        looked_up.append(int(memory.cache.sets.state[0].serial))
    return [later - before > 0 for before, later in pairwise(looked_up)]


@pytest.mark.parametrize(
    ("step_bytes", "row_bytes", "starts", "expected"),
    [
        (256, 64, [0, 0, 0], [True, False, False]),
        (256, 32, [0, 32, 0, 32], [True, True, False, False]),
        (32, 32, [0, 0, 128, 0, 128], [True, False, True, False, False]),
        (64, 48, [0, 0], [True, False]),
        (96, 96, [0, 0], [True, False]),
        (80, 80, [32, 32], [True, True]),
        (320, 96, [0, 96, 0, 96, 192, 0, 96], [True, True, False, False, True, False, False]),
        (320, 160, [0, 160, 0, 160], [True, True, False, False]),
        (320, 64, [32, 32], [True, False]),
    ],
)
def test_what_is_there_is_not_looked_up_one_by_one(step_bytes, row_bytes, starts, expected):
    """Lines of 64 bytes in sectors of 32: whole lines, halves, rows that follow, tiles that share
    a line with their neighbours, others."""
    assert reads(step_bytes, row_bytes, starts) == expected


def test_lines_beyond_a_share_are_used_in_order_too():
    """More lines of one byte than a share has places for; the last ones are there."""
    lines, cache = MOST_PLACES + 3, cache_of(sets=1, ways=4, sectors=1, sector_bytes=1)
    run = Transfer(0, 1, lines, lines, -1, False)
    memory = new_memory(machine_of(l2=cache), program_of([[load(1, 0, lines)]]))
    for time in (0, 1):
        request(memory, time, run)
    counts = memory.cache.state[0]
    assert (counts.fetched_bytes, counts.hit_bytes) == (2 * lines, 0)
    assert sorted(last_uses(memory.cache.sets)[0]) == [2 * lines - 3 + n for n in range(4)]
    assert sorted(memory.cache.sets.ways[0, LINE]) == [lines - 3 + n for n in range(4)]


def test_a_tile_does_not_wait_for_a_gather_of_other_lines():
    memory = memory_of(machine_of(l2=cache_of(sets=64, ways=4), latency_cycles=500))
    tile = Transfer(0, 2, 64, 128, -1, False)
    request(memory, 0, Transfer(0, 1, 256, 256, -1, False))
    ends = [request(memory, time, tile) for time in (1000, 1500)]
    request(memory, 2000, Transfer(1 << 16, 4, 64, 64, 0, False))
    ends.append(request(memory, 2001, tile))
    assert ends[2] - 2001 == ends[1] - 1500


def test_a_shared_line_that_comes_again_has_what_its_transfer_wants():
    """Lines of two sectors in one set; both tiles have one sector of lines 1 and 3."""
    memory = memory_of(machine_of(l2=cache_of(sets=1, ways=4)))
    left, right = Transfer(0, 2, 96, 128, -1, False), Transfer(96, 2, 32, 128, -1, False)
    # Both sectors of lines 1 and 3 are there, then line 4 takes the place of line 0. As that comes
    # again it takes the place of line 2, and that the place of line 3 before it is looked up.
    other = Transfer(256, 1, 64, 64, -1, False)
    for time, each in enumerate([left, right, other, left]):
        request(memory, 1000 * time, each)
    before = int(memory.cache.state[0].fetched_bytes)
    request(memory, 9000, right)
    assert memory.cache.state[0].fetched_bytes - before == 32


def test_a_tile_that_lost_a_line_is_looked_up_again():
    memory = memory_of(machine_of(l2=cache_of(sets=1, ways=2)))
    tile, other = (Transfer(64 * n, 1, 64, 64, -1, False) for n in (0, 1))
    for time, each in enumerate([tile, tile, other, Transfer(256, 1, 64, 64, -1, False), tile]):
        request(memory, 1000 * time, each)
    assert memory.cache.state[0].hit_bytes == 64
    assert memory.cache.state[0].fetched_bytes == 4 * 64
