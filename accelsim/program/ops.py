"""The record of one op: which words it has, which ops exist and which unit runs each of them.

An op is seven 64-bit words, so that recording is a handful of stores into one plain array:

    word     load, store             gather             matmul           move, vector
    HEAD     op | operand, accumulator and output format | tensor
    READS    up to four slots read, 16 bits each
    WRITES   up to four slots written, 16 bits each
    A        address of first row    address of row 0   m                rows
    B        rows                    rows               n                columns
    C        bytes of a row          bytes of a row     k                bytes read
    D        bytes from row to row   first index        bits of a, b     bytes written

A convert has in its head the format that it changes from where a product has that of the
accumulator, and the one that it changes to as the output's. An int_matmul has the words of a
matmul, and in D its shifts above the bits of a and b. Products of operands with shared scales,
scaled_matmul and aligned_matmul, read a, b and the scales of both; D says above the bits how many
elements share a scale, the formats of the scales, and whether the result, which only WRITES names,
is added to.
"""

from enum import IntEnum
from typing import NamedTuple

WORDS = 7
HEAD, READS, WRITES, A, B, C, D = range(WORDS)

SLOT_BITS = 16
SLOTS_PER_WORD = 4
MAX_SLOTS = 1 << SLOT_BITS
SLOT_MASK = MAX_SLOTS - 1
LATER_SLOTS = (1 << SLOT_BITS * (SLOTS_PER_WORD - 1)) - 1
"""Mask of a word without its first slot: a word is negative where its last slot is a large one."""
NO_SLOT = 0
"""Slot number of an unused field; real slots count from 1."""


class Unit(IntEnum):
    """The units of a core; each runs its own ops in program order and retires them in order."""

    CUBE = 0
    VECTOR = 1
    INT_MAC = 2
    MOVE = 3
    LOAD = 4
    STORE = 5


UNIT_NAMES = [unit.name.lower() for unit in Unit]
NUM_UNITS = len(Unit)
FIRST_MEMORY_UNIT = Unit.LOAD.value
"""Units from here on are DMA queues, whose durations the memory decides."""


class Op(IntEnum):
    """What one op does. The names of vector ops are the keys of a machine's cost table."""

    LOAD = 0
    GATHER = 1
    STORE = 2
    MATMUL = 3
    MOVE = 4
    ADD = 5
    MULTIPLY = 6
    MAXIMUM = 7
    DIVIDE = 8
    EXP = 9
    REDUCE = 10
    SELECT = 11
    CONVERT = 12
    FILL = 13
    COMPACT = 14
    EXCHANGE = 15
    HISTOGRAM = 16
    SQUARE_ROOT = 17
    INT_MATMUL = 18
    SCALED_MATMUL = 19
    ALIGNED_MATMUL = 20


class VectorOp(NamedTuple):
    """What files say of one vector op: its keys in the tables of machines and technologies."""

    meaning: str
    energy: str
    """What a technology gives the energy of."""
    cost_class: str = ""
    """The op that it costs as much as where a file has no key for it; empty: it needs its key."""
    is_optional: bool = False
    """Whether a machine may lack it; only of ops without a class."""


VECTOR_OPS = {
    Op.ADD: VectorOp("Addition or subtraction", "of one addition or subtraction"),
    Op.MULTIPLY: VectorOp("Multiplication", "of one multiplication"),
    Op.MAXIMUM: VectorOp("Element-wise maximum", "of one maximum"),
    Op.DIVIDE: VectorOp("Division", "of one division"),
    Op.EXP: VectorOp("Exponential", "of one exponential"),
    Op.REDUCE: VectorOp(
        "Sum or maximum along a row, per input element",
        "per input element of a sum or maximum along a row",
    ),
    Op.SELECT: VectorOp(
        "Masking: choose between a value and a constant", "of one choice between two values"
    ),
    Op.CONVERT: VectorOp("Change of number format", "of one change of number format"),
    Op.FILL: VectorOp("Write of a constant", "of writing one constant"),
    Op.COMPACT: VectorOp(
        "Columns of a mask moved to the front, with their numbers",
        "per input element of moving kept columns to the front",
        is_optional=True,
    ),
    Op.EXCHANGE: VectorOp(
        "One pass of a sort: every element is compared and moved",
        "per element of one pass of a sort",
        is_optional=True,
    ),
    Op.HISTOGRAM: VectorOp(
        "One pass of counting digits",
        "per element of one pass of counting digits",
        is_optional=True,
    ),
    Op.SQUARE_ROOT: VectorOp("Square root", "of one square root", is_optional=True),
}
"""Every vector op. A new one with a class needs no change in any file of a machine."""
NUM_OPS = len(Op)

_UNIT_OF_OTHER_OPS = {
    Op.LOAD: Unit.LOAD,
    Op.GATHER: Unit.LOAD,
    Op.STORE: Unit.STORE,
    Op.MATMUL: Unit.CUBE,
    Op.MOVE: Unit.MOVE,
    Op.INT_MATMUL: Unit.INT_MAC,
    Op.SCALED_MATMUL: Unit.CUBE,
    Op.ALIGNED_MATMUL: Unit.INT_MAC,
}
UNIT_OF_OP = tuple(_UNIT_OF_OTHER_OPS.get(op, Unit.VECTOR).value for op in Op)
"""Unit that runs each op, indexed by op code."""

OP_SHIFT, OPERAND_SHIFT, ACCUMULATOR_SHIFT, OUTPUT_SHIFT, TENSOR_SHIFT = 0, 8, 16, 24, 32
FIELD_MASK = 0xFF
TENSOR_MASK = 0xFFFF
NO_TENSOR = TENSOR_MASK
"""Number of a tensor that is not there."""
KERNEL_ARRAY = MAX_SLOTS
"""Place of an array of the kernel, where slots and tensors have theirs."""
BITS_B_SHIFT, SHIFTS_SHIFT = 8, 16
"""Fields of word D of a matrix product, above the bits of a."""
BLOCK_A_SHIFT, BLOCK_B_SHIFT, ACROSS_SHIFT, ACCUMULATES_SHIFT = 16, 27, 50, 61
SCALE_A_SHIFT, SCALE_B_SHIFT = 38, 44
BLOCK_MASK, SCALE_MASK = (1 << 11) - 1, (1 << 6) - 1
"""The same of products with shared scales: elements along k that share one, columns of b that do,
and codes of the formats of the scales."""

HELD_OPS = 1 << 22
"""Ops up to which a program is held at once; see `accelsim.program.long` for longer ones."""
MAX_OPS = 1 << 25
"""Most ops of a program that is held where that is needed."""
MAX_LONG_OPS = 1 << 36
"""Most ops of any program: to schedule so many takes hours."""
BYTES_PER_OP = 200
"""About what recording and scheduling an op takes."""

# The recorder: a header, then some words for each work item, then the ops.
NUM_RECORDED, NUM_ITEMS, ITEM_CAPACITY, NUM_INDICES, NUM_OVERFLOWS = range(5)
REFUSED_OP, REFUSED_PLACE = 5, 6
ASKED_ROW, ASKED_COL, ASKED_ROWS, ASKED_COLS, HELD_ROWS, HELD_COLS = range(7, 13)
"""The first op that reached beyond what it touches, and how; see `accelsim.program.refusal`."""
HAND_OVER, ENOUGH = 13, 14
"""Address of what takes the items over and empties the recorder, or 0, and from how many ops on."""
MOST_PERIODS = 15
"""Periods that are recorded of a loop that repeats itself, or 0 for all."""
NUM_BEGUN, NEXT_CUT, LEAVES_OUT = 16, 17, 18
"""Items begun, whatever became of them; before which one the recorder is handed over too; and
whether items are left out, of which only the phases are noted."""
HEADER_WORDS = 19
ITEM_WORDS = 5
ITEM_START, ITEM_PHASE, ITEM_LOOP, ITEM_PERIOD, ITEM_LEFT_OUT = range(ITEM_WORDS)
"""First op and phase of an item; first op, ops of a period and periods left out of its loop."""
