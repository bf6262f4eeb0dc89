"""Operands of a vector function: matrices, their tiles, and the way between HBM and the path."""

from typing import NamedTuple

from accelsim.kernels import language as al


class Operand(NamedTuple):
    """A matrix in HBM with its tiles on chip."""

    matrix: al.Tensor
    stored: al.Buffer
    """In the format of the matrix."""
    computed: al.Buffer
    """In that of the vector path; the same buffer where nothing is converted."""


@al.jit_inner
def load_operand(p, turn, at, operand):
    """Load a block of an operand as it is stored."""
    al.load(p, al.tile(operand.stored, turn, at.rows, at.cols), operand.matrix, at.row, at.col)


@al.jit_inner
def computed(p, turn, at, operand):
    """The block of an operand that has been loaded, in the format of the vector path."""
    x = al.tile(operand.computed, turn, at.rows, at.cols)
    if operand.stored.fmt != operand.computed.fmt:
        al.convert(p, x, al.tile(operand.stored, turn, at.rows, at.cols))
    return x


@al.jit_inner
def store_result(p, turn, at, x, result):
    """Store a tile of the vector path as a block of the result."""
    stored = al.tile(result.stored, turn, at.rows, at.cols)
    if result.stored.fmt != result.computed.fmt:
        al.convert(p, stored, x)
    al.store(p, result.matrix, at.row, at.col, stored)
