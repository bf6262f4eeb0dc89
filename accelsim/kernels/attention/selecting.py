"""What decode kernels share that gather the rows they selected."""

from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from accelsim.config.spec import SizeOrZero
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import StepFormats
from accelsim.kernels.attention.decode import DecodeParameters
from accelsim.kernels.attention.steps import add_value_rows, as_operand, store_output
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.selection import sort_width
from accelsim.workload.problem import AttentionProblem

_DECIMAL_ROUNDING = 1e-6
"""More than the rounding of share x total, less than a share that anyone means."""


class SelectingParameters(DecodeParameters):
    """Choices of kernels that select by rank."""

    exact_steps: SizeOrZero = 0
    """First steps with attention over all keys, as a method that warms up has them."""
    assumed_union: float | None = Field(default=None, gt=0, le=1)
    """Share that the heads of a group keep together, for runs without tensors; absent: as if all of
    them kept the same."""


class Picked(NamedTuple):
    """On-chip tiles of a selection: what is kept of x, its bound, and the columns it came from."""

    kept: Any
    bound: Any
    indices: Any


def allocate_picked(
    builder: ProgramBuilder,
    problem: AttentionProblem,
    formats: StepFormats,
    cols: int,
    *,
    is_sorted: bool = False,
) -> Picked:
    """Declare the buffers of a selection among `cols` columns.

    is_sorted: `kept` is also where they are sorted, which takes a power of two of them.
    """
    group, vector = problem.q_heads // problem.kv_heads, formats.vector
    return Picked(
        kept=builder.buffer("kept", group, sort_width(cols) if is_sorted else cols, vector),
        bound=builder.buffer("bound", group, 1, vector),
        indices=builder.index_buffer("indices", cols),
    )


@jit
def count_of(share, total):
    """Return `share` of `total`, rounded up and at least 1; exact where the share is decimal."""
    return max(1, int(np.ceil(share * total - _DECIMAL_ROUNDING)))


@jit_inner
def attend_to_rows(p, step, head, x, indices, count, divisor, shape, fmt, hbm, b):
    """Finish a step from the weights x of the rows in `indices`: gather, sum, output."""
    weights = as_operand(p, x, count, shape, fmt, b)
    add_value_rows(p, weights, indices, head * shape.kv_len, count, shape, fmt, hbm, b)
    store_output(p, step, head, divisor, shape, fmt, hbm, b)
