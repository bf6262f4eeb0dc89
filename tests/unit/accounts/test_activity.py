"""Action counts of programs small enough to count by hand."""

import pytest

from accelsim.accounts.activity import count_activity
from accelsim.engine.compiled import schedule
from accelsim.numerics.formats import Format
from accelsim.program.activity import Activity
from accelsim.program.ops import Op
from tests.handmade import (
    CLOCK_HZ,
    gather,
    load,
    machine_of,
    matmul,
    move,
    program_of,
    store,
    vector,
)

NOTHING = Activity(
    macs={},
    vector_elements={},
    scratchpad_read_bytes=0,
    scratchpad_write_bytes=0,
    operand_buffer_read_bytes=0,
    operand_buffer_write_bytes=0,
    accumulator_read_bytes=0,
    accumulator_write_bytes=0,
    hbm_read_bytes=0,
    hbm_write_bytes=0,
    hbm_bytes_by_tensor=(0, 0),
    seconds=0.0,
)


def activity_of(*ops, **machine):
    machine = machine_of(**machine)
    return count_activity(schedule(program_of([ops]), machine), machine)


def expected(seconds, **counts):
    return Activity(**{**vars(NOTHING), **counts, "seconds": seconds})


def test_an_empty_program_does_nothing():
    assert activity_of() == NOTHING


@pytest.mark.parametrize("transfer", [load, gather])
def test_a_load_reads_hbm_and_writes_the_scratchpad(transfer):
    found = activity_of(transfer(1, 0, 30, rows=2))
    traffic = {"hbm_read_bytes": 60, "hbm_bytes_by_tensor": (60, 0)}
    assert found == expected(61 / CLOCK_HZ, **traffic, scratchpad_write_bytes=60)


def test_a_store_reads_the_scratchpad_and_writes_hbm():
    found = activity_of(store(1, 0, 30, rows=2))
    traffic = {"hbm_write_bytes": 60, "hbm_bytes_by_tensor": (0, 60)}
    assert found == expected(61 / CLOCK_HZ, **traffic, scratchpad_read_bytes=60)


@pytest.mark.parametrize(("accumulate", "accumulator_reads"), [(False, 120), (True, 240)])
def test_a_product_fills_its_operand_buffers_once_and_reads_them_for_every_tile(
    accumulate, accumulator_reads
):
    """5 x 6 x 7 on 4 x 4 x 4: 2 x 2 tiles, 2 steps along k; A has 70 B, B 21 B, C 120 B."""
    product = matmul(3, 1, 2, 5, 6, 7, bits=(16, 4), accumulate=accumulate)
    found = activity_of(product, tile=(4, 4, 4))
    assert found == expected(
        8 / CLOCK_HZ,
        macs={Format.FP16: 210},
        scratchpad_read_bytes=91,
        operand_buffer_write_bytes=91,
        operand_buffer_read_bytes=70 * 2 + 21 * 2,
        accumulator_write_bytes=120 * 2,
        accumulator_read_bytes=accumulator_reads,
    )


def test_a_move_reads_the_accumulator_and_writes_the_scratchpad():
    found = activity_of(move(1, 2, 4, 4, read_bytes=64, written_bytes=32))
    assert found == expected(1 / CLOCK_HZ, accumulator_read_bytes=64, scratchpad_write_bytes=32)


def test_vector_elements_are_counted_by_op_and_format():
    ops = [
        vector(1, 10, op=Op.EXP, read_bytes=20, written_bytes=20),
        vector(1, 7, op=Op.EXP, read_bytes=14, written_bytes=14),
        vector(1, 5, op=Op.EXP, fmt=Format.FP32, read_bytes=20, written_bytes=10),
        vector(1, 3, op=Op.FILL, read_bytes=0, written_bytes=6),
    ]
    found = activity_of(*ops, lanes={"fp16": 1, "fp32": 1})
    assert found == expected(
        25 / CLOCK_HZ,
        vector_elements={
            ("exp", Format.FP16): 17,
            ("exp", Format.FP32): 5,
            ("fill", Format.FP16): 3,
        },
        scratchpad_read_bytes=54,
        scratchpad_write_bytes=50,
    )


@pytest.mark.parametrize(
    ("dataflow", "operand_reads", "sums"),
    [
        ("output_stationary", 2 * 70 + 2 * 21, 1),
        ("weight_stationary", 2 * 70 + 21, 2),
        ("input_stationary", 70 + 2 * 21, 2),
    ],
)
def test_a_systolic_array_reads_what_is_stationary_once(dataflow, operand_reads, sums):
    """5 x 6 x 7 on 4 x 4: two folds along each size; A has 70 B, B 21 B, C 120 B."""
    product = matmul(3, 1, 2, 5, 6, 7, bits=(16, 4))
    found = activity_of(product, systolic={"rows": 4, "cols": 4, "dataflow": dataflow})
    assert found.operand_buffer_write_bytes == 70 + 21
    assert found.operand_buffer_read_bytes == operand_reads
    assert found.accumulator_write_bytes == sums * 120
    assert found.accumulator_read_bytes == (sums - 1) * 120
