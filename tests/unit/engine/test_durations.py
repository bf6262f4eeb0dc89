"""Cycles of the ops of a program, and machines that cannot run it."""

import pytest

from accelsim.engine import compiled, reference
from accelsim.engine.durations import latency_cycles, work_of
from accelsim.errors import DoesNotFitError
from accelsim.numerics.formats import Format
from accelsim.program.ops import VECTOR_OPS, Unit
from tests.handmade import load, machine_of, matmul, move, program_of, store, vector


def test_every_op_is_occupied_for_the_cycles_of_its_unit():
    machine = machine_of(tile=(2, 2, 2), lanes={"fp16": 4}, accumulator_bytes_per_cycle=8)
    item = [
        load(1, 0, 64),
        matmul(2, 1, 1, 4, 4, 4),
        move(3, 2, 4, 4, read_bytes=64, written_bytes=32),
        vector(4, 17, reads=[3]),
        store(4, 0, 64),
    ]
    assert work_of(program_of([item]), machine).busy_cycles.tolist() == [0, 8, 8, 5, 0]


def test_every_vector_op_has_a_cost_of_its_own():
    ops = VECTOR_OPS
    costs = {op.name.lower(): 10 + op for op in ops}
    program = program_of([[vector(1, 1, op=op) for op in ops]])
    assert work_of(program, machine_of(costs=costs)).busy_cycles.tolist() == [10 + op for op in ops]


def test_lanes_and_rates_are_those_of_the_format():
    machine = machine_of(lanes={"fp16": 8, "fp32": 2}, cube_rates={"fp16": 1, "int8": 4})
    item = [
        vector(1, 16),
        vector(1, 16, fmt=Format.FP32),
        matmul(2, 1, 1, 2, 2, 2),
        matmul(2, 1, 1, 2, 2, 2, fmt=Format.INT8),
    ]
    assert work_of(program_of([item]), machine).busy_cycles.tolist() == [2, 8, 8, 2]


def test_four_bit_operands_take_half_a_byte():
    machine = machine_of(tile=(16, 16, 16), scratchpad_bytes_per_cycle=1)
    product = matmul(2, 1, 1, 3, 1, 1, bits=(4, 8))
    # 12 bits and 8 bits are two and a half bytes.
    assert work_of(program_of([[product]]), machine).busy_cycles.tolist() == [3]


def test_only_compute_units_have_a_pipeline():
    latency = latency_cycles(machine_of(cube_depth_cycles=5, vector_depth_cycles=3))
    expected = {Unit.CUBE: 5, Unit.VECTOR: 3}
    assert latency.tolist() == [expected.get(unit, 0) for unit in Unit]


@pytest.mark.parametrize("engine", [compiled, reference])
@pytest.mark.parametrize(
    ("op", "message"),
    [
        (
            matmul(2, 1, 1, 2, 2, 2, fmt=Format.INT8),
            "machine handmade: its cube unit has no int8, which handmade uses; it has fp16, bf16",
        ),
        (
            vector(1, 4, fmt=Format.FP32),
            "machine handmade: its vector unit has no fp32, which handmade uses; it has fp16",
        ),
    ],
)
def test_a_format_that_the_machine_lacks_is_refused(engine, op, message):
    machine = machine_of(cube_rates={"fp16": 1, "bf16": 1})
    with pytest.raises(DoesNotFitError) as error:
        engine.schedule(program_of([[op]]), machine)
    assert str(error.value) == message


def test_a_product_occupies_the_cube_for_its_issue_and_its_steps():
    program = program_of([[matmul(1, 2, 3, 4, 5, 6)]])
    assert work_of(program, machine_of(cube_issue_cycles=7)).busy_cycles.tolist() == [7 + 4 * 5 * 6]
