"""The intrinsics of quantizing: the words they record and what they compute."""

import numpy as np
import pytest

from accelsim.numerics.formats import FP16, Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.ops import Op
from accelsim.runtime.jit import jit


@jit
def _row_ops(p, x, row, wide):
    al.begin_item(p, 0)
    values, factors = al.tile(x, 0, 2, 3), al.tile(row, 0, 1, 3)
    al.add_row(p, al.tile(wide, 0, 2, 3), values, factors)
    al.multiply_row(p, al.computed_in(al.tile(wide, 1, 2, 3), FP16), values, factors)
    al.magnitude(p, al.tile(wide, 2, 2, 3), values)


def buffers_of(builder):
    return (
        builder.buffer("x", 2, 3, Format.FP16),
        builder.buffer("row", 1, 3, Format.FP32),
        builder.buffer("wide", 2, 3, Format.FP32, slots=3),
    )


def test_words():
    """x of 12 B in slot 1, a row of 12 B in slot 2, results of 24 B in slots 3 to 5."""
    builder = ProgramBuilder("words", with_numbers=False)
    program = builder.record(_row_ops, 1, *buffers_of(builder))
    found = [(op.op, op.reads, op.writes, op.a, op.b, op.c, op.d) for op in program]
    assert found == [
        (Op.ADD, (1, 2), (3,), 2, 3, 24, 24),
        (Op.MULTIPLY, (1, 2), (4,), 2, 3, 24, 24),
        (Op.MAXIMUM, (1,), (5,), 2, 3, 12, 24),
    ]


def test_numbers():
    builder = ProgramBuilder("numbers", with_numbers=True)
    x, row, wide = buffers_of(builder)
    x.data[0] = [[1, -2, 3], [-4, 5, -6]]
    row.data[0] = [[1, 0.1, -3]]
    builder.record(_row_ops, 1, x, row, wide)
    tenth = np.float32(0.1)
    np.testing.assert_array_equal(wide.data[0], x.data[0] + np.array([1, tenth, -3], np.float32))
    rounded = (x.data[0] * np.array([1, tenth, -3], np.float32)).astype(np.float16)
    np.testing.assert_array_equal(wide.data[1], rounded)
    np.testing.assert_array_equal(wide.data[2], np.abs(x.data[0]))


@jit
def _to_floats(p, sums, wide):
    al.begin_item(p, 0)
    al.convert(p, al.tile(wide, 0, 1, 3), al.tile(sums, 0, 1, 3))


@pytest.mark.parametrize("value", [2**24 + 1, 2**24 + 3, 2**31 - 1, -(2**31), 2**30 + 2**6])
def test_sums_are_rounded_once_and_to_even(value):
    builder = ProgramBuilder("sums", with_numbers=True)
    sums, wide = builder.buffer("sums", 1, 3, Format.INT32), builder.buffer("w", 1, 3, Format.FP32)
    sums.data[0] = value
    builder.record(_to_floats, 1, sums, wide)
    np.testing.assert_array_equal(wide.data[0], np.int32(value).astype(np.float32))
