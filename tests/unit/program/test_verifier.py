"""Every rule of the verifier, each with a program that breaks it and the whole message."""

import pytest

from accelsim.errors import ProgramError
from accelsim.program.ops import Op
from accelsim.program.program import BufferInfo, TensorInfo
from accelsim.program.verifier import verify
from tests.handmade import gather, load, matmul, move, program_of, store, vector

TENSORS = (
    TensorInfo("x", "input", 4, 8, 16, 0),
    TensorInfo("y", "output", 4, 8, 16, 4096),
    TensorInfo("t", "intermediate", 4, 8, 16, 8192),
)
BUFFERS = (
    BufferInfo("b", "scratchpad", 3, 4, 8, 16, 1),
    BufferInfo("acc", "accumulator", 1, 4, 8, 32, 4),
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
