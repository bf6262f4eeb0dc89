"""What recording says of an op that asks for too much: every message in full."""

import numpy as np
import pytest

from accelsim.errors import ProgramError
from accelsim.jit import jit
from accelsim.numerics.formats import FP32, Format
from accelsim.program import builder as builder_module
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import (
    begin_item,
    columns,
    exp,
    fill,
    load,
    rows_from,
    tile,
    transposed,
)
from tests.calls import Call, record

both = pytest.mark.parametrize("with_numbers", [False, True], ids=["cost only", "with numbers"])


@both
@pytest.mark.parametrize(
    ("call", "changes", "message"),
    [
        (
            Call.FILL,
            {"rows": 64},
            "op 0 vector fill     dst[0]: 64x6 fp32: "
            "asks for 64x6 elements of dst[0]; allowed: 1x1 to 4x6",
        ),
        (
            Call.FILL,
            {"cols": 0},
            "op 0 vector fill     dst[0]: 4x0 fp32: "
            "asks for 4x0 elements of dst[0]; allowed: 1x1 to 4x6",
        ),
        (
            Call.FILL_COLUMNS,
            {"sizes": {"dst": (4, 3)}},
            "op 0 vector fill     dst[0]: 4x6 fp32: asks for 4x6 elements of dst[0]; allowed: none",
        ),
        (
            Call.LOAD,
            {"rows": 12, "sizes": {"dst": (12, 6), "src": (12, 8)}},
            "op 0 load   load     dst[0] <- src: 12 rows x 24 B at 40 step 32: "
            "asks for 12x6 elements of src from row 1, column 2; src has 12x8",
        ),
        (
            Call.GATHER,
            {"numbers": [0, 11, 3, -1], "sizes": {"src": (12, 32)}},
            "op 0 load   gather   dst[0] <- src[indices[0]]: 4 rows x 24 B from 136, indices 0..: "
            "asks for 1x6 elements of src from row 12, column 2; src has 12x32",
        ),
        (
            Call.GATHER,
            {"numbers": [0, 1, -2, 3], "sizes": {"src": (12, 32)}},
            "op 0 load   gather   dst[0] <- src[indices[0]]: 4 rows x 24 B from 136, indices 0..: "
            "asks for 1x6 elements of src from row -1, column 2; src has 12x32",
        ),
        (
            Call.READ_ELEMENT,
            {"rows": 5},
            "read_element before op 0: asks for 1x1 elements of dst[0]; allowed: none",
        ),
        (
            Call.WRITE_COLUMN,
            {"values": 3},
            "op 0 vector fill     dst[0]: 4x1 fp32: "
            "asks for 4 numbers from number 0 of an array of 3",
        ),
        (
            Call.KTH_LARGEST_BY_DIGITS,
            {"cols": 1, "sizes": {"a": (4, 6)}},
            "op 0 vector histogram dst[0] <- a[0]: 4x1 fp32: "
            "asks for 4x2 elements of a[0]; allowed: 1x1 to 4x1",
        ),
        (
            Call.COMPACT,
            {"cols": 1, "sizes": {"indices": (1, 1)}},
            "op 0 vector compact  dst[0], indices[0] <- a[0]: 4x1 fp32: "
            "asks for 1x2 elements of indices[0]; allowed: 1x1 to 1x1",
        ),
        (
            Call.SHIFT_ACCUMULATE,
            {"starts": (0, 2)},
            "op 0 int_mac int_matmul acc[0] <- a[0], b[0], order[0]: 4x6x0 int8 x int8 -> int32, "
            "1 shifts: asks for 3 numbers from number 0 of an array of 2",
        ),
        (
            Call.SHIFT_ACCUMULATE,
            {"starts": (0, 7, 5)},
            "op 0 int_mac int_matmul acc[0] <- a[0], b[0], order[0]: 4x6x0 int8 x int8 -> int32, "
            "1 shifts: asks for 1x-2 elements of order[0]; allowed: 1x1 to 1x5",
        ),
        (
            Call.SHIFT_ACCUMULATE,
            {"starts": (0, 2, 6)},
            "op 0 int_mac int_matmul acc[0] <- a[0], b[0], order[0]: 4x6x0 int8 x int8 -> int32, "
            "1 shifts: asks for 1x6 elements of order[0]; allowed: 1x1 to 1x5",
        ),
    ],
)
def test_the_message_names_op_place_and_extent(call, changes, message, with_numbers):
    with pytest.raises(ProgramError) as error:
        record(call, with_numbers, **changes)
    assert str(error.value) == f"extents: {message}"
    assert error.value.exit_code == 2


@pytest.mark.parametrize(("order", "asked"), [([0, 1, 5, 2, 3], "4x6"), ([0, 1, -1, 2, 3], "4x0")])
def test_an_order_names_channels_that_its_operands_have(order, asked):
    with pytest.raises(ProgramError) as error:
        record(Call.SHIFT_ACCUMULATE, with_numbers=True, order=order)
    assert str(error.value) == (
        "extents: op 0 int_mac int_matmul acc[0] <- a[0], b[0], order[0]: 4x6x0 int8 x int8 -> "
        f"int32, 1 shifts: asks for {asked} elements of a[0]; allowed: 1x1 to 4x5"
    )


@jit
def _many(p, turns, x, y):
    begin_item(p, 0)
    for _ in range(turns):
        fill(p, tile(y, 0), 1.0, 4, 4, FP32)
    fill(p, tile(x, 0), 7.0, 64, 4, FP32)
    exp(p, tile(x, 0), tile(x, 0), 4, 5, FP32)
    for _ in range(turns):
        fill(p, tile(y, 0), 2.0, 4, 4, FP32)


@both
@pytest.mark.parametrize("capacity_ops", [0, 1, 6, 100])
def test_the_first_op_that_asks_for_too_much_counts(monkeypatch, capacity_ops, with_numbers):
    """Also where the recorder was too small for it at first; no number of it is computed."""
    monkeypatch.setattr(builder_module, "_FIRST_CAPACITY_OPS", capacity_ops)
    builder = ProgramBuilder("own", with_numbers=with_numbers)
    x, y = (builder.buffer(name, 4, 4, Format.FP32) for name in "xy")
    with pytest.raises(ProgramError) as error:
        builder.record(_many, 1, 5, x, y)
    assert str(error.value) == (
        "own: op 5 vector fill     x[0]: 64x4 fp32: "
        "asks for 64x4 elements of x[0]; allowed: 1x1 to 4x4"
    )
    if with_numbers:
        assert not x.data.any()


@jit
def _endless(p, src, x):
    for _ in range(2**40):
        begin_item(p, 0)
        load(p, tile(x, 0), src, 0, 0, 5, 4)


def test_recording_ends_with_the_transfer_that_follows():
    builder = ProgramBuilder("own", with_numbers=False)
    src = builder.tensor("src", "input", 8, 4, Format.FP32)
    with pytest.raises(ProgramError) as error:
        builder.record(_endless, 1, src, builder.buffer("x", 4, 4, Format.FP32))
    assert str(error.value) == (
        "own: op 0 load   load     x[0] <- src: 5 rows x 16 B at 0 step 16: "
        "asks for 5x4 elements of x[0]; allowed: 1x1 to 4x4"
    )


@jit
def _viewed(p, first_row, first_col, rows, x):
    begin_item(p, 0)
    part = columns(rows_from(tile(x, 0), first_row), first_col)
    fill(p, transposed(part, rows, 2), 1.0, 1, 1, FP32)
    fill(p, part, 1.0, 1, 1, FP32)


@both
@pytest.mark.parametrize(
    ("first_row", "first_col", "rows"),
    [(-1, 0, 2), (0, -1, 2), (4, 0, 2), (0, 4, 2), (2**40, 0, 2), (0, -(2**63), 2), (0, 0, -1)],
)
def test_a_view_that_begins_outside_holds_nothing(first_row, first_col, rows, with_numbers):
    builder = ProgramBuilder("own", with_numbers=with_numbers)
    buffer = builder.buffer("x", 4, 4, Format.FP32)
    with pytest.raises(ProgramError, match=r"asks for 1x1 elements of x\[0\]; allowed: none$"):
        builder.record(_viewed, 1, first_row, first_col, rows, buffer)


@both
@pytest.mark.parametrize("rows", [2, 4])
def test_views_hold_what_is_left(rows, with_numbers):
    builder = ProgramBuilder("own", with_numbers=with_numbers)
    buffer = builder.buffer("x", 4, 4, Format.FP32)
    assert builder.record(_viewed, 1, 2, 1, rows, buffer).num_ops == 2
    if with_numbers:
        assert buffer.data[0].tolist() == [[0] * 4, [0] * 4, [0, 1, 0, 0], [0] * 4]


@pytest.mark.parametrize(
    ("sizes", "found"),
    [((0, 4, 1), "1 x 0 x 4"), ((4, -2, 1), "1 x 4 x -2"), ((4, 4, 0), "0 x 4 x 4")],
)
def test_buffers_have_a_size(sizes, found):
    rows, cols, slots = sizes
    with pytest.raises(ProgramError) as error:
        ProgramBuilder("own", with_numbers=False).buffer("x", rows, cols, Format.FP16, slots=slots)
    assert str(error.value) == f"own: buffer x: found size {found}, allowed: 1 or more each"


def test_tensors_have_a_size():
    with pytest.raises(ProgramError) as error:
        ProgramBuilder("own", with_numbers=False).tensor("t", "input", 4, 0, Format.FP16)
    assert str(error.value) == "own: tensor t: found size 4 x 0, allowed: 1 or more each"


@pytest.mark.parametrize("shape", [(4, 7), (3, 8), (4, 8, 1)])
def test_data_of_a_tensor_have_its_shape(shape):
    builder = ProgramBuilder("own", with_numbers=True)
    with pytest.raises(ProgramError) as error:
        builder.tensor("t", "input", 4, 8, Format.FP32, np.zeros(shape, np.float32))
    assert str(error.value) == f"own: tensor t: found data of shape {shape}, allowed: (4, 8)"
