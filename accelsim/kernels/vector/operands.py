"""Operands of a vector function: matrices, their tiles, and the way between HBM and the path."""

from typing import NamedTuple

from accelsim.kernels.integer.coder import Coder, Piece, store_rows
from accelsim.program import language as al
from accelsim.program.recording import Buffer, Tensor
from accelsim.runtime.jit import jit_inner


class Operand(NamedTuple):
    """A matrix in HBM with its tiles on chip."""

    matrix: Tensor
    stored: Buffer | Coder
    """In the format of the matrix; or what codes a result, which has matrices of its own."""
    computed: Buffer
    """In that of the vector path; the same buffer where nothing is converted."""


@jit_inner
def load_operand(p, turn, at, operand):
    """Load a block of an operand as it is stored."""
    al.load(p, al.tile(operand.stored, turn, at.rows, at.cols), operand.matrix, at.row, at.col)


@jit_inner
def computed(p, turn, at, operand):
    """The block of an operand that has been loaded, in the format of the vector path."""
    x = al.tile(operand.computed, turn, at.rows, at.cols)
    if operand.stored.fmt != operand.computed.fmt:
        al.convert(p, x, al.tile(operand.stored, turn, at.rows, at.cols))
    return x


@jit_inner
def store_result(p, turn, at, x, result):
    """Store a tile of the vector path as a block of the result."""
    store_rows(result.stored, p, result.matrix, Piece(turn, at.row, at.rows, at.col, at.cols), x)
