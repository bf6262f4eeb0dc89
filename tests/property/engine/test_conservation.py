"""What a program states is what the engine moves and what the account of energy counts."""

from collections import Counter
from math import ceil
from unittest.mock import patch

import pytest
from hypothesis import given, settings

from accelsim.accounts.activity import count_activity
from accelsim.accounts.energy import energy_by_component
from accelsim.engine import compiled, reference
from accelsim.engine.memory import door
from accelsim.loading import load_technology
from accelsim.program.ops import Op, Unit
from accelsim.units import PICO
from tests.strategies.machines import machines
from tests.strategies.programs import programs

TECHNOLOGY = load_technology("7nm")


@settings(max_examples=200)
@given(programs(), machines())
def test_the_memory_serves_every_transfer_of_the_program_once(program, machine):
    served = Counter()

    def request(state, time_cycles, transfer):
        served[transfer.address, transfer.rows * transfer.row_bytes, transfer.is_write] += 1
        return door.request(state, time_cycles, transfer)

    with patch.object(reference, "request", request):
        reference.schedule(program, machine)
    transfers = (op for op in program if op.unit in (Unit.LOAD, Unit.STORE))
    assert served == Counter((op.a, op.b * op.c, op.unit == Unit.STORE) for op in transfers)


@settings(max_examples=200)
@given(programs(), machines())
def test_the_memory_serves_requests_in_the_order_of_time(program, machine):
    times = []

    def request(state, time_cycles, transfer):
        times.append(time_cycles)
        return door.request(state, time_cycles, transfer)

    with patch.object(reference, "request", request):
        reference.schedule(program, machine)
    assert times == sorted(times)


@settings(max_examples=200)
@given(programs(), machines())
def test_bytes_of_the_program_are_counted_and_paid_for(program, machine):
    activity = count_activity(compiled.schedule(program, machine), machine)
    loads = sum(op.b * op.c for op in program if op.unit == Unit.LOAD)
    stores = sum(op.b * op.c for op in program if op.unit == Unit.STORE)
    assert (activity.hbm_read_bytes, activity.hbm_write_bytes) == (loads, stores)
    assert loads + stores == program.hbm_bytes.sum()
    joules = energy_by_component(activity, machine, TECHNOLOGY)
    cost_pj = TECHNOLOGY.memory(machine.hbm.standard).energy.value
    # Two products in another order differ by a rounding of doubles.
    assert joules["hbm"] == pytest.approx((loads + stores) * cost_pj * PICO, rel=1e-15)


@settings(max_examples=200)
@given(programs(), machines())
def test_macs_of_the_program_are_counted_and_paid_for(program, machine):
    activity = count_activity(compiled.schedule(program, machine), machine)
    products = [op for op in program if op.op == Op.MATMUL]
    macs = sum(op.a * op.b * op.c for op in products)
    assert sum(activity.macs.values()) == macs
    joules = energy_by_component(activity, machine, TECHNOLOGY)
    expected_pj = sum(
        op.a * op.b * op.c * (cost.multiply.value + cost.accumulate.value)
        for op in products
        for cost in [TECHNOLOGY.cost_of("cube", op.operand_format)]
    )
    # The account multiplies the sum, this test sums products: a rounding of a double per op.
    assert joules["cube"] == pytest.approx(expected_pj * PICO, rel=1e-13)


@settings(max_examples=200)
@given(programs(), machines())
def test_every_element_of_a_vector_op_is_counted_once(program, machine):
    activity = count_activity(compiled.schedule(program, machine), machine)
    expected = Counter()
    for op in program:
        if op.unit == Unit.VECTOR:
            expected[op.op.name.lower(), op.operand_format] += op.a * op.b
    assert activity.vector_elements == expected


def streamed_bytes(op, array):
    """Each operand once for every piece of the result that the array holds along the other side."""
    bits = (op.operand_format.bits, op.output_format.bits)
    held_rows = max(1, array.rows // (bits[0] // 4))
    held_cols = max(1, array.cols // (bits[1] // 4))
    left, right = ceil(op.a * op.c * bits[0] / 8), ceil(op.c * op.b * bits[1] / 8)
    return ceil(op.b / held_cols) * left + ceil(op.a / held_rows) * right


@settings(max_examples=200)
@given(programs(), machines())
def test_scratchpad_bytes_are_those_of_units_and_queues(program, machine):
    activity = count_activity(compiled.schedule(program, machine), machine)
    read = written = 0
    for op in program:
        if op.unit == Unit.LOAD:
            written += op.b * op.c
        elif op.unit == Unit.STORE:
            read += op.b * op.c
        elif op.unit == Unit.MOVE:
            written += op.d
        elif op.unit == Unit.VECTOR:
            read, written = read + op.c, written + op.d
        elif op.unit == Unit.CUBE:
            left, right = op.a * op.c * 16 // 8, op.c * op.b * 16 // 8
            read += left + right
        else:
            read += streamed_bytes(op, machine.int_mac)
    assert activity.scratchpad_read_bytes == read
    assert activity.scratchpad_write_bytes == written
