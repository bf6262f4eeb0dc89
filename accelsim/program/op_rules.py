"""Rules that every single op keeps, checked in one compiled pass over the words of a program.

Words say less than the calls that record them, which check more (`accelsim.program.recording`): a
view is seen as its whole slot, and an operand of a vector op by its bytes.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from accelsim.numerics.formats import Format
from accelsim.program.ops import (
    ACCUMULATOR_SHIFT,
    FIELD_MASK,
    NUM_OPS,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    SLOTS_PER_WORD,
    TENSOR_MASK,
    TENSOR_SHIFT,
    VECTOR_OPS,
    Op,
)
from accelsim.program.program import Program, Words
from accelsim.program.words import (
    adds_to_result,
    has_shared_scales,
    shared_scales_of,
    slot_in,
    words_of,
)
from accelsim.runtime.jit import borrow, jit, jit_inline


class Rule(IntEnum):
    """What an op can break."""

    NONE = 0
    NAMES = 1
    """Its words name an op, formats, slots and a tensor that exist."""
    SIZE = 2
    """It moves or computes something."""
    WRITTEN = 3
    """It reads tiles that its work item has written."""
    MEMORY = 4
    """Its tiles lie in the memories that its unit reads and writes."""
    EXTENT = 5
    """It touches no more of a tile than there is."""
    TENSOR = 6
    """It stays inside its tensor."""


class Fault(NamedTuple):
    """The first op that breaks a rule, and the slot with which it does."""

    op_index: int
    rule: int
    slot: int


_NAMES, _SIZE, _WRITTEN, _MEMORY, _EXTENT, _TENSOR = (rule.value for rule in list(Rule)[1:])
_LOAD, _GATHER, _STORE = Op.LOAD.value, Op.GATHER.value, Op.STORE.value
_MATMUL, _INT_MATMUL, _MOVE = Op.MATMUL.value, Op.INT_MATMUL.value, Op.MOVE.value
_ADD, _FILL, _COMPACT = Op.ADD.value, Op.FILL.value, Op.COMPACT.value
_REDUCE, _HISTOGRAM = Op.REDUCE.value, Op.HISTOGRAM.value
_NUM_FORMATS = len(Format)

_ROWS, _COLS, _BITS, _PLACE = range(4)
_ADDRESS, _SIZE_BYTES, _ROW_BYTES = range(3)
_SCRATCHPAD, _ACCUMULATOR, _INDEX_BUFFER = 1, 2, 4
_MEMORY_BITS = {
    "scratchpad": _SCRATCHPAD,
    "accumulator": _ACCUMULATOR,
    "index_buffer": _INDEX_BUFFER,
}


def _places() -> Words:
    """Return the memories, as a sum of bits, of every field of READS and of WRITES of every op."""
    places = np.full((NUM_OPS, 2, SLOTS_PER_WORD), _SCRATCHPAD)
    places[Op.LOAD, 1] = _SCRATCHPAD | _INDEX_BUFFER
    places[Op.MATMUL, 0, 2], places[Op.INT_MATMUL, 0, 2:] = (
        _ACCUMULATOR,
        (_INDEX_BUFFER, _ACCUMULATOR),
    )
    products = [Op.MATMUL, Op.INT_MATMUL, Op.SCALED_MATMUL, Op.ALIGNED_MATMUL]
    places[products, 1] = _ACCUMULATOR
    places[Op.MOVE, 0] = _ACCUMULATOR
    return places


_PLACES = _places()
_WRITES_ALL = np.isin(
    np.arange(NUM_OPS), [op for op in VECTOR_OPS if op not in (_COMPACT, _REDUCE, _HISTOGRAM)]
)
"""Vector ops whose result has as many rows and columns as they compute on."""


def first_fault(program: Program) -> Fault:
    """Return the first op that breaks a rule; its rule is NONE if all ops are sound."""
    slots = np.zeros((program.num_slots + 1, 4), np.int64)
    for buffer in program.buffers:
        last = buffer.first_slot + buffer.slots
        slots[buffer.first_slot : last] = (
            buffer.rows,
            buffer.cols,
            buffer.bits,
            _MEMORY_BITS[buffer.memory],
        )
    rows = [(each.address, each.size_bytes, each.row_bytes) for each in program.tensors]
    tensors = np.array(rows, np.int64).reshape(-1, 3)
    written_by = np.full(len(slots), -1)
    tables = (program.gathered_rows, slots, tensors, written_by)
    return Fault(*_first_fault(program.ops, program.item_start, tables))


@jit
def _first_fault(ops, item_start, tables):
    tables = borrow(tables)
    written_by = tables[3]
    for item in range(len(item_start) - 1):
        for index in range(item_start[item], item_start[item + 1]):
            op = words_of(ops, index)
            rule, slot = _broken(op, item, *tables)
            if rule != 0:
                return index, rule, slot
            for place in range(SLOTS_PER_WORD):
                written_by[slot_in(op.writes, place)] = item
    return len(ops), 0, 0


@jit_inline
def _broken(op, item, gathered_rows, slots, tensors, written_by):
    """Return the rule that an op breaks, 0 if none, and the slot with which it does."""
    if not _names_what_exists(op, len(slots), len(tensors)):
        return _NAMES, 0
    if not _has_size(op):
        return _SIZE, 0
    for place in range(SLOTS_PER_WORD):
        slot = slot_in(op.reads, place)
        if slot != 0 and written_by[slot] != item:
            return _WRITTEN, slot
    result = slot_in(op.writes, 0)
    if has_shared_scales(op) and adds_to_result(op) and written_by[result] != item:
        return _WRITTEN, result
    slot = _misplaced(op, slots)
    if slot != 0:
        return _MEMORY, slot
    slot = _outgrown(op, slots)
    if slot != 0:
        return _EXTENT, slot
    if not _is_inside_its_tensor(op, gathered_rows, tensors):
        return _TENSOR, 0
    return 0, 0


@jit_inline
def _code(op):
    return op.head & FIELD_MASK


@jit_inline
def _names_what_exists(op, num_slots, num_tensors):
    if _code(op) >= NUM_OPS:
        return False
    for shift in (OPERAND_SHIFT, ACCUMULATOR_SHIFT, OUTPUT_SHIFT):
        if (op.head >> shift) & FIELD_MASK >= _NUM_FORMATS:
            return False
    for place in range(SLOTS_PER_WORD):
        if slot_in(op.reads, place) >= num_slots or slot_in(op.writes, place) >= num_slots:
            return False
    return _code(op) > _STORE or (op.head >> TENSOR_SHIFT) & TENSOR_MASK < num_tensors


@jit_inline
def _has_size(op):
    code = _code(op)
    is_transfer = code <= _STORE
    return op.a >= (0 if is_transfer else 1) and op.b > 0 and (op.c > 0 or code == _FILL)


@jit_inline
def _misplaced(op, slots):
    code = _code(op)
    for place in range(SLOTS_PER_WORD):
        read, written = slot_in(op.reads, place), slot_in(op.writes, place)
        if read != 0 and slots[read, _PLACE] & _PLACES[code, 0, place] == 0:
            return read
        if written != 0 and slots[written, _PLACE] & _PLACES[code, 1, place] == 0:
            return written
    return 0


@jit_inline
def _outgrown(op, slots):
    """Return a slot of which an op touches more than there is, or 0."""
    code = _code(op)
    if code <= _STORE:
        return _outgrown_by_transfer(op, slots)
    if code in (_MATMUL, _INT_MATMUL) or has_shared_scales(op):
        return _outgrown_by_product(op, slots)
    if code == _MOVE:
        acc, dst = slot_in(op.reads, 0), slot_in(op.writes, 0)
        return _first_of(acc, _holds(slots, acc, op.a, op.b), dst, _holds(slots, dst, op.a, op.b))
    return _outgrown_by_vector(op, slots)


@jit_inline
def _first_of(one, one_holds, other, other_holds):
    if not one_holds:
        return one
    return 0 if other_holds else other


@jit_inline
def _holds(slots, slot, rows, cols):
    return slot == 0 or (rows <= slots[slot, _ROWS] and cols <= slots[slot, _COLS])


@jit_inline
def _outgrown_by_transfer(op, slots):
    numbers, slot = 0, slot_in(op.writes, 0)
    if _code(op) == _STORE:
        slot = slot_in(op.reads, 0)
    if _code(op) == _GATHER:
        numbers = slot_in(op.reads, 0)
    row_bytes = (slots[slot, _COLS] * slots[slot, _BITS] + 7) >> 3
    holds_rows = slot == 0 or (op.b <= slots[slot, _ROWS] and op.c <= row_bytes)
    return _first_of(slot, holds_rows, numbers, _holds(slots, numbers, 1, op.b))


@jit_inline
def _outgrown_by_product(op, slots):
    m, n, k = op.a, op.b, op.c
    acc, a, b = slot_in(op.writes, 0), slot_in(op.reads, 0), slot_in(op.reads, 1)
    # Matrix units read rows and columns alike.
    holds_a = _holds(slots, a, m, k) or _holds(slots, a, k, m)
    holds_b = _holds(slots, b, k, n) or _holds(slots, b, n, k)
    slot = _first_of(a, holds_a, b, holds_b)
    if slot == 0 and _code(op) == _INT_MATMUL:
        order = slot_in(op.reads, 2)
        slot = _first_of(order, _holds(slots, order, 1, k), 0, True)
    if slot == 0 and has_shared_scales(op):
        slot = _outgrown_scales(op, slots)
    return slot if slot != 0 else _first_of(acc, _holds(slots, acc, m, n), 0, True)


@jit_inline
def _outgrown_scales(op, slots):
    scales = shared_scales_of(op)
    of_a, of_b = slot_in(op.reads, 2), slot_in(op.reads, 3)
    if min(scales.block_a, scales.block_b, scales.across) < 1:
        return of_a
    a_cols, b_rows = -(-op.c // scales.block_a), -(-op.c // scales.block_b)
    holds_b = _holds(slots, of_b, b_rows, -(-op.b // scales.across))
    return _first_of(of_a, _holds(slots, of_a, op.a, a_cols), of_b, holds_b)


@jit_inline
def _outgrown_by_vector(op, slots):
    rows, cols, code = op.a, op.b, _code(op)
    dst, a, b = slot_in(op.writes, 0), slot_in(op.reads, 0), slot_in(op.reads, 1)
    if _WRITES_ALL[code] and not _holds(slots, dst, rows, cols):
        return dst
    if dst != 0 and op.d > _held_bytes(op.writes, slots):
        return dst
    if a == 0:
        return 0
    read_of_b = 8 * op.c - rows * cols * slots[a, _BITS]
    # Of what adds, `expand_runs` reads less than it computes on.
    if (read_of_b >= 0 or code != _ADD) and not _holds(slots, a, rows, cols):
        return a
    if read_of_b >= 0 and not _holds_operand(slots, b, read_of_b, rows, cols):
        return b
    return a if op.c > _held_bytes(op.reads, slots) else 0


@jit_inline
def _holds_operand(slots, slot, bits, rows, cols):
    """Whether a tile has what is read of it: as many elements, or else a column or a row.

    What is less than either is a number for each run of columns, which words do not tell of.
    """
    if bits >= rows * cols * slots[slot, _BITS]:
        return _holds(slots, slot, rows, cols)
    if bits < min(rows, cols) * slots[slot, _BITS]:
        return bits <= slots[slot, _ROWS] * slots[slot, _COLS] * slots[slot, _BITS]
    return _holds(slots, slot, rows, 1) or _holds(slots, slot, 1, cols)


@jit_inline
def _held_bytes(word, slots):
    held_bits = 0
    for place in range(SLOTS_PER_WORD):
        slot = slot_in(word, place)
        held_bits += slots[slot, _ROWS] * slots[slot, _COLS] * slots[slot, _BITS]
    return (held_bits + 7) >> 3


@jit_inline
def _is_inside_its_tensor(op, gathered_rows, tensors):
    if _code(op) > _STORE:
        return True
    tensor = tensors[(op.head >> TENSOR_SHIFT) & TENSOR_MASK]
    lowest, highest, step = 0, op.b - 1, op.d
    if _code(op) == _GATHER:
        if op.d < 0 or op.d > len(gathered_rows) - op.b:
            return False
        numbers, step = gathered_rows[op.d : op.d + op.b], tensor[_ROW_BYTES]
        lowest, highest = numbers.min(), numbers.max()
    size = tensor[_SIZE_BYTES]
    # Divided, not multiplied: no word is so large that it wraps.
    most = size // max(step, 1)
    if lowest < -most or highest > most or (highest > lowest and step < 0) or op.c > size:
        return False
    first, end = tensor[_ADDRESS], tensor[_ADDRESS] + size
    return op.a >= first - lowest * step and op.a <= end - op.c - highest * step
