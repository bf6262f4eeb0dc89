"""A better machine never slows a program whose transfers are served in a fixed order.

Every start is then a maximum of sums of durations, so shorter durations and fewer waits cannot make
it later. Where cores or queues share the memory first come, first served, they can: speeding one
part up may let an unimportant transfer overtake an important one. Graham, "Bounds on
multiprocessing timing anomalies" (1969), describes such anomalies; the last tests show three.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine.compiled import schedule
from tests.handmade import changed, load, machine_of, matmul, program_of, store, vector
from tests.strategies.machines import machines
from tests.strategies.programs import compute_ops, gathers, loads, programs, stores


def doubled(value):
    return {key: 2 * each for key, each in value.items()} if isinstance(value, dict) else 2 * value


def one_more(value):
    return value + 1


def halved(value):
    return value // 2


COMPUTE = {
    "cube.rates": doubled,
    "vector.lanes": doubled,
    "scratchpad.bandwidth": doubled,
    "accumulator.bandwidth": doubled,
    "cube.pipeline_depth_cycles": halved,
    "vector.pipeline_depth_cycles": halved,
    "vector.issue_cycles": halved,
}
MEMORY = {"hbm.bandwidth": doubled}
QUEUE = {"bandwidth": doubled, "in_flight": one_more}
LOAD = COMPUTE | MEMORY | {f"load.{name}": change for name, change in QUEUE.items()}
STORE = COMPUTE | MEMORY | {f"store.{name}": change for name, change in QUEUE.items()}


def assert_not_slower(program, machine, better):
    assert schedule(program, better).cycles <= schedule(program, machine).cycles


@settings(max_examples=400)
@given(
    programs(loads | gathers | compute_ops), machines(cores=st.just(1)), st.sampled_from(list(LOAD))
)
def test_one_core_that_only_loads_gains_from_any_improvement(program, machine, path):
    assert_not_slower(program, machine, changed(machine, path, LOAD[path]))


@settings(max_examples=400)
@given(programs(stores | compute_ops), machines(cores=st.just(1)), st.sampled_from(list(STORE)))
def test_one_core_that_only_stores_gains_from_any_improvement(program, machine, path):
    assert_not_slower(program, machine, changed(machine, path, STORE[path]))


@settings(max_examples=200)
@given(
    programs(loads | gathers | compute_ops),
    machines(cores=st.just(1), items_in_flight=st.just(1)),
)
def test_one_core_that_only_loads_gains_from_a_second_item_in_flight(program, machine):
    assert_not_slower(program, machine, changed(machine, "items_in_flight", one_more))


@settings(max_examples=200)
@given(programs(compute_ops), machines(placement=st.just("static")), st.sampled_from(list(COMPUTE)))
def test_cores_with_items_of_their_own_gain_from_faster_units(program, machine, path):
    assert_not_slower(program, machine, changed(machine, path, COMPUTE[path]))


independent_items = machines(placement=st.just("greedy"), items_in_flight=st.just(1))


@settings(max_examples=200)
@given(programs(compute_ops, min_ops=1), independent_items, st.sampled_from(list(COMPUTE)))
def test_independent_items_gain_from_faster_units(program, machine, path):
    assert_not_slower(program, machine, changed(machine, path, COMPUTE[path]))


@settings(max_examples=400)
@given(programs(compute_ops, min_ops=1, max_ops=3, max_items=12), independent_items)
def test_independent_items_gain_from_another_core(program, machine):
    """Each item then takes as long on any core, and goes to the core that is free first."""
    assert_not_slower(program, machine, changed(machine, "cores", one_more))


SHARED = program_of(
    [
        [load(1, 0, 20), load(2, 0, 80)],
        [vector(3, 15), load(3, 0, 2), vector(4, 100, reads=[3])],
    ]
)
"""Core 0 streams; core 1 needs a small load at cycle 15, and 100 cycles from its end."""


def test_more_bandwidth_can_slow_two_cores():
    """Core 0 requests its second load at cycle 11, not 21: before the small one of core 1."""
    slow, fast = (
        machine_of(cores=2, load_in_flight=1, hbm_bytes_per_cycle=rate) for rate in (1, 2)
    )
    assert schedule(SHARED, slow).cycles == (20 + 2 + 1) + 100
    assert schedule(SHARED, fast).cycles == (11 + 40 + 1 + 1) + 100


def test_a_deeper_queue_can_slow_two_cores():
    """Core 0 requests both loads at once, before the small one of core 1."""
    shallow, deep = (machine_of(cores=2, load_in_flight=limit) for limit in (1, 2))
    assert schedule(SHARED, shallow).cycles == (20 + 2 + 1) + 100
    assert schedule(SHARED, deep).cycles == (20 + 80 + 2 + 1) + 100


def test_a_faster_unit_can_slow_two_cores():
    """The vector unit of core 0 frees the tile of a large load at cycle 9, not 18."""
    program = program_of(
        [
            [vector(1, 18), load(1, 0, 80)],
            [matmul(3, 1, 2, 15, 1, 1), load(3, 0, 2), matmul(4, 3, 3, 100, 1, 1)],
        ]
    )
    slow, fast = (machine_of(cores=2, lanes={"fp16": lanes}) for lanes in (1, 2))
    assert schedule(program, slow).cycles == (15 + 2 + 1) + 100
    assert schedule(program, fast).cycles == (9 + 80 + 2 + 1) + 100


def test_another_core_can_slow_two_cores():
    """The third core begins the large load of the last item before the small one of the first."""
    program = program_of(
        [
            [vector(3, 10), load(3, 0, 2), vector(4, 100, reads=[3])],
            [vector(3, 20)],
            [load(1, 0, 80)],
        ]
    )
    two, three = (machine_of(cores=cores, items_in_flight=1) for cores in (2, 3))
    assert schedule(program, two).cycles == (10 + 2 + 1) + 100
    assert schedule(program, three).cycles == (80 + 2 + 1) + 100


def test_more_bandwidth_can_slow_one_core_with_both_queues():
    """A large store begins at cycle 11, not 21: before the load that the vector unit waits for."""
    item = [load(1, 0, 20), store(1, 0, 80)]
    item += [vector(3, 15), load(3, 0, 2), vector(4, 100, reads=[3])]
    slow, fast = (machine_of(hbm_bytes_per_cycle=rate) for rate in (1, 2))
    assert schedule(program_of([item]), slow).cycles == (20 + 2 + 1) + 100
    assert schedule(program_of([item]), fast).cycles == (11 + 40 + 1 + 1) + 100
