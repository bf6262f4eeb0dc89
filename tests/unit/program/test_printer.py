"""Programs as text."""

import pytest

from accelsim.program.ops import Op
from accelsim.program.printer import format_op, format_program
from accelsim.program.program import BufferInfo, TensorInfo
from tests.handmade import gather, load, matmul, move, program_of, store, vector

TENSORS = (TensorInfo("x", "input", 4, 8, 16, 0), TensorInfo("y", "output", 4, 8, 4, 4096))
BUFFERS = (
    BufferInfo("b", "scratchpad", 2, 4, 8, 16, 1),
    BufferInfo("acc", "accumulator", 1, 4, 8, 32, 3),
)
OPS = {
    load(2, 32, 8, rows=3, step=16): "load   load     b[1] <- x: 3 rows x 8 B at 32 step 16",
    gather(1, 8, 4, rows=3, first=7, numbers=2): (
        "load   gather   b[0] <- x[b[1]]: 3 rows x 4 B from 8, indices 7.."
    ),
    store(1, 4096, 4): "store  store    y <- b[0]: 1 rows x 4 B at 4096 step 4",
    matmul(3, 1, 2, 4, 5, 6, bits=(16, 4)): (
        "cube   matmul   acc[0] <- b[0], b[1]: 4x5x6 fp16 -> fp32 (16 x 4 bit)"
    ),
    move(1, 3, 4, 8): "move   move     b[0] <- acc[0]: 4x8 fp32 -> fp16",
    vector(1, 8, reads=[1, 2], op=Op.MAXIMUM): "vector maximum  b[0] <- b[0], b[1]: 1x8 fp16",
    vector(1, 8, op=Op.FILL): "vector fill     b[0]: 1x8 fp16",
    vector(9, 8, op=Op.FILL): "vector fill     slot 9: 1x8 fp16",
}


@pytest.mark.parametrize(("op", "text"), OPS.items(), ids=lambda value: str(value)[:20])
def test_an_op_is_a_line(op, text):
    program = program_of([[op]], tensors=TENSORS, buffers=BUFFERS)
    assert format_op(program, program.decode(0)) == f"   0 {text}"


PROGRAM = program_of(
    [[load(1, 0, 16), store(1, 4096, 4)], [vector(2, 8, op=Op.FILL)]],
    phases=[0, 2],
    tensors=TENSORS,
    buffers=BUFFERS,
)
LINES = [
    "program handmade",
    "  tensor x input 4x8 x 16 bit at 0",
    "  tensor y output 4x8 x 4 bit at 4096",
    "  buffer b scratchpad 2 x 4x8 x 16 bit = 128 B",
    "  buffer acc accumulator 1 x 4x8 x 32 bit = 128 B",
    "item 0 phase 0",
    "     0 load   load     b[0] <- x: 1 rows x 16 B at 0 step 16",
    "     1 store  store    y <- b[0]: 1 rows x 4 B at 4096 step 4",
    "item 1 phase 2",
    "     2 vector fill     b[1]: 1x8 fp16",
]


def test_a_program_is_its_tensors_buffers_items_and_ops():
    assert format_program(PROGRAM).split("\n") == LINES


def test_a_limit_leaves_out_the_last_ops():
    assert format_program(PROGRAM, limit=1).split("\n") == [*LINES[:7], "... and 2 more ops"]


def test_a_limit_beyond_the_end_leaves_out_nothing():
    assert format_program(PROGRAM, limit=3).split("\n") == LINES


def test_empty_items_are_shown():
    text = format_program(program_of([[], [vector(1, 8, op=Op.FILL)], []]))
    assert text.split("\n")[-4:] == [
        "item 0 phase 0",
        "item 1 phase 0",
        "     0 vector fill     s[0]: 1x8 fp16",
        "item 2 phase 0",
    ]
