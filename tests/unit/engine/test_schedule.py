"""What follows from a schedule: busy cycles by core and unit, and what the units waited for."""

from accelsim.engine.compiled import schedule
from accelsim.engine.schedule import STALL_CAUSES
from accelsim.program.ops import UNIT_NAMES, Unit
from tests.handmade import load, machine_of, matmul, program_of, store, vector


def stalls_of(run):
    """Return the stalls as {(unit, cause): cycles} without the zeros."""
    return {
        (UNIT_NAMES[unit], cause): int(cycles)
        for unit, row in enumerate(run.stalls)
        for cause, cycles in zip(STALL_CAUSES, row, strict=True)
        if cycles
    }


def test_compute_units_are_busy_without_their_pipeline():
    run = schedule(program_of([[vector(1, 10), vector(1, 5)]]), machine_of(vector_depth_cycles=7))
    assert run.cycles == 22
    assert run.busy_by_core.tolist() == [[0, 15, 0, 0, 0, 0]]
    assert stalls_of(run) == {}


def test_a_queue_is_busy_while_it_has_transfers():
    """Two overlapping loads, 0 to 21 and 0 to 41, and one from 141 to 162."""
    item = [load(1, 0, 20), load(2, 0, 20), vector(3, 100, reads=[2]), load(3, 0, 20)]
    run = schedule(program_of([item]), machine_of())
    assert run.end.tolist() == [21, 41, 141, 162]
    assert run.busy_by_core[0, Unit.LOAD] == 41 + 21


def test_stalls_name_the_unit_waited_for():
    """The vector unit waits 21 cycles for a load and 30 for the cube; the cube 31 for both."""
    item = [load(1, 0, 20), vector(2, 10, reads=[1]), matmul(3, 2, 2, 30, 1, 1)]
    item += [vector(4, 5, reads=[3])]
    run = schedule(program_of([item]), machine_of())
    assert run.start.tolist() == [0, 21, 31, 61]
    assert stalls_of(run) == {
        ("vector", "load"): 21,
        ("cube", "vector"): 31,
        ("vector", "cube"): 30,
    }


def test_a_wait_for_two_units_is_charged_to_the_later_one():
    item = [load(1, 0, 20), matmul(2, 3, 3, 50, 1, 1), vector(4, 1, reads=[1, 2])]
    assert stalls_of(schedule(program_of([item]), machine_of())) == {("vector", "cube"): 50}


def test_of_units_that_end_together_the_first_is_charged():
    item = [load(1, 0, 49), matmul(2, 3, 3, 50, 1, 1), vector(4, 1, reads=[1, 2])]
    run = schedule(program_of([item]), machine_of())
    assert run.end.tolist() == [50, 50, 51]
    assert stalls_of(run) == {("vector", "cube"): 50}


def test_waiting_for_an_item_is_no_work():
    """With one item in flight the second begins when the store of the first has ended."""
    item = [vector(1, 10), store(1, 0, 20)]
    run = schedule(program_of([item, item]), machine_of(items_in_flight=1))
    assert run.start.tolist() == [0, 10, 31, 41]
    assert stalls_of(run) == {("vector", "no_work"): 21}


def test_cores_are_accounted_apart():
    run = schedule(
        program_of([[vector(1, 10)], [vector(1, 30)], [vector(1, 5)]]),
        machine_of(cores=2, items_in_flight=1),
    )
    assert run.core.tolist() == [0, 1, 0]
    assert run.op_core.tolist() == [0, 1, 0]
    assert run.busy_by_core[:, Unit.VECTOR].tolist() == [15, 30]
