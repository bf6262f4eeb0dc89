"""Time lies between what each resource needs alone and what everything needs one by one."""

import numpy as np
import pytest
from hypothesis import given, settings

from accelsim.engine.compiled import schedule
from accelsim.engine.durations import latency_cycles, launches_of
from accelsim.engine.subcycles import SUBCYCLES, service_rate, service_subcycles
from accelsim.program.ops import FIRST_MEMORY_UNIT, Unit
from tests.strategies.machines import machines
from tests.strategies.programs import programs

FLOAT_SLACK = 1 + 2**-50
"""A rate is a quotient of doubles and so is its inverse: at most four roundings of 2^-53."""


@settings(max_examples=300)
@given(programs(), machines())
def test_no_unit_is_busier_than_the_run_is_long(program, machine):
    run = schedule(program, machine)
    assert run.busy_by_core.max(initial=0) <= run.cycles


@settings(max_examples=300)
@given(programs(), machines())
def test_hbm_never_moves_more_than_its_pins_can(program, machine):
    run = schedule(program, machine)
    if moved_bytes := program.hbm_bytes.sum():
        transfer_cycles = run.cycles - machine.hbm_latency_cycles
        assert moved_bytes <= machine.hbm_bytes_per_cycle * transfer_cycles * FLOAT_SLACK


@pytest.mark.parametrize("unit", [Unit.LOAD, Unit.STORE])
@settings(max_examples=200)
@given(program=programs(), machine=machines())
def test_no_port_moves_more_than_its_rate(unit, program, machine):
    run = schedule(program, machine)
    port = machine.load if unit == Unit.LOAD else machine.store
    moved_bytes = np.zeros(machine.cores)
    is_own = program.units == unit
    np.add.at(moved_bytes, run.op_core[is_own], program.hbm_bytes[is_own])
    if is_own.any():
        transfer_cycles = run.cycles - machine.hbm_latency_cycles
        assert moved_bytes.max() <= port.bandwidth * transfer_cycles * FLOAT_SLACK


def serial_cycles(program, machine):
    """Cycles that all ops take one after the other, each alone on its unit.

    An upper bound of any run: at every cycle before the end some op is between its start and its
    end, except for one cycle after the claim of an empty item. A compute op accounts for its busy
    cycles and its pipeline depth. The cycles in which any transfer is outstanding are those in
    which the channel or port that finishes last with it serves it or one before it (servers do not
    idle while they have work), then the latency, and a rounding of less than a cycle. So each
    transfer accounts for its service by all channels and by its port, the latency and one cycle.
    """
    run = schedule(program, machine)
    is_compute = program.units < FIRST_MEMORY_UNIT
    compute_cycles = (run.busy + latency_cycles(machine)[program.units])[is_compute].sum()
    empty_items = np.count_nonzero(np.diff(program.item_start) == 0)
    channel_rate = service_rate(machine.hbm_bytes_per_cycle / machine.hbm.channels)
    transfers = 0.0
    for index in np.flatnonzero(~is_compute):
        num_bytes = int(program.hbm_bytes[index])
        port = machine.load if program.units[index] == Unit.LOAD else machine.store
        # Each channel rounds its share of the bytes up to a subcycle.
        service = service_subcycles(num_bytes, channel_rate) + machine.hbm.channels
        service += service_subcycles(num_bytes, service_rate(port.bandwidth))
        transfers += service / SUBCYCLES + machine.hbm_latency_cycles + 1
    launches = launches_of(program, machine).sum()
    return compute_cycles + empty_items + transfers + launches


@settings(max_examples=300)
@given(programs(), machines())
def test_a_run_is_no_longer_than_its_ops_one_by_one(program, machine):
    assert schedule(program, machine).cycles <= serial_cycles(program, machine)


@settings(max_examples=300)
@given(programs(), machines())
def test_a_unit_runs_its_ops_one_at_a_time_and_in_order(program, machine):
    run = schedule(program, machine)
    for core in range(machine.cores):
        for unit in Unit:
            own = np.flatnonzero((run.op_core == core) & (program.units == unit))
            start, end, free = run.start[own], run.end[own], (run.start + run.busy)[own]
            assert np.all(start[1:] >= free[:-1])
            assert np.all(end[1:] >= end[:-1])
            assert np.all(end > start)


@settings(max_examples=300)
@given(programs(), machines())
def test_an_item_begins_after_all_earlier_phases_have_ended(program, machine):
    run = schedule(program, machine)
    phase = np.repeat(program.item_phase, np.diff(program.item_start))
    for later in np.unique(phase):
        ended = run.end[phase < later].max(initial=0)
        assert run.start[phase == later].min() >= ended
