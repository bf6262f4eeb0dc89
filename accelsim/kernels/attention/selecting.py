"""What decode kernels share that select by rank, or gather what they selected."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from accelsim.config.spec import SizeOrZero
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.decode import DecodeKernel, DecodeParameters, OnChip
from accelsim.kernels.attention.steps import Listed, attend
from accelsim.program import language as al
from accelsim.program.recording import Buffer

_DECIMAL_ROUNDING = 1e-6
"""More than the rounding of share x total, less than a share that anyone means."""


class SelectingParameters(DecodeParameters):
    """Choices of kernels that select by rank."""

    exact_steps: SizeOrZero = 0
    """First steps with attention over all keys, as a method that warms up has them."""
    assumed_union: float | None = Field(default=None, gt=0, le=1)
    """Share that the heads of a group keep together, for runs without tensors; absent: as if all of
    them kept the same."""


class SelectingKernel(DecodeKernel):
    """A kernel over the steps of a generation that selects keys by their scores."""

    is_exact: ClassVar[bool] = False

    @classmethod
    def selects_by_values(cls, parameters: Any) -> bool:
        """Return True: the scores say it."""
        return True


class Picked(NamedTuple):
    """On-chip tiles of a selection: what is kept of x, its bound, and the columns it came from."""

    kept: Buffer
    bound: Buffer
    indices: Buffer


def allocate_picked(chip: OnChip, cols: int, *, is_sorted: bool = False) -> Picked:
    """Declare the buffers of a selection among `cols` columns.

    is_sorted: `kept` is also where they are sorted, which takes a power of two of them.
    """
    return Picked(
        kept=chip.rows("kept", al.sort_width(cols) if is_sorted else cols),
        bound=chip.rows("bound", 1),
        indices=chip.builder.index_buffer("indices", cols),
    )


@jit
def count_of(share, total):
    """Return `share` of `total`, rounded up and at least 1; exact where the share is decimal."""
    return max(1, int(np.ceil(share * total - _DECIMAL_ROUNDING)))


@jit_inner
def kept_tile(cols, k):
    """The tile of what is kept."""
    return al.tile(k.own.picked.kept, 0, k.group, cols)


@jit_inner
def kth_largest(p, x, count, ranking, k):
    """The smallest of the `count` largest of each row of x."""
    bound = al.tile(k.own.picked.bound, 0, k.group, 1)
    al.kth_largest(p, bound, kept_tile(k.own.picked.kept.cols, k), x, count, ranking)
    return bound


@jit_inner
def keep_largest(p, x, count, ranking, k):
    """The `count` largest of each row of x where they are in x, elsewhere -inf."""
    bound, kept = kth_largest(p, x, count, ranking, k), kept_tile(x.cols, k)
    al.keep_largest(p, kept, x, bound, count, -np.inf)
    return kept


@jit_inner
def list_columns(p, x, dropped, assumed, k):
    """Move the columns of x where any head has not `dropped` to the front of what is kept.

    Returns the tile of their numbers; without numbers, `assumed` of them.
    """
    indices = al.tile(k.own.picked.indices, 0, 1, x.cols)
    count = al.compact(p, kept_tile(x.cols, k), indices, x, dropped, assumed)
    return al.columns(indices, 0, count)


@jit_inner
def attend_to_kept(p, indices, divisor, at, k):
    """Finish a step from what is kept, the weights of the rows of V in `indices`."""
    rows = Listed(at.kv_row, indices.cols, indices)
    attend(p, kept_tile(rows.size, k), rows, divisor, at, k)
