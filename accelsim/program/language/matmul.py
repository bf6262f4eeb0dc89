"""Products of the matrix unit, and the way out of its accumulator."""

from accelsim.numerics.elementwise import convert
from accelsim.numerics.formats import COMMON_FORMATS
from accelsim.numerics.matmul import multiply_accumulate
from accelsim.program.language.tiles import transposed
from accelsim.program.ops import (
    ACCUMULATOR_SHIFT,
    BITS_B_SHIFT,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    SLOT_BITS,
    Op,
)
from accelsim.program.recording import (
    Recorder,
    Tile,
    blame_product,
    differs,
    elements_of,
    exists,
    has_extent,
    is_off,
    record_op,
    stored_bytes,
)
from accelsim.runtime.jit import jit_inner

__all__ = [
    "matmul",
    "matmul_transposed",
    "move",
]

_MATMUL, _MOVE = Op.MATMUL.value, Op.MOVE.value
_ACCUMULATOR_BITS = 32


@jit_inner
def matmul(p: Recorder, acc: Tile, a: Tile, b: Tile, accumulate: bool) -> None:
    """acc[m, n] = a[m, k] b[k, n], added to acc if `accumulate`.

    Operands of two formats are multiplied in one that holds both, see `common_format`.
    """
    m, n, k = acc.rows, acc.cols, a.cols
    fits = (differs(a, m, k) | differs(b, k, n) | is_off(acc) | is_off(a)) == 0
    if not fits:
        blame_product(p, acc, a, b)
    reads = a.slot | (b.slot << SLOT_BITS)
    if accumulate:
        reads |= acc.slot << (2 * SLOT_BITS)
    operand = COMMON_FORMATS[a.fmt, b.fmt]
    head = _MATMUL | (operand << OPERAND_SHIFT) | (acc.fmt << ACCUMULATOR_SHIFT)
    record_op(p, head, reads, acc.slot, m, n, k, a.bits | (b.bits << BITS_B_SHIFT))
    if fits:
        multiply_accumulate(acc.data, a.data, b.data, m, n, k, acc.fmt, accumulate)


@jit_inner
def matmul_transposed(p: Recorder, acc: Tile, a: Tile, b: Tile, accumulate: bool) -> None:
    """acc[m, n] = a[m, k] b[n, k]^T, added to acc if `accumulate`."""
    matmul(p, acc, a, transposed(b), accumulate)


@jit_inner
def move(p: Recorder, dst: Tile, acc: Tile) -> None:
    """Move an accumulator tile to the scratchpad, converted to the format of dst on the way."""
    fits = exists(p, acc) and has_extent(p, dst, acc.rows, acc.cols)
    head = _MOVE | (acc.fmt << ACCUMULATOR_SHIFT) | (dst.fmt << OUTPUT_SHIFT)
    read_bytes = stored_bytes(_ACCUMULATOR_BITS, elements_of(acc))
    written_bytes = stored_bytes(dst.bits, elements_of(dst))
    record_op(p, head, acc.slot, dst.slot, acc.rows, acc.cols, read_bytes, written_bytes)
    if fits:
        convert(dst.data, acc.data, acc.rows, acc.cols, dst.fmt)
