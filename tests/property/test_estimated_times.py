"""Compiled estimates against plain ones: when ops of a core end, and when the last core is done."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.kernels.estimate.costs import SPARE_ROWS
from accelsim.kernels.estimate.order import Order, orders_of
from accelsim.kernels.estimate.placement import (
    COLD,
    IS_COLD,
    ITEMS,
    NUM_ROWS,
    NUM_TIMES,
    ORDER,
    WARM,
    ItemTimes,
    last_end,
)
from accelsim.kernels.estimate.timeline import Supply, follow
from accelsim.loading import load_machine
from accelsim.program.ops import Unit
from accelsim.runtime.jit import jit

BUFFERS = {"a": 1, "b": 2, "c": 3}
NUM_COSTS = 4
COMPUTE = (Unit.CUBE, Unit.VECTOR, Unit.MOVE)
TILES = st.tuples(st.sampled_from(sorted(BUFFERS)), st.integers(0, 5))


class PlainOp(NamedTuple):
    unit: Unit
    cost: int
    reads: tuple
    writes: tuple | None
    is_late: bool = False


CLAIMS = st.just("claim")
COMPUTE_OPS = st.builds(
    PlainOp,
    st.sampled_from(COMPUTE),
    st.integers(0, NUM_COSTS - 1),
    st.lists(TILES, max_size=2).map(tuple),
    TILES,
)
LOADS = st.builds(
    PlainOp,
    st.just(Unit.LOAD),
    st.integers(0, NUM_COSTS - 1),
    st.just(()),
    TILES,
    st.booleans(),
)
STORES = st.builds(
    PlainOp,
    st.just(Unit.STORE),
    st.integers(0, NUM_COSTS - 1),
    st.tuples(TILES),
    st.none(),
)
ORDERS = st.lists(st.one_of(CLAIMS, COMPUTE_OPS, LOADS, STORES), min_size=1, max_size=25)


class PlainCore:
    """Ops of one candidate, one after the other, by the rules of `engine/reference.py`."""

    def __init__(self, machine, supply, costs):
        self.machine, self.supply, self.costs = machine, supply, costs
        self.touched = {}
        """Of a slot: the unit and end of its last write, and those of all reads since."""
        self.free = dict.fromkeys(COMPUTE, 0.0)
        self.requested = {Unit.LOAD: 0.0, Unit.STORE: 0.0}
        self.served = {Unit.LOAD: supply.begin_cycles, Unit.STORE: 0.0}
        self.passed = {Unit.LOAD: supply.port_begin_cycles, Unit.STORE: 0.0}
        self.arrived = 0.0
        self.transfers = {Unit.LOAD: [], Unit.STORE: []}
        self.claimed = self.retired = 0.0

    def claim(self):
        is_overlapped = self.machine.items_in_flight > 1
        claimed = self.requested[Unit.LOAD] if is_overlapped else self.retired
        self.claimed = max(self.claimed, claimed)

    def run(self, op):
        read, written = [self.slot(each) for each in op.reads], self.slot(op.writes)
        awaited = [self.touched[slot][0] for slot in read]
        awaited += self.touched.get(written, [])
        ready = max([self.claimed, *(end for unit, end in awaited if unit != op.unit)])
        end = self.computed(op, ready) if op.unit in COMPUTE else self.transferred(op, ready)
        for slot in read:
            self.touched[slot].append((op.unit, end))
        if written:
            self.touched[written] = [(op.unit, end)]
        self.retired = max(self.retired, end)

    def slot(self, tile):
        return tile and (tile[0], tile[1] % BUFFERS[tile[0]])

    def computed(self, op, ready):
        unit = {Unit.CUBE: self.machine.cube, Unit.VECTOR: self.machine.vector}.get(op.unit)
        self.free[op.unit] = max(self.free[op.unit], ready) + self.costs[op.cost]
        return self.free[op.unit] + (unit.latency_cycles if unit else 0)

    def transferred(self, op, ready):
        queue = self.machine.load if op.unit == Unit.LOAD else self.machine.store
        supply, under_way = self.supply, self.transfers[op.unit][-queue.in_flight :]
        if len(under_way) == queue.in_flight:
            ready = max(ready, under_way[0])
        begin = self.requested[op.unit] = max(self.requested[op.unit], ready)
        size, is_load = self.costs[op.cost], op.unit == Unit.LOAD
        self.served[op.unit] = max(self.served[op.unit], begin) + size * supply.cycles_per_byte
        self.passed[op.unit] = max(self.passed[op.unit], begin) + size / queue.bandwidth
        latency = supply.latency_cycles if is_load else supply.port_latency_cycles
        port = self.passed[op.unit] + supply.port_latency_cycles
        end = max(self.served[op.unit] + latency, port)
        if is_load:
            end = self.arrived = max(end + op.is_late * supply.late_cycles, self.arrived)
        self.transfers[op.unit].append(end)
        return end


def order_of(ops):
    """Return the order of ops whose reads find something, and those ops."""
    order, written, kept = Order(BUFFERS), set(), []
    for op in ops:
        if op == "claim":
            order.claim()
        elif all(PlainCore.slot(None, each) in written for each in op.reads):
            if op.unit == Unit.LOAD:
                order.load(op.cost, op.writes, is_late=op.is_late)
            else:
                order.run(*op[:4])
            written.add(PlainCore.slot(None, op.writes))
        else:
            continue
        order.note_retired(2 * len(kept))
        order.note_request(2 * len(kept) + 1)
        kept.append(op)
    for place, unit in enumerate(COMPUTE, 2 * len(kept)):
        order.note_free(place, unit)
    return order, kept


def costs_of(costs):
    """Return costs with room for what the memory gives."""
    return np.vstack([*costs, *SPARE_ROWS * [0 * costs[0]]])


def plain_notes(ops, machine, supply, costs):
    core, notes = PlainCore(machine, supply, costs), []
    for op in ops:
        core.claim() if op == "claim" else core.run(op)
        notes += [core.retired, core.requested[Unit.LOAD]]
    return notes + [core.free[unit] for unit in COMPUTE]


@settings(max_examples=60, deadline=None)
@given(
    ops=ORDERS,
    costs=st.lists(st.integers(0, 500), min_size=2 * NUM_COSTS, max_size=2 * NUM_COSTS),
    waits=st.lists(st.integers(0, 900), min_size=6, max_size=6),
    in_flight=st.integers(1, 3),
    items_in_flight=st.integers(1, 2),
)
def test_ops_end_when_plain_rules_say(ops, costs, waits, in_flight, items_in_flight):
    changes = {"load.in_flight": in_flight, "items_in_flight": items_in_flight}
    machine = load_machine("ascend-910b", changes)
    each = np.array(costs, float).reshape(NUM_COSTS, 2)
    begins = np.array(waits, float).reshape(3, 2)
    supply = Supply(0.25, *np.array([[300, 200], [200, 150]], float), *begins)
    order, kept = order_of(ops)
    notes = follow(orders_of([order]), np.array([0, 0]), machine, supply, costs_of(each))
    for i in range(2):
        alone = Supply(0.25, *(row[i] for row in supply[1:]))
        assert notes[:, i].tolist() == plain_notes(kept, machine, alone, each[:, i])


def test_candidates_are_followed_by_orders_of_their_own():
    """Orders are mixed: each candidate is as it is alone."""
    machine, supply = load_machine("ascend-910b"), Supply(0.25, 300.0, 200.0)
    orders = []
    for loads in (1, 2, 3):
        orders.append(Order({}))
        for use in range(loads):
            orders[-1].load(0, ("a", use))
            orders[-1].run(Unit.CUBE, 1, (("a", use),), ("sum", 0))
        orders[-1].note_retired(0)
    which = np.arange(500) % 3
    costs = np.arange(500) * 7.0, np.arange(500) % 11 + 1.0
    found = follow(orders_of(orders), which, machine, supply, costs_of(costs))
    for number, order in enumerate(orders):
        own = which == number
        alone = costs_of([each[own] for each in costs])
        none = np.zeros(own.sum(), np.int64)
        notes = follow(orders_of([order]), none, machine, supply, alone)
        np.testing.assert_array_equal(found[:, own], notes)


@jit
def placed_end(times, kinds, by_head, cores):
    return last_end(times, kinds, by_head, cores)


class Kinds(NamedTuple):
    """Kinds of items: times [rows, kinds], of the first items of cores and of the others."""

    cold: np.ndarray
    warm: np.ndarray
    counts: list
    are_cold: list
    order: list

    def room(self, cores):
        room = np.full((NUM_ROWS, max(cores, len(self.counts))), np.nan)
        for first, each in ((COLD, self.cold), (WARM, self.warm)):
            room[first : first + NUM_TIMES, : len(self.counts)] = each
        for row, each in ((ITEMS, self.counts), (IS_COLD, self.are_cold), (ORDER, self.order)):
            room[row, : len(self.counts)] = each
        return room


def plain_end(kinds, by_head, cores):
    """Return when the last item has ended, placed one by one on the core that claims first."""
    if by_head:
        items = kinds.order * kinds.counts[0]
    else:
        items = [kind for kind in kinds.order for _ in range(kinds.counts[kind])]
    waves, ends = -(-len(items) // cores), []
    before, firsts = max(1, waves - 8) * cores, items[:cores]
    free, claimable, opens = [], [], []
    for place, kind in enumerate(firsts, 1):
        own = ItemTimes(*kinds.cold[:, kind])
        waits = own.waits * (1 - place / len(firsts))
        free.append(own.alone - waits)
        claimable.append(max(0, own.claims - waits))
        opens.append(own.opens - waits)
    ends += free
    if before > cores:
        passed = kinds.order if by_head else items[cores:before]
        mean = np.mean([ItemTimes(*kinds.warm[:, kind]).steps for kind in passed])
        last = ItemTimes(*kinds.warm[:, items[before - 1]])
        free = [each + mean * (before - cores) / cores for each in free]
        claimable = [each - (last.alone - last.steps) for each in free]
        opens = list(claimable)
    for number, kind in enumerate(items[before:], before):
        core = min(range(cores), key=lambda each: (claimable[each], each))
        times = kinds.cold if kinds.are_cold[kind] else kinds.warm
        own = ItemTimes(*times[:, kind])
        alone = own.alone - own.waits
        begin = max(claimable[core], opens[core])
        is_last = number >= (waves - 1) * cores
        end = max(free[core] + (own.last_steps if is_last else own.steps), begin + alone)
        begin = max(begin, end - alone)
        claimable[core] = max(begin + max(0, own.claims - own.waits), free[core])
        opens[core], free[core] = begin + own.opens - own.waits, end
        ends.append(end)
    return max(ends)


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    by_head=st.booleans(),
    cores=st.integers(1, 9),
    seed=st.integers(0, 10_000),
)
def test_items_are_placed_on_the_core_that_claims_first(counts, by_head, cores, seed):
    random, num = np.random.default_rng(seed), len(counts)
    # Shares of cores and means are whole, so that equal times are equal however they are summed.
    cold, warm = 2520 * random.integers(1, 60, (2, NUM_TIMES, num)).astype(float)
    order = random.permutation(num).tolist()
    counts = num * counts[:1] if by_head else counts
    kinds = Kinds(cold, warm, counts, random.integers(0, 2, num).tolist(), order)
    found = placed_end(kinds.room(cores), num, by_head, cores)
    assert found == pytest.approx(plain_end(kinds, by_head, cores), rel=1e-12)


@pytest.mark.parametrize("waves", [2, 8, 9, 30])
def test_the_first_item_of_a_core_takes_its_whole_time_however_many_follow(waves):
    cores, own = 4, ItemTimes(100.0, 30.0, 20.0, 10.0, 10.0, 0.0)
    times = (np.array(each)[:, None] for each in (own, own._replace(alone=30.0)))
    kinds = Kinds(*times, [waves * cores], [False], [0])
    expected = own.alone + (waves - 2) * own.steps + own.last_steps
    assert placed_end(kinds.room(cores), 1, True, cores) == expected
