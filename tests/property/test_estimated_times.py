"""Compiled estimates against plain ones: when ops of a core end, and when the last core is done."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.kernels.estimate.costs import SPARE_ROWS
from accelsim.kernels.estimate.order import Order, orders_of
from accelsim.kernels.estimate.placement import last_end
from accelsim.kernels.estimate.timeline import NOT_FOLLOWED, Costs, Supply, follow
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


CLAIMS = st.sampled_from(["claim", "claim", "restart"])
COMPUTE_OPS = st.builds(
    PlainOp,
    st.sampled_from(COMPUTE),
    st.integers(0, NUM_COSTS - 1),
    st.lists(TILES, max_size=2).map(tuple),
    TILES,
)
LOADS = st.builds(PlainOp, st.just(Unit.LOAD), st.integers(0, NUM_COSTS - 1), st.just(()), TILES)
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
        self.requested, self.passed = ({Unit.LOAD: 0.0, Unit.STORE: 0.0} for _ in range(2))
        self.served = {Unit.LOAD: supply.begin_cycles, Unit.STORE: 0.0}
        self.transfers = {Unit.LOAD: [], Unit.STORE: []}
        self.claimed = self.retired = 0.0

    def claim(self):
        is_overlapped = self.machine.items_in_flight > 1
        self.claimed = self.requested[Unit.LOAD] if is_overlapped else self.retired

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
        self.transfers[op.unit].append(max(self.served[op.unit] + latency, port))
        return self.transfers[op.unit][-1]


def order_of(ops):
    """Return the order of ops whose reads find something, and those ops."""
    order, written, kept = Order(BUFFERS), set(), []
    for op in ops:
        if op == "claim":
            order.claim()
        elif op == "restart":
            order.restart()
            written.clear()
        elif all(PlainCore.slot(None, each) in written for each in op.reads):
            order.run(*op)
            written.add(PlainCore.slot(None, op.writes))
        else:
            continue
        kept.append(op)
        order.note_retired()
        order.note_request()
    for unit in COMPUTE:
        order.note_free(unit)
    return order, kept


def costs_of(machine, supply, costs):
    return Costs.of(machine, supply, np.vstack([*costs, *SPARE_ROWS * [costs[0]]]))


def plain_notes(ops, machine, supply, costs):
    core, notes = PlainCore(machine, supply, costs), []
    for op in ops:
        if op == "restart":
            core = PlainCore(machine, supply, costs)
        else:
            core.claim() if op == "claim" else core.run(op)
        notes += [core.retired, core.requested[Unit.LOAD]]
    return notes + [core.free[unit] for unit in COMPUTE]


@settings(max_examples=60, deadline=None)
@given(
    ops=ORDERS,
    costs=st.lists(st.integers(0, 500), min_size=2 * NUM_COSTS, max_size=2 * NUM_COSTS),
    waits=st.tuples(st.integers(0, 900), st.integers(0, 900)),
    in_flight=st.integers(1, 3),
    items_in_flight=st.integers(1, 2),
)
def test_ops_end_when_plain_rules_say(ops, costs, waits, in_flight, items_in_flight):
    changes = {"load.in_flight": in_flight, "items_in_flight": items_in_flight}
    machine = load_machine("ascend-910b", changes)
    each = np.array(costs, float).reshape(NUM_COSTS, 2)
    supply = Supply(0.25, *np.array([[300, 200, 0], [200, 150, 0], [*waits, 0]], float))
    order, kept = order_of(ops)
    orders, which = orders_of([order]), np.array([0, 0, NOT_FOLLOWED])
    own = [np.append(row, 0) for row in each]
    notes = follow(orders, which, costs_of(machine, supply, own))
    for i in range(2):
        alone = Supply(0.25, *(row[i] for row in supply[1:]))
        assert notes[:, i].tolist() == plain_notes(kept, machine, alone, each[:, i])


def test_candidates_are_followed_by_orders_of_their_own():
    """More than are followed together, mixed: each is as it is alone."""
    machine, supply = load_machine("ascend-910b"), Supply(0.25, 300.0, 200.0)
    orders = []
    for loads in (1, 2, 3):
        orders.append(Order({}))
        for use in range(loads):
            orders[-1].load(0, ("a", use))
            orders[-1].run(Unit.CUBE, 1, (("a", use),), ("sum", 0))
        orders[-1].note_retired()
    which = np.arange(500) % 3
    costs = np.arange(500) * 7.0, np.arange(500) % 11 + 1.0
    found = follow(orders_of(orders), which, costs_of(machine, supply, costs))
    for number, order in enumerate(orders):
        own = which == number
        alone = costs_of(machine, supply, [each[own] for each in costs])
        notes = follow(orders_of([order]), np.zeros(own.sum(), np.int64), alone)
        np.testing.assert_array_equal(found[:, own], notes)


@jit
def placed_end(times, kinds, heads, by_head, cores, rank):
    return last_end(times, kinds, heads, by_head, cores, rank)


def plain_end(times, kinds, heads, by_head, cores):
    """Return when the last item has ended, placed one by one on the core that claims first."""
    alone, steps, last_steps, claims, waits = times
    of_head = list(range(kinds))
    items = of_head * heads if by_head else [k for k in reversed(of_head) for _ in range(heads)]
    waves, first_wave = -(-len(items) // cores), items[:cores]
    before = max(1, waves - 8) * cores
    between = sum(steps[kind] for kind in items[cores:before]) / cores
    free = [
        alone[kind] - waits[kind] * (1 - (place + 1) / len(first_wave)) + between
        for place, kind in enumerate(first_wave)
    ]
    claimable = list(free) if waves > 8 else [claims[kind] for kind in first_wave]
    for first in range(before, len(items), cores):
        wave = items[first : first + cores]
        order = sorted(range(cores), key=lambda core: (claimable[core], core))
        for kind, core in zip(wave, order, strict=False):
            own = last_steps[kind] if first + cores >= len(items) else steps[kind]
            end = free[core] + own
            started = max(claimable[core], end - alone[kind])
            claimable[core] = max(started + claims[kind], free[core])
            free[core] = end
    return max(free)


@settings(max_examples=150, deadline=None)
@given(
    kinds=st.integers(1, 6),
    heads=st.integers(1, 30),
    by_head=st.booleans(),
    cores=st.integers(1, 9),
    seed=st.integers(0, 10_000),
)
def test_items_are_placed_on_the_core_that_claims_first(kinds, heads, by_head, cores, seed):
    # Shares of cores are whole, so that equal times are equal however they are summed.
    times = cores * np.random.default_rng(seed).integers(1, 60, (5, kinds)).astype(float)
    times[4] = np.minimum(times[4], times[0])
    found = placed_end(
        times, kinds, heads, by_head, np.empty((2, cores)), np.empty(cores, np.int64)
    )
    assert found == pytest.approx(plain_end(times, kinds, heads, by_head, cores), rel=1e-12)


@pytest.mark.parametrize("waves", [2, 8, 9, 30])
def test_the_first_item_of_a_core_takes_its_whole_time_however_many_follow(waves):
    cores, alone, steps, last, waits = 4, 100.0, 30.0, 20.0, 40.0
    times = np.array([[alone], [steps], [last], [10.0], [waits]])
    room = np.empty((2, cores)), np.empty(cores, np.int64)
    # The memory serves the last core when it has served all others.
    assert placed_end(times, 1, waves * cores, True, *room) == alone + (waves - 2) * steps + last
