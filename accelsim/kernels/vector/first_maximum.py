"""Where the maximum of each row is, of equal ones the first, found with ops of every vector unit.

A mask of the maxima is multiplied by a row of numbers that fall to the right: its largest element
tells the first of them. FP32 holds numbers up to 2^24.
"""

from typing import NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.estimate.footprint import Footprint


class Order(NamedTuple):
    """Tiles for the numbers of columns."""

    zero: al.Buffer
    numbers: al.Buffer
    """INT32."""
    falling: al.Buffer
    """FP32."""


def order_tiles(builder: al.ProgramBuilder | Footprint, cols: int) -> Order:
    """Declare the tiles for so many columns."""
    return Order(
        builder.index_buffer("zero", 1),
        builder.index_buffer("numbers", cols),
        builder.buffer("falling", 1, cols, al.Format.FP32),
    )


@al.jit_inner
def falling_order(p, order, cols):
    """A row of so many numbers, cols, cols - 1, .., 1."""
    zero, numbers = al.tile(order.zero, 0, 1, 1), al.tile(order.numbers, 0, 1, cols)
    falling = al.tile(order.falling, 0, 1, cols)
    al.fill(p, al.computed_in(zero, al.FP32), 0.0)
    al.expand_runs(p, numbers, zero, cols)
    al.convert(p, falling, numbers)
    al.scale(p, falling, falling, -1.0)
    al.add_scalar(p, falling, falling, float(cols))
    return falling


@al.jit_inner
def find_first(p, place, marks, x, largest, falling):
    """Find the number in `falling` of the first element of each row of x that is its `largest`.

    marks: work tile as large as x; at the end it has that number in its place, and none larger.
    """
    al.at_least(p, marks, x, largest)
    al.multiply_row(p, marks, marks, falling)
    al.row_max(p, place, marks)


@al.jit_inner
def column_of(p, column, place, cols):
    """Turn numbers of a falling row of `cols` columns into numbers of columns."""
    al.scale(p, column, place, -1.0)
    al.add_scalar(p, column, column, float(cols))
