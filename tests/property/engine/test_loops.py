"""Loops whose periods are left out have the sums of the same program with all of its ops."""

from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.bench import Bench
from accelsim.engine import compiled, looped, reference, window
from accelsim.loading import load_machine
from accelsim.program import builder as builder_module
from accelsim.program.language import begin_item, next_turn
from accelsim.program.long import LongProgram, Recording
from accelsim.program.ops import WORDS, A, Op
from accelsim.program.recording import record_op
from accelsim.runtime.jit import jit, jit_inner
from accelsim.workload.problem import AttentionProblem
from tests.handmade import load, machine_of, matmul, program_of, store, vector
from tests.property.engine.test_windows import assert_same_sums
from tests.strategies.machines import machines
from tests.strategies.programs import compute_ops, loads, sizes, slots, stores

SLOTS = 5
PARTS = 4
BEFORE, EVEN, ODD, AFTER = range(PARTS)


class Item(NamedTuple):
    """An item: ops before its loop, those of turns in turn, and those after."""

    parts: tuple[list, list, list, list]
    turns: int
    step: int = 0
    """Bytes from the transfers of a turn to those of the next."""
    phase: int = 0


@jit
def _replay(p, words, starts, turns, steps, phases):
    """Record items as a kernel with a loop does; starts: [item, part], and the end."""
    for item in range(len(turns)):
        begin_item(p, phases[item])
        _record(p, words, starts[item, BEFORE], starts[item, BEFORE + 1], 0)
        turn = 0
        while turn < turns[item]:
            part = EVEN + turn % 2
            _record(p, words, starts[item, part], starts[item, part + 1], turn * steps[item])
            turn = next_turn(p, turn, 1, turns[item], 2)
        _record(p, words, starts[item, AFTER], starts[item, AFTER + 1], 0)


@jit_inner
def _record(p, words, begin, end, moved_bytes):
    for op in range(begin, end):
        w = words[op]
        is_transfer = w[0] & 255 <= Op.STORE.value
        record_op(p, w[0], w[1], w[2], w[3] + moved_bytes * is_transfer, w[4], w[5], w[6])


def long_of(items: list[Item]) -> LongProgram:
    """Return the program of items, which records the turns of its loops."""
    words = [op for item in items for part in item.parts for op in part]
    lengths = [len(part) for item in items for part in item.parts]
    ends = np.cumsum(lengths).reshape(-1, PARTS)
    starts = np.column_stack([np.append(0, ends[:-1, -1]), ends])
    arguments = (
        np.array(words, np.int64).reshape(-1, WORDS),
        starts,
        np.array([item.turns for item in items]),
        np.array([item.step for item in items]),
        np.array([item.phase for item in items]),
    )
    empty = program_of([])
    recording = Recording(_replay, len(items), arguments)
    return LongProgram("handmade", recording, empty.tensors, empty.buffers)


def whole_of(items: list[Item]):
    """Return the same program with every op written down here."""

    def turn_of(item, turn):
        for op in item.parts[EVEN + turn % 2]:
            own = list(op)
            own[A] += turn * item.step * (op[0] & 255 <= Op.STORE)
            yield tuple(own)

    def ops_of(item):
        turns = [op for turn in range(item.turns) for op in turn_of(item, turn)]
        return [*item.parts[BEFORE], *turns, *item.parts[AFTER]]

    return program_of([ops_of(item) for item in items], [item.phase for item in items])


class Skips:
    """Cycles that the windows of one test skipped."""

    def __init__(self):
        self.cycles = 0

    def schedule(self, items, machine, piece_ops=40):
        """Return the sums of items, with loops cut short where that is possible."""
        return self.schedule_long(long_of(items), machine, piece_ops)

    def schedule_long(self, program, machine, piece_ops):
        """Return the sums of a program, the same way."""
        end_cycles = looped.LoopedWindow._end_cycles

        def noted(own):
            self.cycles += int(own._steady.control.skipped_cycles[0])
            return end_cycles(own)

        with mock.patch.object(looped.LoopedWindow, "_end_cycles", noted):
            return looped.schedule(program, machine, piece_ops)


own_tiles = [load(slot, 8 * slot, 16) for slot in range(1, SLOTS + 1)]
few = st.lists(loads | stores | compute_ops, max_size=4)
turns = st.lists(loads | stores | compute_ops, min_size=1, max_size=3)
turns_with_loads = st.builds(
    lambda slot, size, rest: [load(slot, 0, size), *rest], slots, sizes, turns
)
parts = st.tuples(
    few.map(lambda ops: [*own_tiles, *ops]), turns_with_loads, turns_with_loads | turns, few
)
steps = st.sampled_from([0, 100, 3300, 7])
kinds_of_items = st.builds(
    Item, parts, st.sampled_from([0, 1, 30, 60, 61, 90, 200]), steps, st.just(0)
)


@st.composite
def items_of_a_program(draw):
    """Return items of a few kinds, the last of which may be of a second phase."""
    kinds = draw(st.lists(kinds_of_items, min_size=1, max_size=3))
    items = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8))
    later = draw(st.integers(1, len(items)))
    return [item._replace(phase=int(place >= later)) for place, item in enumerate(items)]


flat = {"interleave_bytes": st.sampled_from([1, 100, 2**20])}


@settings(max_examples=200)
@given(items_of_a_program(), machines(**flat), st.integers(1, 900))
def test_sums_are_those_of_all_ops(items, machine, piece_ops):
    found = Skips().schedule(items, machine, piece_ops)
    assert_same_sums(found, compiled.schedule(whole_of(items), machine), holds=True)


@settings(max_examples=20)
@given(items_of_a_program(), machines(**flat))
def test_sums_are_those_of_the_reference_engine(items, machine):
    found = Skips().schedule(items, machine)
    assert_same_sums(found, reference.schedule(whole_of(items), machine), holds=True)


PRODUCTS = Item(
    (
        [load(1, 0, 64), load(3, 64, 64)],
        [load(2, 0, 64), matmul(4, 1, 2, 4, 4, 16), vector(5, 100, reads=[4])],
        [load(3, 0, 64), matmul(4, 1, 3, 4, 4, 16), vector(5, 100, reads=[4])],
        [store(5, 2**20, 32)],
    ),
    turns=1000,
    step=64,
)
BUSY = machine_of(cores=3, hbm_bytes_per_cycle=4)


@pytest.mark.parametrize("piece_ops", [1, 50, 10**4])
def test_most_of_a_loop_that_repeats_is_skipped(piece_ops):
    items, skips = [PRODUCTS] * 7, Skips()
    found = skips.schedule(items, BUSY, piece_ops)
    whole = compiled.schedule(whole_of(items), BUSY)
    assert_same_sums(found, whole, holds=True)
    assert skips.cycles > 0.85 * whole.cycles


def test_a_core_without_work_keeps_its_rest():
    """Its next op is of the next phase, long after the loops of the other cores."""
    items = [PRODUCTS] + [PRODUCTS._replace(turns=1, phase=1)] * 3
    skips = Skips()
    found = skips.schedule(items, BUSY)
    assert_same_sums(found, reference.schedule(whole_of(items), BUSY), holds=True)
    assert skips.cycles > 0


def test_transfers_that_begin_on_other_channels_each_period_are_all_done():
    machine, skips = machine_of(channels=4, interleave_bytes=32, hbm_bytes_per_cycle=4), Skips()
    for step, is_skipped in ((64, True), (32, False)):
        items = [PRODUCTS._replace(step=step)]
        found = skips.schedule(items, machine)
        assert_same_sums(found, compiled.schedule(whole_of(items), machine), holds=True)
        assert (skips.cycles > 0) == is_skipped
        skips = Skips()


@pytest.mark.parametrize(
    ("query_tiles", "changes"),
    [
        (1, {}),
        (2, {}),
        (1, {"causal": True}),
        (2, {"causal": True}),
        (1, {"causal": True, "q_heads": 6, "kv_heads": 2}),
        (2, {"causal": True, "q_heads": 6, "kv_heads": 2}),
        (2, {"kv_len": 1003, "q_len": 100, "head_dim": 20}),
        (1, {"causal": True, "window": 700}),
    ],
)
def test_attention_has_the_sums_of_all_its_turns(query_tiles, changes, monkeypatch):
    monkeypatch.setattr(builder_module, "_FIRST_CAPACITY_OPS", 64)
    monkeypatch.setattr(builder_module, "HELD_OPS", 64)
    sizes = {"q_heads": 2, "kv_heads": 2, "head_dim": 16, "q_len": 500, "kv_len": 2000}
    problem = AttentionProblem(kind="attention", name="loops", **sizes | changes)
    fields = {"cores": 5, "hbm.interleave": "64 B", "hbm.channels": 4}
    machine = load_machine("ascend-910b-no-l2", fields)
    recipe = f"flash(query_tiles={query_tiles}, tile_q=64, tile_k=16)"
    (recorded,) = Bench.prepare(machine, recipe).record(problem)
    assert isinstance(recorded.program, LongProgram)
    skips = Skips()
    found = skips.schedule_long(recorded.program, machine, 10**4)
    assert_same_sums(found, window.schedule(recorded.program, machine), holds=True)
    assert (skips.cycles > 0) == ("window" not in changes)
