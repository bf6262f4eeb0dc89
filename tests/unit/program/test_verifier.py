"""Every rule of the verifier, each with a program that breaks it and the whole message."""

from dataclasses import replace

import pytest

from accelsim.errors import ProgramError
from accelsim.program.ops import NUM_OPS, OPERAND_SHIFT, TENSOR_SHIFT, Op
from accelsim.program.program import BufferInfo, TensorInfo
from accelsim.program.verifier import verify
from tests.handmade import gather, int_matmul, load, matmul, move, program_of, store, vector

TENSORS = (
    TensorInfo("x", "input", 4, 8, 16, 0),
    TensorInfo("y", "output", 4, 8, 16, 4096),
    TensorInfo("t", "intermediate", 4, 8, 16, 8192),
)
BUFFERS = (
    BufferInfo("b", "scratchpad", 3, 4, 8, 16, 1),
    BufferInfo("acc", "accumulator", 1, 4, 8, 32, 4),
    BufferInfo("order", "index_buffer", 1, 1, 8, 32, 5),
    BufferInfo("row", "scratchpad", 1, 1, 8, 16, 6),
)
LOAD = load(1, 0, 16, rows=4, tensor=0)
STORE = store(1, 4096, 16, rows=4, tensor=1)
STORE_T = store(1, 8192, 16, rows=4, tensor=2)
LOAD_T = load(1, 8192, 16, rows=4, tensor=2)


def checked(items, phases=None, gathered_rows=()):
    verify(program_of(items, phases, tensors=TENSORS, buffers=BUFFERS, gathered_rows=gathered_rows))


@pytest.mark.parametrize(
    "items",
    [
        [[LOAD, STORE]],
        [[LOAD, vector(2, 8, reads=[1]), store(2, 4096, 16, rows=4)]],
        [[LOAD, matmul(4, 1, 1, 4, 4, 8), move(2, 4, 4, 4), store(2, 4096, 16, rows=4)]],
        [[LOAD, store(1, 4096, 8, rows=4, step=16)], [LOAD, store(1, 4104, 8, rows=4, step=16)]],
        [[], [vector(1, 8, op=Op.FILL, read_bytes=0), STORE], []],
    ],
    ids=["copy", "vector", "product", "interleaved columns", "fill and empty items"],
)
def test_a_sound_program_passes(items):
    checked(items)


def test_a_tensor_may_be_stored_in_one_phase_and_loaded_in_the_next():
    checked([[LOAD, STORE_T], [LOAD_T, STORE]], phases=[0, 1])


def test_gathered_rows_may_be_anywhere_in_the_tensor():
    checked([[gather(1, 0, 16, rows=4, first=1), STORE]], gathered_rows=[9, 3, 0, 3, 2])


TWICE = store(1, 4128, 16, rows=2)
FILL = vector(1, 8, op=Op.FILL, read_bytes=0)
FILL_ROW = vector(6, 8, op=Op.FILL, read_bytes=0)
ORDER = load(5, 0, 8, tensor=0)


def of_size(words, rows, cols):
    """Return the words of a vector op or move over another number of rows and columns."""
    return (*words[:3], rows, cols, *words[5:])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [[load(1, 0, 16, rows=0)]],
            "op 0 load   load     b[0] <- x: 0 rows x 16 B at 0 step 16: has no size",
        ),
        (
            [[LOAD, vector(2, 0, reads=[1])]],
            "op 1 vector add      b[1] <- b[0]: 1x0 fp16: has no size",
        ),
        (
            [[LOAD, vector(2, 3, reads=[1], read_bytes=0)]],
            "op 1 vector add      b[1] <- b[0]: 1x3 fp16: has no size",
        ),
        (
            [[LOAD, matmul(4, 1, 1, 4, 4, 0)]],
            "op 1 cube   matmul   acc[0] <- b[0], b[0]: 4x4x0 fp16 -> fp32 (16 x 16 bit): "
            "has no size",
        ),
        (
            [[vector(2, 8, reads=[1])]],
            "op 0 vector add      b[1] <- b[0]: 1x8 fp16: "
            "reads b[0], which its work item has not written",
        ),
        (
            [[LOAD], [STORE]],
            "op 1 store  store    y <- b[0]: 4 rows x 16 B at 4096 step 16: "
            "reads b[0], which its work item has not written",
        ),
        (
            [[LOAD, matmul(4, 1, 1, 4, 4, 8, accumulate=True)]],
            "op 1 cube   matmul   acc[0] <- b[0], b[0], acc[0]: 4x4x8 fp16 -> fp32 (16 x 16 bit): "
            "reads acc[0], which its work item has not written",
        ),
        (
            [[load(1, 16, 16, rows=4)]],
            "op 0 load   load     b[0] <- x: 4 rows x 16 B at 16 step 16: "
            "reaches outside its tensor",
        ),
        (
            [[LOAD, store(1, 4080, 16)]],
            "op 1 store  store    y <- b[0]: 1 rows x 16 B at 4080 step 16: "
            "reaches outside its tensor",
        ),
        (
            [[LOAD, store(1, 0, 16, tensor=0)]],
            "op 1 store  store    x <- b[0]: 1 rows x 16 B at 0 step 16: stores to an input",
        ),
        (
            [[LOAD, STORE, TWICE]],
            "op 2 store  store    y <- b[0]: 2 rows x 16 B at 4128 step 16: "
            "stores a part of y that was stored already",
        ),
        (
            [[LOAD, STORE, LOAD_T]],
            "op 2 load   load     b[0] <- t: 4 rows x 16 B at 8192 step 16: "
            "loads what is not stored in an earlier phase",
        ),
        (
            [[LOAD, STORE_T], [LOAD_T, STORE]],
            "op 2 load   load     b[0] <- t: 4 rows x 16 B at 8192 step 16: "
            "loads what is not stored in an earlier phase",
        ),
    ],
)
def test_an_op_that_breaks_a_rule_is_named(items, message):
    with pytest.raises(ProgramError) as error:
        checked(items)
    assert str(error.value) == f"handmade: {message}"


@pytest.mark.parametrize(
    ("items", "slot"),
    [
        ([[load(1, 0, 16, rows=5)]], "b[0]"),
        ([[load(1, 0, 18, rows=4)]], "b[0]"),
        ([[LOAD, store(1, 4096, 16, rows=5)]], "b[0]"),
        ([[FILL_ROW, gather(1, 0, 16, rows=5, numbers=6)]], "b[0]"),
        ([[load(6, 0, 4), load(6, 0, 16), gather(6, 0, 16, rows=2, numbers=6)]], "row[0]"),
        ([[LOAD, matmul(4, 1, 1, 5, 8, 4)]], "acc[0]"),
        ([[LOAD, matmul(4, 1, 1, 4, 9, 4)]], "b[0]"),
        ([[LOAD, matmul(4, 1, 1, 4, 4, 9)]], "b[0]"),
        ([[LOAD, FILL_ROW, matmul(4, 1, 6, 1, 2, 8)]], "row[0]"),
        ([[LOAD, ORDER, int_matmul(4, 1, 1, 4, 4, 9, order=5)]], "b[0]"),
        ([[LOAD, matmul(4, 1, 1, 4, 8, 4), move(2, 4, 5, 8)]], "acc[0]"),
        ([[LOAD, matmul(4, 1, 1, 4, 8, 4), move(6, 4, 2, 8)]], "row[0]"),
        ([[vector(1, 9, op=Op.FILL, read_bytes=0)]], "b[0]"),
        ([[of_size(FILL, 5, 8)]], "b[0]"),
        ([[FILL_ROW, of_size(vector(1, 8, reads=[6], read_bytes=64), 4, 8)]], "row[0]"),
        ([[LOAD, of_size(vector(1, 8, reads=[1, 1], read_bytes=129), 4, 8)]], "b[0]"),
        ([[LOAD, FILL_ROW, of_size(vector(1, 8, reads=[1, 6], read_bytes=128), 4, 8)]], "row[0]"),
        ([[LOAD, of_size(vector(6, 8, reads=[1], read_bytes=64, op=Op.REDUCE), 5, 8)]], "b[0]"),
        ([[LOAD, vector(6, 8, reads=[1], op=Op.REDUCE, written_bytes=17)]], "row[0]"),
        ([[LOAD, vector(2, 8, reads=[1], op=Op.COMPACT, written_bytes=65)]], "b[1]"),
    ],
)
def test_an_op_touches_no_more_of_a_tile_than_there_is(items, slot):
    with pytest.raises(ProgramError) as error:
        checked(items, gathered_rows=[0] * 5)
    sizes = {"b": "4x8 x 16 bit", "acc": "4x8 x 32 bit", "row": "1x8 x 16 bit"}
    size = sizes[slot.partition("[")[0]]
    assert str(error.value).startswith(f"handmade: op {len(items[0]) - 1} ")
    assert str(error.value).endswith(f": touches more of {slot} than its {size}")


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (
            [[LOAD, matmul(2, 1, 1, 4, 4, 8)]],
            "op 1 cube   matmul   b[1] <- b[0], b[0]: 4x4x8 fp16 -> fp32 (16 x 16 bit): "
            "uses b[1], which lies in the scratchpad; "
            "a product reads the scratchpad and writes the accumulator",
        ),
        (
            [[LOAD, move(2, 1, 4, 4)]],
            "op 1 move   move     b[1] <- b[0]: 4x4 fp32 -> fp16: "
            "uses b[0], which lies in the scratchpad; "
            "a move reads the accumulator and writes the scratchpad",
        ),
        (
            [[load(4, 0, 16)]],
            "op 0 load   load     acc[0] <- x: 1 rows x 16 B at 0 step 16: "
            "uses acc[0], which lies in the accumulator; "
            "a load writes the scratchpad or the index buffer",
        ),
        (
            [[LOAD, int_matmul(4, 1, 1, 4, 4, 8, order=1)]],
            "op 1 int_mac int_matmul acc[0] <- b[0], b[0], b[0]: 4x4x8 int4 x int4 -> int32, "
            "0 shifts: uses b[0], which lies in the scratchpad; a product reads the scratchpad and "
            "writes the accumulator, and has its order in the index buffer",
        ),
        (
            [[LOAD, vector(4, 8, reads=[1])]],
            "op 1 vector add      acc[0] <- b[0]: 1x8 fp16: "
            "uses acc[0], which lies in the accumulator; it reads and writes the scratchpad",
        ),
    ],
)
def test_units_reach_their_memories(items, reason):
    with pytest.raises(ProgramError) as error:
        checked(items)
    assert str(error.value) == f"handmade: {reason}"


@pytest.mark.parametrize(
    "words",
    [
        (Op.LOAD, 0, 7, 0, 1, 16, 16),
        (Op.LOAD | 3 << TENSOR_SHIFT, 0, 1, 0, 1, 16, 16),
        (NUM_OPS, 0, 1, 1, 8, 1, 1),
        (Op.FILL | 200 << OPERAND_SHIFT, 0, 1, 1, 8, 1, 1),
    ],
    ids=["slot", "tensor", "op", "format"],
)
def test_what_an_op_names_is_there(words):
    with pytest.raises(ProgramError) as error:
        checked([[LOAD, words]])
    assert str(error.value) == (
        "handmade: op 1: names an op, a format, a slot or a tensor that is not there"
    )


@pytest.mark.parametrize(
    "words",
    [
        load(1, 2**63 - 16, 16, tensor=0),
        load(1, 0, 16, rows=2, step=2**63 - 1, tensor=0),
        load(1, 48, 16, rows=2, step=-16, tensor=0),
        gather(1, 0, 16, rows=3, first=0),
        gather(1, 0, 16, rows=2, first=-1),
        gather(1, 0, 16, rows=1, first=1),
    ],
)
def test_a_transfer_never_leaves_its_tensor(words):
    with pytest.raises(ProgramError, match=r"reaches outside its tensor$"):
        checked([[LOAD, words]], gathered_rows=[0, 2**62])


def test_a_program_has_an_output():
    with pytest.raises(ProgramError) as error:
        verify(program_of([[LOAD]], tensors=TENSORS[:1], buffers=BUFFERS))
    assert str(error.value) == "handmade: has no output tensor"


@pytest.mark.parametrize("rows", [[0, 4], [-1, 0]])
def test_a_gather_stays_inside_its_tensor(rows):
    with pytest.raises(ProgramError) as error:
        checked([[LOAD, gather(1, 0, 16, rows=2, numbers=1)]], gathered_rows=rows)
    assert str(error.value) == (
        "handmade: op 1 load   gather   b[0] <- x[b[0]]: 2 rows x 16 B from 0, indices 0..: "
        "reaches outside its tensor"
    )


def test_phases_never_fall():
    with pytest.raises(ProgramError) as error:
        checked([[LOAD, STORE], [], []], phases=[0, 1, 0])
    assert str(error.value) == "handmade: item 2 begins an earlier phase than the one before"


def test_an_output_is_stored_whole():
    with pytest.raises(ProgramError) as error:
        checked([[LOAD, store(1, 4096, 16, rows=3)]])
    assert str(error.value) == "handmade: output y has 64 B, but 48 B are stored"


def test_an_output_that_is_written_in_parts_has_as_many_rows_as_it_says():
    parts = (TENSORS[0], replace(TENSORS[1], needed_rows=3))
    verify(program_of([[LOAD, store(1, 4096, 16, rows=3)]], tensors=parts, buffers=BUFFERS))
    with pytest.raises(ProgramError) as error:
        verify(program_of([[LOAD, store(1, 4096, 16, rows=2)]], tensors=parts, buffers=BUFFERS))
    assert str(error.value) == "handmade: output y has 48 B, but 32 B are stored"
