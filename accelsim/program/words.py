"""The words of one op as numbers, in the form that compiled code hands on."""

from typing import NamedTuple

from accelsim.program.ops import (
    BITS_B_SHIFT,
    FIELD_MASK,
    HEAD,
    OPERAND_SHIFT,
    READS,
    SHIFTS_SHIFT,
    SLOT_BITS,
    SLOT_MASK,
    WRITES,
    A,
    B,
    C,
    D,
)
from accelsim.runtime.jit import jit_inline


class OpWords(NamedTuple):
    """The words of an op. Numbers cost less to hand on than a row of an array."""

    head: int
    reads: int
    writes: int
    a: int
    b: int
    c: int
    d: int


@jit_inline
def words_of(ops, index):
    """Return the words of op `index`."""
    return OpWords(
        ops[index, HEAD],
        ops[index, READS],
        ops[index, WRITES],
        ops[index, A],
        ops[index, B],
        ops[index, C],
        ops[index, D],
    )


@jit_inline
def slot_in(word, place):
    """Return the slot in one of the fields of READS or WRITES."""
    return (word >> (SLOT_BITS * place)) & SLOT_MASK


@jit_inline
def format_in(op, shift):
    """Return the code of a format of an op, by the place of its field in the head."""
    return (op.head >> shift) & FIELD_MASK


@jit_inline
def operand_format(op):
    """Return the code of the format of the operands, or of the left one."""
    return format_in(op, OPERAND_SHIFT)


@jit_inline
def bits_of(op):
    """Return the bits of an element of the left and the right operand of a product."""
    return op.d & FIELD_MASK, (op.d >> BITS_B_SHIFT) & FIELD_MASK


@jit_inline
def shifts_of(op):
    """Return how often an int_matmul doubles its accumulators."""
    return op.d >> SHIFTS_SHIFT
