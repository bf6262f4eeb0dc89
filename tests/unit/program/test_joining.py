"""Programs joined: what is numbered anew, what runs of a part share, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from accelsim.engine.compiled import schedule
from accelsim.errors import DoesNotFitError
from accelsim.loading import load_machine
from accelsim.program.joining import Part, Stored, can_read, joined
from accelsim.program.ops import MAX_OPS, Op
from accelsim.program.printer import format_program
from accelsim.program.program import BufferInfo, TensorInfo
from accelsim.program.verifier import verify
from accelsim.simulation import record
from tests.handmade import gather, load, move, program_of, store, vector

COPY = program_of(
    [[load(1, 0, 16, rows=4), store(1, 4096, 16, rows=4)]],
    tensors=(TensorInfo("x", "input", 4, 8, 16, 0), TensorInfo("y", "output", 4, 8, 16, 4096)),
    buffers=(BufferInfo("b", "scratchpad", 2, 4, 8, 16, 1),),
)
PICK = program_of(
    [
        [load(2, 0, 4), gather(1, 4096, 16, rows=2, tensor=1, numbers=2)],
        [vector(1, 8, op=Op.FILL), store(1, 8192, 16, rows=2, tensor=2)],
    ],
    phases=[0, 1],
    tensors=(
        TensorInfo("i", "input", 1, 2, 16, 0),
        TensorInfo("x", "input", 4, 8, 16, 4096),
        TensorInfo("y", "output", 2, 8, 16, 8192),
    ),
    buffers=(
        BufferInfo("rows", "scratchpad", 1, 2, 8, 16, 1),
        BufferInfo("numbers", "scratchpad", 1, 1, 2, 16, 2),
        BufferInfo("sums", "accumulator", 1, 2, 8, 32, 3),
    ),
    gathered_rows=[3, 1],
)

GENERATION = {"workload.q_len": 1, "workload.steps": 256}

JOINED = """\
program both
  tensor 0.pick.i input 1x2 x 16 bit at 0
  tensor 0.pick.x input 4x8 x 16 bit at 4096
  tensor 0.pick.y output 2x8 x 16 bit at 8192
  tensor 1.copy.x input 4x8 x 16 bit at 12288
  tensor 1.copy[0].y output 4x8 x 16 bit at 16384
  tensor 1.copy[1].y output 4x8 x 16 bit at 20480
  tensor 2.pick.i input 1x2 x 16 bit at 24576
  tensor 2.pick.x input 4x8 x 16 bit at 28672
  tensor 2.pick.y output 2x8 x 16 bit at 32768
  buffer 0.pick.rows scratchpad 1 x 2x8 x 16 bit = 32 B
  buffer 0.pick.numbers scratchpad 1 x 1x2 x 16 bit = 4 B
  buffer 0.pick.sums accumulator 1 x 2x8 x 32 bit = 64 B
  buffer 1.copy.b scratchpad 2 x 4x8 x 16 bit = 128 B
  buffer 2.pick.rows scratchpad 1 x 2x8 x 16 bit = 32 B
  buffer 2.pick.numbers scratchpad 1 x 1x2 x 16 bit = 4 B
  buffer 2.pick.sums accumulator 1 x 2x8 x 32 bit = 64 B
item 0 phase 0
     0 load   load     0.pick.numbers[0] <- 0.pick.i: 1 rows x 4 B at 0 step 4
     1 load   gather   0.pick.rows[0] <- 0.pick.x[0.pick.numbers[0]]: 2 rows x 16 B from 4096, \
indices 0..
item 1 phase 1
     2 vector fill     0.pick.rows[0]: 1x8 fp16
     3 store  store    0.pick.y <- 0.pick.rows[0]: 2 rows x 16 B at 8192 step 16
item 2 phase 2
     4 load   load     1.copy.b[0] <- 1.copy.x: 4 rows x 16 B at 12288 step 16
     5 store  store    1.copy[0].y <- 1.copy.b[0]: 4 rows x 16 B at 16384 step 16
item 3 phase 3
     6 load   load     1.copy.b[0] <- 1.copy.x: 4 rows x 16 B at 12288 step 16
     7 store  store    1.copy[1].y <- 1.copy.b[0]: 4 rows x 16 B at 20480 step 16
item 4 phase 4
     8 load   load     2.pick.numbers[0] <- 2.pick.i: 1 rows x 4 B at 24576 step 4
     9 load   gather   2.pick.rows[0] <- 2.pick.x[2.pick.numbers[0]]: 2 rows x 16 B from 28672, \
indices 2..
item 5 phase 5
    10 vector fill     2.pick.rows[0]: 1x8 fp16
    11 store  store    2.pick.y <- 2.pick.rows[0]: 2 rows x 16 B at 32768 step 16"""


@pytest.fixture
def three():
    return joined("both", [Part("pick", PICK), Part("copy", COPY, 2), Part("pick", PICK)])


def test_parts_have_names_places_and_phases_of_their_own(three):
    assert format_program(three) == JOINED
    assert three.gathered_rows.tolist() == [3, 1, 3, 1]


def test_a_joined_program_is_sound(three):
    verify(three)


def test_buffers_of_parts_take_turns_in_the_memories_on_chip(three):
    assert three.memory_bytes("scratchpad") == COPY.memory_bytes("scratchpad") == 2 * 4 * 8 * 2
    assert three.memory_bytes("accumulator") == 2 * 8 * 4
    assert three.memory_bytes("index_buffer") == 0


def test_every_field_of_packed_slots_moves():
    wide = program_of([[vector(4, 1, reads=[3, 1, 2, 4]), move(1, 4, 1, 1)]])
    program = joined("both", [Part("a", COPY), Part("b", wide)])
    assert [(op.reads, op.writes) for op in program][2:] == [((5, 3, 4, 6), (6,)), ((6,), (3,))]


def test_what_programs_counted_is_counted_as_often_as_they_run():
    counted = replace(COPY, overflows=3)
    assert joined("both", [Part("a", counted, 2), Part("b", counted)]).overflows == 9


def test_one_part_is_the_program_itself_but_for_its_names():
    program = record("edge-npu", "attention-uniform-small", "sift", GENERATION)
    alone = joined("alone", [Part("p", program)])
    np.testing.assert_array_equal(alone.ops, program.ops)
    np.testing.assert_array_equal(alone.item_start, program.item_start)
    np.testing.assert_array_equal(alone.item_phase, program.item_phase)
    np.testing.assert_array_equal(alone.gathered_rows, program.gathered_rows)
    assert [each.address for each in alone.tensors] == [each.address for each in program.tensors]


def test_kernels_of_many_phases_can_be_joined():
    """Kernels that gather rows, and kernels of several phases."""
    names = ("sift", "dense", "pasa")
    ways = zip(names, (GENERATION, {}, {}), strict=True)
    programs = [record("edge-npu", "attention-uniform-small", *way) for way in ways]
    program = joined("all", [Part("p", each, 2) for each in programs])
    verify(program)
    machine = load_machine("edge-npu")
    held = [schedule(each, machine).scratchpad_held_peak_bytes for each in programs]
    assert schedule(program, machine).scratchpad_held_peak_bytes == max(held)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (Part("p", COPY, MAX_OPS), f"{2 * MAX_OPS} ops as one program, allowed: {MAX_OPS}"),
        (
            Part("p", replace(COPY, buffers=(BufferInfo("b", "scratchpad", 65536, 4, 8, 16, 1),))),
            "65536 slots of buffers as one program, allowed: 65535",
        ),
        (Part("p", COPY, 65535), "65536 tensors as one program, allowed: 65535"),
    ],
)
def test_what_no_program_can_hold_is_refused(part, found):
    with pytest.raises(DoesNotFitError) as error:
        joined("both", [part])
    assert str(error.value) == (
        f"both: found {found}; run its parts one by one, or give it fewer or smaller ones"
    )


CHAIN = TensorInfo("x", "input", 8, 4, 16, 0)
"""As many elements as the output of COPY, in other rows."""


def test_an_input_is_the_tensor_that_an_earlier_part_stored():
    taken = replace(COPY, tensors=(CHAIN, COPY.tensors[1]))
    parts = [
        Part("a", COPY, 2),
        Part("b", taken, 2, {"x": Stored(0, "y")}),
        Part("c", COPY, 1, {"x": Stored(1, "y")}),
    ]
    program = joined("chain", parts)
    verify(program)
    names = ["0.a.x", "0.a[0].y", "0.a[1].y", "1.b[0].y", "1.b[1].y", "2.c.y"]
    assert [tensor.name for tensor in program.tensors] == names
    assert [tensor.address for tensor in program.tensors] == [4096 * each for each in range(6)]
    # Every run loads, and then stores.
    moves = [(program.tensor_name(op.tensor), op.a) for op in program]
    assert [name for name, _ in moves[::2]] == [
        *("0.a.x", "0.a.x", "0.a[1].y", "0.a[1].y", "1.b[1].y")
    ]
    assert [address for _, address in moves[::2]] == [0, 0, 8192, 8192, 16384]


def test_an_input_can_be_a_part_of_what_was_stored():
    half = program_of(
        [[load(1, 0, 16, rows=2), store(1, 4096, 16, rows=2)]],
        tensors=(TensorInfo("x", "input", 2, 8, 16, 0), TensorInfo("y", "output", 2, 8, 16, 4096)),
        buffers=(BufferInfo("b", "scratchpad", 2, 2, 8, 16, 1),),
    )
    program = joined("halves", [Part("a", COPY), Part("b", half, 1, {"x": Stored(0, "y", 32)})])
    verify(program)
    loads = [(program.tensor_name(op.tensor), op.a) for op in program][::2]
    assert loads == [("0.a.x", 0), ("0.a.y", 4096 + 32)]


Y = COPY.tensors[1]


@pytest.mark.parametrize(
    ("program", "name", "stored", "size_bytes", "can"),
    [
        (COPY, "x", Y, 64, True),
        (COPY, "x", replace(Y, rows=8, cols=4), 64, True),
        (COPY, "z", Y, 64, False),
        (COPY, "y", Y, 64, False),
        (COPY, "x", Y, 32, False),
        (COPY, "x", replace(Y, cols=16, bits=8), 64, False),
        (PICK, "x", Y, 64, True),
        (PICK, "x", replace(Y, rows=8, cols=4), 64, False),
    ],
    ids=[
        "same",
        "other-rows",
        "unknown",
        "output",
        "less",
        "narrow",
        "picked",
        "picked-other-rows",
    ],
)
def test_an_input_is_read_where_as_many_bytes_of_its_width_lie(
    program, name, stored, size_bytes, can
):
    """Row numbers count rows of the input, so an output of other rows would be read elsewhere."""
    assert can_read(program, name, stored, size_bytes) is can
