"""The words of one op as numbers, in the form that compiled code hands on."""

from typing import NamedTuple

from accelsim.program.ops import (
    ACCUMULATES_SHIFT,
    ACCUMULATOR_SHIFT,
    ACROSS_SHIFT,
    BITS_B_SHIFT,
    BLOCK_A_SHIFT,
    BLOCK_B_SHIFT,
    BLOCK_MASK,
    FIELD_MASK,
    HEAD,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    READS,
    SCALE_A_SHIFT,
    SCALE_B_SHIFT,
    SCALE_MASK,
    SHIFTS_SHIFT,
    SLOT_BITS,
    SLOT_MASK,
    WRITES,
    A,
    B,
    C,
    D,
    Op,
)
from accelsim.runtime.jit import jit_inline

_SCALED_MATMUL, _ALIGNED_MATMUL = Op.SCALED_MATMUL.value, Op.ALIGNED_MATMUL.value


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
def converted_formats(op):
    """Return the codes of the formats that a conversion changes from and to."""
    return format_in(op, ACCUMULATOR_SHIFT), format_in(op, OUTPUT_SHIFT)


@jit_inline
def bits_of(op):
    """Return the bits of an element of the left and the right operand of a product."""
    return op.d & FIELD_MASK, (op.d >> BITS_B_SHIFT) & FIELD_MASK


@jit_inline
def shifts_of(op):
    """Return how often an int_matmul doubles its accumulators."""
    return op.d >> SHIFTS_SHIFT


class SharedScales(NamedTuple):
    """What the words of a product say of its scales."""

    block_a: int
    """Elements along k that share one, of the left operand."""
    block_b: int
    across: int
    """Columns of the right operand that share one too."""
    format_a: int
    """Code of the format of the scales of the left operand."""
    format_b: int


@jit_inline
def has_shared_scales(op):
    """Return whether an op is a product of operands with shared scales."""
    code = op.head & FIELD_MASK
    return code in (_SCALED_MATMUL, _ALIGNED_MATMUL)


@jit_inline
def shared_scales_of(op):
    """Return the scales of a product that has them."""
    return SharedScales(
        (op.d >> BLOCK_A_SHIFT) & BLOCK_MASK,
        (op.d >> BLOCK_B_SHIFT) & BLOCK_MASK,
        (op.d >> ACROSS_SHIFT) & BLOCK_MASK,
        (op.d >> SCALE_A_SHIFT) & SCALE_MASK,
        (op.d >> SCALE_B_SHIFT) & SCALE_MASK,
    )


@jit_inline
def adds_to_result(op):
    """Return whether a product with shared scales adds to what it writes."""
    return op.d >> ACCUMULATES_SHIFT != 0


@jit_inline
def num_blocks(k, scales):
    """Return the sums along k that are scaled on their own: the smaller block decides."""
    block = min(scales.block_a, scales.block_b)
    return (k + block - 1) // block
