"""What recording says of an op that asks for too much: every message in full."""

import numpy as np
import pytest

from accelsim.errors import ProgramError
from accelsim.numerics.formats import Format
from accelsim.program import builder as builder_module
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.runtime.jit import jit
from tests.calls import Call, record

both = pytest.mark.parametrize("with_numbers", [False, True], ids=["cost only", "with numbers"])


@both
@pytest.mark.parametrize(
    ("call", "changes", "message"),
    [
        (
            Call.FILL,
            {"rows": 64},
            "op 0 vector fill     dst[0]: asks for 64x6 elements of dst[0], where there are 4x6",
        ),
        (
            Call.FILL,
            {"cols": 0},
            "op 0 vector fill     dst[0]: asks for 4x0 elements of dst[0], where there are 4x6",
        ),
        (
            Call.FILL_COLUMNS,
            {"asked": {"dst": (4, 3)}},
            "op 0 vector fill     dst[0]: asks for 4x9 elements of dst[0], where there are 4x3",
        ),
        (
            Call.LOAD,
            {"rows": 12, "sizes": {"dst": (12, 6), "src": (12, 8)}},
            "op 0 load   load     dst[0] <- src: "
            "asks for 12x6 elements of src from row 1, column 2; src has 12x8",
        ),
        (
            Call.GATHER,
            {"numbers": [0, 11, 3, -1], "sizes": {"src": (12, 32)}},
            "op 0 load   gather   dst[0] <- src[indices[0]]: "
            "asks for 1x6 elements of src from row 12, column 2; src has 12x32",
        ),
        (
            Call.GATHER,
            {"numbers": [0, 1, -2, 3], "sizes": {"src": (12, 32)}},
            "op 0 load   gather   dst[0] <- src[indices[0]]: "
            "asks for 1x6 elements of src from row -1, column 2; src has 12x32",
        ),
        (
            Call.READ_ELEMENT,
            {"rows": 5},
            "read_element before op 0: asks for 5x1 elements of dst[0], where there are 4x1",
        ),
        (
            Call.WRITE_COLUMN,
            {"values": 3},
            "op 0 vector fill     dst[0]: asks for 4 numbers from number 0 of an array of 3",
        ),
        (
            Call.KTH_LARGEST_BY_DIGITS,
            {"cols": 1},
            "op 0 vector histogram dst[0] <- a[0]: "
            "asks for 4x2 elements of a[0], where there are 4x1",
        ),
        (
            Call.COMPACT,
            {"asked": {"indices": (1, 1)}},
            "op 0 vector compact  dst[0], indices[0] <- a[0]: "
            "asks for 1x6 elements of indices[0], where there are 1x1",
        ),
        (
            Call.SHIFT_ACCUMULATE,
            {"starts": (0, 2)},
            "op 0 int_mac int_matmul acc[0] <- a[0], b[0], order[0]: "
            "asks for 2 numbers from number 0 of an array of 0",
        ),
        (
            Call.SHIFT_ACCUMULATE,
            {"starts": (0, 7, 5)},
            "op 0 int_mac int_matmul acc[0] <- a[0], b[0], order[0]: "
            "asks for 1x-2 elements of order[0], where there are 1x5",
        ),
        (
            Call.SHIFT_ACCUMULATE,
            {"starts": (0, 2, 6)},
            "op 0 int_mac int_matmul acc[0] <- a[0], b[0], order[0]: "
            "asks for 1x6 elements of order[0], where there are 1x5",
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
        "extents: op 0 int_mac int_matmul acc[0] <- a[0], b[0], order[0]: "
        f"asks for {asked} elements of a[0], where there are 4x5"
    )


@jit
def _many(p, turns, x, y):
    al.begin_item(p, 0)
    for _ in range(turns):
        al.fill(p, al.tile(y, 0, 4, 4), 1.0)
    al.fill(p, al.tile(x, 0, 64, 4), 7.0)
    al.exp(p, al.tile(x, 0, 4, 5), al.tile(x, 0, 4, 5))
    for _ in range(turns):
        al.fill(p, al.tile(y, 0, 4, 4), 2.0)


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
        "own: op 5 vector fill     x[0]: asks for 64x4 elements of x[0], where there are 4x4"
    )
    if with_numbers:
        assert not x.data.any()


@jit
def _endless(p, src, x):
    for _ in range(2**40):
        al.begin_item(p, 0)
        al.load(p, al.tile(x, 0, 5, 4), src, 0, 0)


def test_recording_ends_with_the_transfer_that_follows():
    builder = ProgramBuilder("own", with_numbers=False)
    src = builder.tensor("src", "input", 8, 4, Format.FP32)
    with pytest.raises(ProgramError) as error:
        builder.record(_endless, 1, src, builder.buffer("x", 4, 4, Format.FP32))
    assert str(error.value) == (
        "own: op 0 load   load     x[0] <- src: asks for 5x4 elements of x[0], where there are 4x4"
    )


@jit
def _viewed(p, first_row, first_col, cols, x):
    al.begin_item(p, 0)
    rows = al.rows_from(al.tile(x, 0, 4, 3), first_row, 2)
    part = al.columns(rows, first_col, cols)
    al.fill(p, al.transposed(part), 1.0)
    al.fill(p, part, 1.0)


@both
@pytest.mark.parametrize(
    ("first_row", "first_col", "cols", "asked", "there"),
    [
        (-1, 0, 2, "2x-1", "3x4"),
        (3, 0, 2, "2x5", "3x4"),
        (0, -1, 2, "-1x2", "3x2"),
        (0, 2, 2, "4x2", "3x2"),
        (0, 3, 1, "4x2", "3x2"),
        (0, 0, 0, "0x2", "3x2"),
        (2**40, 0, 2, "2x1073741823", "3x4"),
        (0, -(2**63), 2, "-1073741823x2", "3x2"),
    ],
)
def test_a_view_of_what_is_not_there_is_refused(
    first_row, first_col, cols, asked, there, with_numbers
):
    """What is asked for counts from the first row and column of what it is a view of.

    The first op is on the transposed view.
    """
    builder = ProgramBuilder("own", with_numbers=with_numbers)
    buffer = builder.buffer("x", 4, 4, Format.FP32)
    with pytest.raises(ProgramError) as error:
        builder.record(_viewed, 1, first_row, first_col, cols, buffer)
    text = f"asks for {asked} elements of x[0], where there are {there}"
    assert str(error.value) == f"own: op 0 vector fill     x[0]: {text}"


@both
def test_views_are_of_what_they_ask_for(with_numbers):
    builder = ProgramBuilder("own", with_numbers=with_numbers)
    buffer = builder.buffer("x", 4, 4, Format.FP32)
    assert builder.record(_viewed, 1, 2, 1, 2, buffer).num_ops == 2
    if with_numbers:
        filled = [0, 1, 1, 0]
        assert buffer.data[0].tolist() == [[0] * 4, [0] * 4, filled, filled]


@jit
def _absent(p, src, x, y):
    al.begin_item(p, 0)
    al.load(p, al.tile(x, 5, 1, 1), src, 0, 0)
    al.fill(p, al.tile(y, 0, 1, 1), 1.0)


@both
@pytest.mark.parametrize(("is_tensor", "what"), [(True, "a tensor"), (False, "a buffer")])
def test_what_a_kernel_does_without_is_refused(is_tensor, what, with_numbers):
    builder = ProgramBuilder("own", with_numbers=with_numbers)
    src = builder.no_tensor() if is_tensor else builder.tensor("s", "input", 4, 4, Format.FP32)
    x = builder.buffer("x", 4, 4, Format.FP32) if is_tensor else builder.no_buffer()
    with pytest.raises(ProgramError) as error:
        builder.record(_absent, 1, src, x, builder.buffer("y", 4, 4, Format.FP32))
    assert str(error.value).endswith(f"asks for 1x1 elements of {what} that this kernel has not")


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
