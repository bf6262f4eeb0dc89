"""Tensors that go past a cache leave the times and bytes that they have when all is looked up.

The reference engine looks every transfer up.
"""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled, reference
from accelsim.engine.memory.lone import lone_in
from accelsim.program.program import TensorInfo
from tests.handmade import cache_of, gather, load, machine_of, program_of, store
from tests.property.engine.test_agreement import assert_equal
from tests.strategies.machines import banked_machines, machines

COLS_BYTES = 96
TILE_BYTES = 32
ROWS = {"once": 24, "again": 3, "out": 2, "other": 16}
"""Rows of each tensor: two that may be read once, one read again, one written."""


def tensors_of(address_step):
    return tuple(
        TensorInfo(
            name, "output" if name == "out" else "input", rows, COLS_BYTES, 8, n * address_step
        )
        for n, (name, rows) in enumerate(ROWS.items())
    )


ADDRESS_STEP = 4096
TENSORS = tensors_of(ADDRESS_STEP)
NUMBERS = {name: n for n, name in enumerate(ROWS)}


def tile(name, row, rows, first_byte=0, num_bytes=TILE_BYTES, slot=1):
    """Words of the load, or of a store to `out`, of a tile."""
    number = NUMBERS[name]
    address = number * ADDRESS_STEP + row * COLS_BYTES + first_byte
    move = store if name == "out" else load
    return move(slot, address, num_bytes, rows=rows, step=COLS_BYTES, tensor=number)


def tiles_of(name, height):
    """Tiles of so many rows that have all of a tensor once."""
    rows = range(0, ROWS[name], height)
    return [
        tile(name, row, min(height, ROWS[name] - row), first)
        for row in rows
        for first in range(0, COLS_BYTES, TILE_BYTES)
    ]


again = st.builds(
    tile, st.just("again"), st.just(0), st.integers(1, 3), st.sampled_from([0, 32, 48, 64])
)
written = st.builds(
    tile, st.just("out"), st.integers(0, 1), st.just(1), st.sampled_from([0, 16, 64])
)
twice = st.builds(tile, st.just("other"), st.integers(0, 12), st.integers(1, 4))


@st.composite
def lone_programs(draw):
    """Programs whose first tensor is read once, in any order, between transfers of the others."""
    moves = tiles_of("once", draw(st.integers(1, 5)))
    moves += draw(st.lists(again | written, max_size=20))
    moves += tiles_of("other", 4) if draw(st.booleans()) else draw(st.lists(twice, max_size=8))
    moves = draw(st.permutations(moves))
    ends = sorted(draw(st.sets(st.integers(1, len(moves)), max_size=4)) | {0, len(moves)})
    items = [moves[first:end] for first, end in pairwise(ends)]
    return program_of(items, tensors=TENSORS)


wide_caches = st.builds(
    cache_of,
    sets=st.sampled_from([65, 100, 128, 150, 300]),
    ways=st.integers(1, 3),
    sectors=st.sampled_from([1, 2, 4]),
    sector_bytes=st.sampled_from([8, 16, 32]),
    slices=st.integers(1, 3),
    latency_cycles=st.integers(1, 30),
    writes=st.sampled_from(["back", "through"]),
)
"""Caches in which some sets are watched and others are not."""


def assert_same(program, machine):
    found, expected = compiled.schedule(program, machine), reference.schedule(program, machine)
    assert_equal(found, expected)
    assert (found.cycles, found.traffic, found.dram) == (
        expected.cycles,
        expected.traffic,
        expected.dram,
    )


@settings(max_examples=600)
@given(lone_programs(), machines(l2=wide_caches))
def test_as_looked_up(program, machine):
    assert_same(program, machine)


@settings(max_examples=150)
@given(lone_programs(), banked_machines(l2=wide_caches))
def test_as_looked_up_before_a_banked_memory(program, machine):
    assert_same(program, machine)


def alone_in(moves, tensors=TENSORS, gathered_rows=(), **cache):
    machine = machine_of(l2=cache_of(**{"sets": 256, **cache}))
    program = program_of([moves], tensors=tensors, gathered_rows=gathered_rows)
    is_lone = lone_in(program, machine.l2).tensors
    return [each.name for each, lone in zip(tensors, is_lone, strict=True) if lone]


ONCE = tiles_of("once", 5)


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        (ONCE, ["once"]),
        ([*ONCE, tile("other", 0, 4)], ["once", "other"]),
        ([*ONCE, tile("once", 3, 1)], []),
        ([*ONCE, tile("out", 0, 1)], ["once"]),
        ([*ONCE, tile("again", 0, 2), tile("again", 1, 1)], ["once"]),
        ([tile("once", 0, 2, 0, 16), tile("once", 0, 2, 16, 16)], []),
        ([*ONCE, gather(1, 0, 32, rows=1)], []),
        ([*ONCE, load(1, 3 * ADDRESS_STEP, 32, tensor=0)], []),
    ],
    ids=["once", "two", "again", "written", "other again", "half sectors", "gather", "outside"],
)
def test_which_tensors_are_alone(moves, expected):
    assert alone_in(moves, gathered_rows=(0,)) == expected


def test_what_is_only_written_is_alone_where_writes_go_through():
    moves = [*ONCE, tile("out", 0, 1), tile("out", 0, 1)]
    assert alone_in(moves, writes="through") == ["once", "out"]
    assert alone_in([*moves, load(1, 2 * ADDRESS_STEP, 32, tensor=2)], writes="through") == ["once"]


def test_nothing_is_alone_where_most_sets_would_be_watched():
    assert alone_in([*ONCE, tile("out", 0, 1)], sets=5) == []


@pytest.mark.parametrize("step_bytes", [2304, 2312])
def test_nothing_is_alone_where_tensors_may_share_a_line(step_bytes):
    tensors = tensors_of(step_bytes)
    found = alone_in([load(1, 0, 2304)], tensors, sectors=1, sector_bytes=32)
    assert found == (["once"] if step_bytes % 32 == 0 else [])
