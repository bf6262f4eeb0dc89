"""Every intrinsic of the kernel language records the words that `accelsim.program.ops` promises."""

import numpy as np
import pytest

from accelsim.numerics.formats import FP16, Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.ops import VECTOR_OPS, Op, Unit
from accelsim.runtime.jit import jit
from tests import handmade


@pytest.fixture
def builder():
    return ProgramBuilder("words", with_numbers=False)


def words(program):
    return [tuple(row) for row in program.ops.tolist()]


def _index_buffer(builder, numbers):
    buffer = builder.index_buffer("indices", len(numbers))
    buffer.data[0, 0] = numbers
    return buffer


@jit
def _transfers(p, indices, src, dst, buffer):
    al.begin_item(p, 0)
    numbers = al.tile(indices, 0, 1, 3)
    al.load(p, al.tile(buffer, 0, 5, 6), src, 3, 4)
    al.gather(p, al.tile(buffer, 1, 2, 6), src, al.columns(numbers, 1, 2), 10, 4)
    al.gather(p, al.tile(buffer, 2, 3, 8), src, numbers, 0, 0)
    al.store(p, dst, 1, 2, al.tile(buffer, 3, 5, 6))


def test_transfers(builder):
    """Two slots in turn; rows of 32 B at address 4096, and rows of 20 B at 8192."""
    first = builder.tensor("first", "input", 2, 2, Format.FP16)
    assert first.address == 0
    src = builder.tensor("src", "input", 20, 16, Format.FP16)
    dst = builder.tensor("dst", "output", 20, 10, Format.FP16)
    buffer = builder.buffer("buffer", 5, 8, Format.FP16, slots=2)
    indices = _index_buffer(builder, [7, 1, 4])
    program = builder.record(_transfers, 1, indices, src, dst, buffer)
    assert words(program) == [
        handmade.load(1, 4096 + 3 * 32 + 4 * 2, 6 * 2, rows=5, step=32, tensor=1),
        handmade.gather(2, 4096 + 10 * 32 + 4 * 2, 6 * 2, rows=2, first=0, tensor=1, numbers=3),
        handmade.gather(1, 4096, 8 * 2, rows=3, first=2, tensor=1, numbers=3),
        handmade.store(2, 8192 + 1 * 20 + 2 * 2, 6 * 2, rows=5, step=20, tensor=2),
    ]
    assert program.gathered_rows.tolist() == [1, 4, 7, 1, 4]
    assert program.units.tolist() == [Unit.LOAD, Unit.LOAD, Unit.LOAD, Unit.STORE]
    assert program.hbm_bytes.tolist() == [60, 24, 48, 60]


@jit
def _half_bytes(p, src, buffer):
    al.begin_item(p, 0)
    al.load(p, al.tile(buffer, 0, 2, 3), src, 1, 2)


def test_a_row_of_four_bit_elements_is_packed_and_rounded_up_to_a_byte(builder):
    src = builder.tensor("src", "input", 4, 5, Format.INT4)
    program = builder.record(_half_bytes, 1, src, builder.buffer("buffer", 2, 4, Format.INT4))
    assert words(program) == [handmade.load(1, 3 + 1, 2, rows=2, step=3)]


@jit
def _cube(p, a, b, acc, out):
    al.begin_item(p, 0)
    left, sums = al.tile(a, 0, 2, 4), al.tile(acc, 0, 2, 3)
    al.matmul(p, sums, left, al.tile(b, 0, 4, 3), False)
    al.matmul_transposed(p, sums, left, al.tile(b, 0, 3, 4), True)
    al.move(p, al.tile(out, 0, 2, 3), sums)


def test_cube_and_move(builder):
    a = builder.buffer("a", 2, 4, Format.FP16)
    b = builder.buffer("b", 4, 4, Format.FP8_E4M3)
    acc = builder.buffer("acc", 2, 3, Format.FP32, memory="accumulator")
    out = builder.buffer("out", 2, 3, Format.FP16)
    program = builder.record(_cube, 1, a, b, acc, out)
    first, second, moved = program
    assert words(program)[0] == handmade.matmul(3, 1, 2, 2, 3, 4, bits=(16, 8))
    assert (first.reads, first.writes, first.a, first.b, first.c) == ((1, 2), (3,), 2, 3, 4)
    assert (first.operand_format, first.accumulator_format) == (Format.FP16, Format.FP32)
    assert (second.reads, second.writes) == ((1, 2, 3), (3,))
    assert (second.operand_format, second.accumulator_format) == (Format.FP16, Format.FP32)
    assert (moved.unit, moved.reads, moved.writes) == (Unit.MOVE, (3,), (4,))
    assert (moved.accumulator_format, moved.output_format) == (Format.FP32, Format.FP16)
    assert (moved.a, moved.b, moved.c, moved.d) == (2, 3, 2 * 3 * 4, 2 * 3 * 2)


@jit
def _vector(p, x, y, column, wide):
    al.begin_item(p, 0)
    one, two, col = al.tile(x, 0, 3, 5), al.tile(y, 0, 3, 5), al.tile(column, 0, 3, 1)
    stored = al.tile(wide, 0, 3, 5)
    out = al.computed_in(stored, FP16)
    al.add(p, out, one, two)
    al.subtract(p, out, one, two)
    al.multiply(p, out, one, two)
    al.maximum(p, out, one, two)
    al.subtract_column(p, out, one, col)
    al.subtract_row(p, out, one, al.rows_from(two, 0, 1))
    al.multiply_column(p, out, one, col)
    al.divide_column(p, out, one, col)
    al.scale(p, out, one, 0.5)
    al.exp(p, out, one)
    al.row_max(p, col, one)
    al.row_sum(p, col, one)
    al.mask_above_diagonal(p, one, 0, 0)
    al.convert(p, stored, one)
    al.fill(p, stored, 1.0)


def test_vector_ops(builder):
    """15 elements: x, y of 30 B, a column of 3 x 2 B, and a result of 60 B; slots 1, 2, 3, 4."""
    x, y = (builder.buffer(name, 3, 5, Format.FP16) for name in "xy")
    column = builder.buffer("column", 3, 1, Format.FP16)
    wide = builder.buffer("wide", 3, 5, Format.FP32)
    program = builder.record(_vector, 1, x, y, column, wide)
    pair, with_column, with_row, alone = ((1, 2), 60), ((1, 3), 36), ((1, 2), 40), ((1,), 30)
    result, result_column = ((4,), 60), ((3,), 6)
    expected = [
        (Op.ADD, *pair, *result),
        (Op.ADD, *pair, *result),
        (Op.MULTIPLY, *pair, *result),
        (Op.MAXIMUM, *pair, *result),
        (Op.ADD, *with_column, *result),
        (Op.ADD, *with_row, *result),
        (Op.MULTIPLY, *with_column, *result),
        (Op.DIVIDE, *with_column, *result),
        (Op.MULTIPLY, *alone, *result),
        (Op.EXP, *alone, *result),
        (Op.REDUCE, *alone, *result_column),
        (Op.REDUCE, *alone, *result_column),
        (Op.SELECT, *alone, (1,), 30),
        (Op.CONVERT, *alone, *result),
        (Op.FILL, (), 0, *result),
    ]
    assert [(op.op, op.reads, op.c, op.writes, op.d) for op in program] == expected
    assert {op.op for op in program} == {op for op in VECTOR_OPS if op <= Op.FILL}
    assert {(op.unit, op.a, op.b) for op in program} == {(Unit.VECTOR, 3, 5)}
    formats = [op.operand_format for op in program]
    assert formats == [Format.FP16] * 13 + [Format.FP32] * 2


@jit
def _items(p, phases, buffer):
    for phase in phases:
        al.begin_item(p, phase)
        for turn in range(phase):
            al.fill(p, al.tile(buffer, turn, 1, 1), 0.0)


def test_items_have_their_ops_and_phases(builder):
    phases = np.array([0, 1, 1, 3], np.int64)
    buffer = builder.buffer("buffer", 1, 1, Format.FP16, slots=2)
    program = builder.record(_items, 4, phases, buffer)
    assert program.item_phase.tolist() == [0, 1, 1, 3]
    assert program.item_start.tolist() == [0, 0, 1, 2, 5]
    assert [op.writes for op in program] == [(1,), (1,), (1,), (2,), (1,)]


def test_a_gather_copies_the_rows_it_names():
    builder = ProgramBuilder("numbers", with_numbers=True)
    values = np.arange(20 * 16, dtype=np.float32).reshape(20, 16)
    src = builder.tensor("src", "input", 20, 16, Format.FP16, values)
    dst = builder.tensor("dst", "output", 20, 10, Format.FP16)
    buffer = builder.buffer("buffer", 5, 8, Format.FP16, slots=2)
    builder.record(_transfers, 1, _index_buffer(builder, [7, 1, 4]), src, dst, buffer)
    # Slot 0 was loaded first and holds the last gather; slot 1 holds the gather of rows 11 and 14.
    np.testing.assert_array_equal(buffer.data[0, :3], values[[7, 1, 4], :8])
    np.testing.assert_array_equal(buffer.data[1, :2, :6], values[[11, 14], 4:10])
    np.testing.assert_array_equal(dst.data[1:3, 2:8], values[[11, 14], 4:10])
