"""Rotations of the channels of a tile by Hadamard matrices, on the vector unit."""

from accelsim.numerics.hadamard import hadamard_rows
from accelsim.numerics.movement import copy_block
from accelsim.program.ops import Op
from accelsim.program.recording import Recorder, Tile, exists, has_extent, has_numbers, record_map
from accelsim.runtime.jit import jit_inner

__all__ = ["hadamard"]

_ADD, _MULTIPLY = Op.ADD.value, Op.MULTIPLY.value


@jit_inner
def hadamard(p: Recorder, dst: Tile, src: Tile, size: int) -> None:
    """dst = src with every `size` columns multiplied by a normalized Hadamard matrix.

    size: a power of two that divides the columns. log2(size) stages of butterflies, an addition or
    subtraction an element each, then a product with 1 / sqrt(size) (`numerics.hadamard`).
    """
    is_whole = size >= 1 and src.cols % size == 0 and size & (size - 1) == 0
    if not is_whole and exists(p, src) and has_extent(p, dst, src.rows, src.cols):
        has_numbers(p, max(src.cols, 0), 0, max(size, src.cols + 1))
    fits, distance = is_whole, 1
    while is_whole and distance < size:
        if distance == 1:
            fits = record_map(p, _ADD, dst, src)
        else:
            record_map(p, _ADD, dst, dst)
        distance *= 2
    if distance == 1:
        fits = record_map(p, _MULTIPLY, dst, src) and is_whole
    else:
        record_map(p, _MULTIPLY, dst, dst)
    if fits and dst.data is not None:
        copy_block(dst.data, src.data, 0, 0, src.rows, src.cols)
        hadamard_rows(dst.data, src.rows, src.cols, size, dst.fmt)
