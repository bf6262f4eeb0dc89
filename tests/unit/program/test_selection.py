"""Ops that select: the words they record, and the numbers they compute."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import ProgramError
from accelsim.numerics.formats import FP16, Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import Ranking, sort_width
from accelsim.program.ops import Op
from accelsim.runtime.jit import jit

ROWS, COLS = 2, 6
NUMBERS = st.floats(width=32, allow_nan=False)


def builder_with(values):
    """Return a builder and its tiles src, dst, column and indices; src holds `values`."""
    values = np.asarray(values, np.float32)
    builder = ProgramBuilder("selection", with_numbers=True)
    rows, cols = values.shape
    src = builder.buffer("src", rows, cols, Format.FP32)
    dst = builder.buffer("dst", rows, sort_width(cols), Format.FP32)
    column = builder.buffer("column", rows, 1, Format.FP32)
    src.data[0] = values
    return builder, src, dst, column, builder.index_buffer("indices", 4 * cols)


@jit
def _ranked(p, k, ranking, rows, cols, src, dst, column):
    al.begin_item(p, 0)
    keys = al.tile(dst, 0, rows, dst.cols)
    al.kth_largest(p, al.tile(column, 0, rows, 1), keys, al.tile(src, 0, rows, cols), k, ranking)


def kth_largest(values, k, ranking):
    builder, src, dst, column, _ = builder_with(values)
    program = builder.record(_ranked, 1, k, ranking.value, *np.shape(values), src, dst, column)
    return column.data[0, :, 0], program


@pytest.mark.parametrize("ranking", list(Ranking))
@given(values=st.lists(NUMBERS, min_size=1, max_size=40), data=st.data())
def test_every_ranking_finds_the_kth_largest(ranking, values, data):
    k = data.draw(st.integers(1, len(values)))
    found, _ = kth_largest([values, values[::-1]], k, ranking)
    expected = sorted(np.asarray(values, np.float32), reverse=True)[k - 1]
    assert found.tolist() == [expected, expected]


@pytest.mark.parametrize(
    ("ranking", "expected"),
    [
        (Ranking.RADIX, [Op.HISTOGRAM] * 4),
        (Ranking.BITONIC, [Op.FILL, Op.CONVERT, *[Op.EXCHANGE] * 6, Op.CONVERT]),
        (Ranking.MERGE, [Op.CONVERT, *[Op.EXCHANGE] * 3, Op.CONVERT]),
    ],
)
def test_passes_of_a_ranking(ranking, expected):
    """32-bit keys have four digits; 6 keys need 3 merges, or 3 (3 + 1) / 2 passes over 8 keys."""
    _, program = kth_largest(np.zeros((ROWS, COLS)), 1, ranking)
    assert program.op_codes.tolist() == expected
    passes = [op for op in program if op.op in (Op.HISTOGRAM, Op.EXCHANGE)]
    assert {op.b for op in passes} == {8 if ranking is Ranking.BITONIC else COLS}


def test_half_precision_keys_have_two_digits():
    builder = ProgramBuilder("selection", with_numbers=False)
    buffers = [
        builder.buffer(name, 1, cols, Format.FP16)
        for name, cols in zip("sdc", (5, 8, 1), strict=True)
    ]
    program = builder.record(_ranked, 1, 1, Ranking.RADIX.value, 1, 5, *buffers)
    assert program.op_codes.tolist() == [Op.HISTOGRAM] * 2


@jit
def _kept_largest(p, count, cols, src, dst, column):
    al.begin_item(p, 0)
    kept, values = al.tile(dst, 0, 2, cols), al.tile(src, 0, 2, cols)
    al.keep_largest(p, kept, values, al.tile(column, 0, 2, 1), count, -1.0)


def test_exactly_k_stay_and_of_equal_ones_the_first():
    builder, src, dst, column, _ = builder_with([[3, 1, 2, 2, 2, 0], [5, 5, 5, 5, 5, 5]])
    column.data[0, :, 0] = [2, 5]
    program = builder.record(_kept_largest, 1, 3, COLS, src, dst, column)
    assert dst.data[0, :, :COLS].tolist() == [[3, -1, 2, 2, -1, -1], [5, 5, 5, -1, -1, -1]]
    assert [(op.op, op.reads, op.writes, op.c, op.d) for op in program] == [
        (Op.SELECT, (1, 3), (2,), 4 * (ROWS * COLS + ROWS), 4 * ROWS * COLS)
    ]


@jit
def _kept_at_least(p, cols, src, dst, column):
    al.begin_item(p, 0)
    kept, values = al.tile(dst, 0, 2, cols), al.tile(src, 0, 2, cols)
    al.keep_at_least(p, kept, values, al.tile(column, 0, 2, 1), 0.0)


def test_nan_is_never_dropped():
    values = [[1, np.nan, 3, 0.5], [np.nan, 2, 1, 4]]
    builder, src, dst, column, _ = builder_with(values)
    column.data[0, :, 0] = [1, np.nan]
    builder.record(_kept_at_least, 1, 4, src, dst, column)
    np.testing.assert_array_equal(dst.data[0], [[1, np.nan, 3, 0], [np.nan, 2, 1, 4]])
    column.data[0, :, 0] = [3, 4]
    builder.record(_kept_largest, 1, 1, 4, src, dst, column)
    assert np.isnan(dst.data[0, [0, 1], [1, 0]]).all()


@jit
def _compacted(p, counts, assumed, cols, src, dst, indices):
    al.begin_item(p, 0)
    al.fill(p, al.tile(src, 0, 1, 1), 0.0)
    kept, numbers = al.tile(dst, 0, 2, cols), al.tile(indices, 0, 1, cols)
    counts[0] = al.compact(p, kept, numbers, al.tile(src, 0, 2, cols), 0.0, assumed)


def test_compact_moves_the_columns_that_any_row_keeps_to_the_front():
    counts = np.zeros(1, np.int64)
    builder, src, dst, _, indices = builder_with([[0, 0, 3, 0, 4, 0], [0, 5, 0, 0, 6, 0]])
    program = builder.record(_compacted, 1, counts, 1, COLS, src, dst, indices)
    assert counts.tolist() == [3]
    assert dst.data[0, :, :3].tolist() == [[0, 3, 4], [5, 0, 6]]
    assert indices.data[0, 0, :3].tolist() == [1, 2, 4]
    (op,) = [op for op in program if op.op == Op.COMPACT]
    assert (op.a, op.b, op.c, op.d) == (ROWS, COLS, 4 * ROWS * COLS, 4 * ROWS * 3 + 4 * 3)
    assert (op.reads, op.writes) == ((1,), (2, 4))


def test_without_numbers_the_assumed_columns_are_evenly_spread():
    counts = np.zeros(1, np.int64)
    builder = ProgramBuilder("selection", with_numbers=False)
    src, dst = (builder.buffer(name, 2, 12, Format.FP32) for name in "sd")
    indices = builder.index_buffer("indices", 12)
    builder.record(_compacted, 1, counts, 4, 12, src, dst, indices)
    assert counts.tolist() == [4]
    assert indices.data[0, 0, :4].tolist() == [0, 3, 6, 9]


@jit
def _expanded(p, indices, dst):
    al.begin_item(p, 0)
    al.expand_runs(p, al.tile(dst, 0, 1, 6), al.tile(indices, 0, 1, 2), 3)


def test_runs_expand_to_their_rows():
    builder = ProgramBuilder("selection", with_numbers=False)
    indices, rows = builder.index_buffer("indices", 2), builder.index_buffer("rows", 6)
    indices.data[0, 0] = [1, 4]
    program = builder.record(_expanded, 1, indices, rows)
    assert rows.data[0, 0].tolist() == [3, 4, 5, 12, 13, 14]
    assert [(op.op, op.reads, op.writes, op.a, op.b, op.c, op.d) for op in program] == [
        (Op.ADD, (1,), (2,), 1, 6, 8, 24)
    ]


@jit
def _control(p, values, read, src, dst, column):
    al.begin_item(p, 0)
    limits = al.tile(column, 0, 2, 1)
    al.write_column(p, al.computed_in(limits, FP16), values)
    read[0] = al.read_element(p, limits, 1)
    al.minimum(p, al.tile(dst, 0, 2, 1), al.tile(src, 0, 2, 1), limits)


def test_the_control_core_writes_a_rounded_column_and_reads_it_back():
    values, read = np.array([1.0, 1 + 2**-12]), np.zeros(1)
    builder, src, dst, column, _ = builder_with([[2], [0.5]])
    program = builder.record(_control, 1, values, read, src, dst, column)
    assert read.tolist() == [1.0]
    assert dst.data[0].tolist() == [[1], [0.5]]
    assert program.op_codes.tolist() == [Op.FILL, Op.MAXIMUM]


def test_without_numbers_the_control_core_reads_nan():
    read = np.zeros(1)
    builder = ProgramBuilder("selection", with_numbers=False)
    buffers = [builder.buffer(name, 2, 1, Format.FP32) for name in "sdc"]
    builder.record(_control, 1, np.zeros(2), read, *buffers)
    assert np.isnan(read[0])


@jit
def _ranked_in_pieces(p, k, sizes, products, loaded, column, dst, room):
    rows, cols = sizes
    al.begin_item(p, 1)
    bound = al.tile(column, 0, rows, 1)
    al.kth_largest_stored(p, bound, loaded, products, (1, cols), k, room)
    for turn in range(-(-cols // loaded.cols)):
        start = turn * loaded.cols
        size = min(loaded.cols, cols - start)
        own = al.tile(loaded, turn, rows, size)
        al.load(p, own, products, 1, start)
        kept = al.columns(al.tile(dst, 0, rows, cols), start, size)
        al.keep_in_turn(p, kept, own, bound, room, -np.inf)


def ranked_in_pieces(values, k, piece, fmt=Format.FP32, *, room_rows=2):
    """Return the bounds, what is kept, the room that is left and the program."""
    values = np.asarray(values, np.float32)
    builder = ProgramBuilder("pieces", with_numbers=True)
    rows, cols = values.shape
    above = np.full((1, cols), 9, np.float32)
    products = builder.tensor("x", "input", rows + 1, cols, fmt, np.vstack([above, values]))
    loaded = builder.buffer("loaded", rows, piece, fmt, slots=2)
    column = builder.buffer("column", rows, 1, Format.FP32)
    dst = builder.buffer("dst", rows, cols, Format.FP32)
    room = np.zeros(room_rows, np.int64)
    arguments = k, (rows, cols), products, loaded, column, dst, room
    program = builder.record(_ranked_in_pieces, 1, *arguments)
    return column.data[0, :, 0], dst.data[0], room, program


@given(
    values=st.lists(st.integers(-4, 4), min_size=1, max_size=40),
    piece=st.integers(1, 41),
    data=st.data(),
)
def test_pieces_keep_the_first_of_equal_ones_as_all_at_once(values, piece, data):
    k = data.draw(st.integers(1, len(values)))
    bounds, kept, room, _ = ranked_in_pieces([values, values[::-1]], k, piece)
    builder, src, dst, column, _ = builder_with([values, values[::-1]])
    column.data[0, :, 0] = bounds
    builder.record(_kept_largest_or_nothing, 1, k, len(values), src, dst, column)
    assert bounds.tolist() == [sorted(values)[-k]] * 2
    np.testing.assert_array_equal(kept, dst.data[0, :, : len(values)])
    assert room.tolist() == [0, 0]


@jit
def _kept_largest_or_nothing(p, count, cols, src, dst, column):
    al.begin_item(p, 0)
    kept, values = al.tile(dst, 0, 2, cols), al.tile(src, 0, 2, cols)
    al.keep_largest(p, kept, values, al.tile(column, 0, 2, 1), count, -np.inf)


@pytest.mark.parametrize(("fmt", "digits"), [(Format.FP32, 4), (Format.FP16, 2)])
def test_a_rank_in_pieces_reads_all_pieces_for_each_digit(fmt, digits):
    """Seven columns in pieces of three: three loads and counts a digit, then three to keep some."""
    *_, program = ranked_in_pieces(np.arange(14).reshape(2, 7), 2, 3, fmt)
    expected = [Op.LOAD, Op.HISTOGRAM] * 3 * digits + [Op.LOAD, Op.SELECT] * 3
    assert program.op_codes.tolist() == expected
    moved = program.hbm_bytes[program.op_codes == Op.LOAD].sum()
    assert moved == 14 * fmt.bits // 8 * (digits + 1)


@pytest.mark.parametrize(
    ("k", "room_rows", "message"),
    [
        (8, 2, "asks for 8 numbers"),
        (2, 1, "asks for 2 numbers"),
    ],
)
def test_a_rank_or_room_that_is_not_there_is_refused(k, room_rows, message):
    with pytest.raises(ProgramError) as error:
        ranked_in_pieces(np.zeros((2, 7)), k, 3, room_rows=room_rows)
    assert message in str(error.value)
