"""What decode kernels share that select by rank, or gather what they selected."""

from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode import pieces
from accelsim.kernels.attention.decode.frame import DecodeParameters, OnChip
from accelsim.kernels.attention.decode.kept import KeepingKernel
from accelsim.kernels.attention.decode.steps import (
    Listed,
    add_values,
    as_operand,
    attend,
    store_output,
    store_quotient,
)

_DECIMAL_ROUNDING = 1e-6
"""More than the rounding of share x total, less than a share that anyone means."""


class SelectingParameters(DecodeParameters):
    """Choices of kernels that select by rank."""

    exact_steps: al.SizeOrZero = 0
    """First steps with attention over all keys, as a method that warms up has them."""
    assumed_union: float | None = Field(default=None, gt=0, le=1)
    """Share that the heads of a group keep together, for runs without tensors; absent: as if all of
    them kept the same."""


class SelectingKernel(KeepingKernel):
    """A kernel over the steps of a generation that selects keys by their scores."""

    @classmethod
    def selects_by_values(cls, parameters: Any) -> bool:
        """Return True: the scores say it."""
        return True


class Picked(NamedTuple):
    """How the largest of x are found, and tiles: what is kept, its bound, and where it was in x."""

    ranking: int
    kept: al.Buffer
    bound: al.Buffer
    indices: al.Buffer


def allocate_picked(chip: OnChip, cols: Any, ranking: al.Ranking = al.Ranking.RADIX) -> Picked:
    """Declare the buffers of a selection among `cols` columns; in pieces they are not sorted."""
    # They are sorted where those that are kept lie afterwards, which takes a power of two of them.
    width = cols if ranking == al.Ranking.RADIX or chip.in_pieces else al.sort_width(cols)
    kept, bound = chip.rows("kept", width), chip.rows("bound", 1)
    return Picked(ranking.value, kept, bound, chip.builder.index_buffer("indices", cols))


class Counted(NamedTuple):
    """Columns of all pieces, and how many of them are kept without numbers."""

    columns: int
    assumed: int


@al.jit
def count_of(share, total):
    """Return `share` of `total`, rounded up and at least 1; exact where the share is decimal."""
    return max(1, int(np.ceil(share * total - _DECIMAL_ROUNDING)))


@al.jit_inner
def kept_tile(cols, k):
    """The first columns of what is kept."""
    return al.tile(k.own.picked.kept, 0, k.group, cols)


@al.jit_inner
def kth_largest(p, x, count, k):
    """The smallest of the `count` largest of each row of x."""
    picked = k.own.picked
    bound = al.tile(picked.bound, 0, k.group, 1)
    al.kth_largest(p, bound, kept_tile(picked.kept.cols, k), x, count, picked.ranking)
    return bound


@al.jit_inner
def pick(p, x, count, k):
    """List the columns of x that are among the `count` largest of any head, and keep those.

    What a head does not pick is -inf. Returns the tile of the numbers of the columns.
    """
    kept, bound = kept_tile(x.cols, k), kth_largest(p, x, count, k)
    al.keep_largest(p, kept, x, bound, count, -np.inf)
    assumed = max(count, count_of(k.own.assumed_union, x.cols))
    return list_columns(p, kept, -np.inf, assumed, k)


@al.jit_inner
def list_columns(p, x, dropped, assumed, k):
    """Keep the columns of x where any head has not `dropped`, and return the tile of their numbers.

    assumed: how many there are without numbers.
    """
    indices = al.tile(k.own.picked.indices, 0, 1, x.cols)
    count = al.compact(p, kept_tile(x.cols, k), indices, x, dropped, assumed)
    return al.columns(indices, 0, count)


@al.jit_inner
def keep_largest_of(p, turn, columns, at, k):
    """Keep the products of a piece that are among the largest of each row; returns their tile.

    What a head does not keep is -inf.
    """
    products = pieces.load_products(p, turn, columns, at, k)
    kept, bound = kept_tile(products.cols, k), al.tile(k.own.picked.bound, 0, k.group, 1)
    al.keep_in_turn(p, kept, products, bound, k.pieces.room, -np.inf)
    return kept


@al.jit_inner
def list_piece(p, turn, kept, dropped, total, k):
    """List the columns of a piece where any head has not `dropped`, as `list_columns` does.

    total: `Counted` of all pieces. Returns the first column of the piece, the tile of the numbers,
    counted from there, and how many they are, which may be none.
    """
    start, size = pieces.piece(turn, total.columns, k)
    indices = al.tile(k.own.picked.indices, 0, 1, size)
    own = _assumed_of(total.assumed, start, size, total.columns)
    count = al.compact(p, kept, indices, kept, dropped, own)
    return start, indices, count


@al.jit_inner
def _assumed_of(total, start, size, columns):
    """How many of `total` columns kept, evenly spread, are among `size` from `start` on."""
    return total * (start + size) // columns - total * start // columns


@al.jit_inner
def add_kept(p, weights, indices, start, is_first, at, k):
    """Add the values of columns that are kept, counted from `start`, to the sum of an item.

    is_first: nothing was added yet.
    """
    rows = Listed(at.kv_row + start, indices.cols, indices)
    add_values(p, as_operand(p, weights, k), rows, not is_first, k)


@al.jit_inner
def store_sum(p, is_empty, divisor, at, k):
    """Store the sum of an item over `divisor`; where nothing was added, that is 0 / 0."""
    if is_empty:
        output = al.tile(k.output, 0, k.group, k.value_dim)
        al.fill(p, output, 0.0)
        al.fill(p, divisor, 0.0)
        store_quotient(p, output, divisor, at, k)
    else:
        store_output(p, divisor, at, k)


@al.jit_inner
def attend_to_kept(p, indices, divisor, at, k):
    """Finish a step from what is kept, the weights of the rows of V in `indices`."""
    rows = Listed(at.kv_row, indices.cols, indices)
    attend(p, kept_tile(rows.size, k), rows, divisor, at, k)
