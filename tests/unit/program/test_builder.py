"""Placing tensors and buffers, and recording into an array that may be too small at first."""

import numpy as np
import pytest

from accelsim.errors import DoesNotFitError, ProgramError
from accelsim.numerics.formats import Format
from accelsim.program import builder as builder_module
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.long import LongProgram, held
from accelsim.program.ops import MAX_OPS, NUM_INDICES
from accelsim.program.shared import PROGRAMS
from accelsim.runtime.jit import jit


@pytest.fixture
def builder():
    return ProgramBuilder("plan", with_numbers=False)


def test_tensors_begin_at_multiples_of_4096(builder):
    shapes = [(1, 1), (64, 32), (65, 32), (3, 7)]
    tensors = [builder.tensor(f"t{i}", "input", *s, Format.FP16) for i, s in enumerate(shapes)]
    assert [t.address for t in tensors] == [0, 4096, 8192, 16384]
    assert [t.number for t in tensors] == [0, 1, 2, 3]
    assert [t.row_bytes for t in tensors] == [2, 64, 64, 14]
    assert all(t.data is None for t in tensors)


def test_rows_are_packed_to_whole_bytes(builder):
    tensor = builder.tensor("t", "input", 4, 3, Format.INT4)
    assert tensor.row_bytes == 2
    assert builder.tensors[0].size_bytes == 8


def test_slots_count_from_one_through_all_buffers(builder):
    first = builder.buffer("a", 2, 3, Format.FP16, slots=2)
    second = builder.buffer("b", 2, 3, Format.FP32, memory="accumulator")
    third = builder.buffer("c", 3, 3, Format.INT4, slots=3)
    assert [b.first_slot for b in (first, second, third)] == [1, 3, 4]
    assert [info.slot_bytes for info in builder.buffers] == [12, 24, 5]
    assert [info.size_bytes for info in builder.buffers] == [24, 24, 15]


def test_memory_is_summed_by_kind(builder):
    builder.buffer("a", 2, 3, Format.FP16, slots=2)
    builder.buffer("b", 2, 3, Format.FP32, memory="accumulator")
    builder.buffer("c", 3, 3, Format.INT4, slots=3)
    program = builder.record(_nothing, 0)
    assert program.memory_bytes("scratchpad") == 39
    assert program.memory_bytes("accumulator") == 24
    assert program.num_slots == 6


@jit
def _nothing(p):
    """Begin no item."""


def test_more_slots_than_a_word_can_name_are_refused(builder):
    builder.buffer("most", 1, 1, Format.FP16, slots=2**16 - 2)
    with pytest.raises(ProgramError) as error:
        builder.buffer("rest", 1, 1, Format.FP16, slots=2)
    assert str(error.value) == "plan: more than 65535 buffer slots"


def test_all_slots_of_a_word_can_be_used(builder):
    assert builder.buffer("all", 1, 1, Format.FP16, slots=2**16 - 1).slots == 65535


@jit
def _fills(p, items, buffer):
    for turn in range(items):
        al.begin_item(p, 0)
        al.fill(p, al.tile(buffer, turn, 1, turn + 1), 0.0)


@pytest.mark.parametrize("announced", [2, 4])
def test_a_kernel_must_begin_the_items_it_announced(builder, announced):
    buffer = builder.buffer("b", 1, 3, Format.FP16)
    with pytest.raises(ProgramError) as error:
        builder.record(_fills, announced, 3, buffer)
    assert str(error.value) == f"plan: began 3 work items, but announced {announced}"


def _is_too_long(_p, has_gathered=False):
    """What a kernel does that has recorded too many ops."""
    _p[NUM_INDICES] = has_gathered
    raise OverflowError


def test_a_program_that_is_too_long_is_recorded_when_it_is_needed(builder):
    program = builder.record(_is_too_long, 5)
    assert isinstance(program, LongProgram)
    assert program.recording == (_is_too_long, 5, ())
    assert program.with_parameters(tile=3).parameters == {"tile": 3}


@pytest.mark.parametrize("held_ops", [3, 5, 6])
def test_a_program_that_is_long_is_held_where_all_ops_are_needed(monkeypatch, builder, held_ops):
    buffer = builder.buffer("b", 1, 6, Format.FP16)
    whole = builder.record(_fills, 6, 6, buffer)
    PROGRAMS.forget()
    monkeypatch.setattr(builder_module, "HELD_OPS", held_ops)
    monkeypatch.setattr(builder_module, "_FIRST_CAPACITY_OPS", 2)
    program = builder.record(_fills, 6, 6, buffer)
    assert isinstance(program, LongProgram) == (held_ops < 6)
    again = held(program.with_parameters(tile=3), "a test")
    np.testing.assert_array_equal(again.ops, whole.ops)
    np.testing.assert_array_equal(again.item_start, whole.item_start)
    assert (again.tensors, again.buffers) == (whole.tensors, whole.buffers)
    assert again.parameters == {"tile": 3}
    with pytest.raises(ProgramError, match="began 6 work items, but announced 7"):
        held(builder.record(_fills, 7, 6, buffer), "a test")


def test_a_long_program_neither_gathers_nor_computes(builder):
    for own, arguments, what in (
        (builder, (True,), "a program that gathers"),
        (ProgramBuilder("plan", with_numbers=True), (), "a program with numbers"),
    ):
        with pytest.raises(DoesNotFitError) as error:
            own.record(_is_too_long, 5, *arguments)
        assert str(error.value) == (
            f"plan: needs more than {MAX_OPS} ops, the most {what} may have; "
            f"choose larger tiles or a smaller problem"
        )


def test_a_work_item_of_a_long_program_can_be_too_long(builder):
    with pytest.raises(DoesNotFitError) as error:
        builder.record(_is_too_long, 5).play(lambda _: None, 3)
    assert str(error.value) == (
        f"plan: a work item needs more than {MAX_OPS} ops, the most that are held; "
        f"choose larger tiles or a smaller problem"
    )


@jit
def _mixed(p, indices, src, buffer):
    for turn in range(4):
        al.begin_item(p, turn // 2)
        al.load(p, al.tile(buffer, turn, 2, 8), src, turn, 0)
        al.gather(p, al.tile(buffer, turn, 3, 8), src, al.tile(indices, 0, 1, 3), turn, 0)


@pytest.mark.parametrize("capacity_ops", [0, 1, 7, 8, 9, 10, 100])
def test_a_program_that_overflows_the_recorder_is_recorded_again(monkeypatch, capacity_ops):
    """8 ops of 7 words and 12 indices; between 8 and 9 ops only the indices are too many."""
    monkeypatch.setattr(builder_module, "_FIRST_CAPACITY_OPS", capacity_ops)
    builder = ProgramBuilder("plan", with_numbers=False)
    src = builder.tensor("src", "input", 16, 8, Format.FP16)
    buffer = builder.buffer("b", 3, 8, Format.FP16, slots=2)
    indices = builder.index_buffer("indices", 3)
    indices.data[0, 0] = [2, 5, 3]
    program = builder.record(_mixed, 4, indices, src, buffer)
    assert program.num_ops == 8
    assert program.item_start.tolist() == [0, 2, 4, 6, 8]
    assert program.item_phase.tolist() == [0, 0, 1, 1]
    assert program.gathered_rows.tolist() == [2, 5, 3] * 4
    assert [op.a for op in program] == [16 * (i // 2) for i in range(8)]
    assert [op.d for op in program] == [16, 0, 16, 3, 16, 6, 16, 9]
    assert [op.writes for op in program] == [(1,), (1,), (2,), (2,)] * 2


def test_numbers_are_recorded_beside_the_program():
    builder = ProgramBuilder("plan", with_numbers=True)
    values = np.ones((2, 2), np.float32)
    given = builder.tensor("given", "input", 2, 2, Format.FP16, values)
    made = builder.tensor("made", "output", 2, 3, Format.INT8)
    buffer = builder.buffer("b", 1, 3, Format.FP16, slots=2)
    assert given.data is values
    assert (made.data.dtype, made.data.shape) == (np.int32, (2, 3))
    assert (buffer.data.dtype, buffer.data.shape) == (np.float32, (2, 1, 3))


def test_row_numbers_have_data_without_numbers_too(builder):
    tensor = builder.index_tensor("numbers", np.array([4, 1, 3]))
    assert (tensor.rows, tensor.cols, tensor.row_bytes) == (1, 3, 12)
    assert tensor.data.dtype == np.int32
    assert tensor.data.tolist() == [[4, 1, 3]]
    assert builder.index_buffer("i", 3, slots=2).data.shape == (2, 1, 3)


def test_a_table_needs_the_rows_that_it_says(builder):
    builder.tensor("whole", "input", 9, 8, Format.FP16)
    builder.tensor("table", "input", 9, 8, Format.FP16, needed_rows=2)
    assert [tensor.needed_bytes for tensor in builder.tensors] == [144, 32]
    assert [tensor.size_bytes for tensor in builder.tensors] == [144, 144]
