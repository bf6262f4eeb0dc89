"""How long it takes to merge the results of the ranges of one KV head, by the order of ops."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.decode.merging import results_at_once
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.estimate.choice import Array
from accelsim.kernels.estimate.costs import ONE, Cost, CostTable, moved_bytes, vector_op
from accelsim.kernels.estimate.memory import supply_of
from accelsim.kernels.estimate.order import Order, Orders, orders_of
from accelsim.kernels.estimate.timeline import follow
from accelsim.program.ops import Unit
from accelsim.units import ceil_div

_BLOCKS = 6
"""Blocks of results that are followed op by op, the first result among them; more repeat."""


def merged_cycles(
    ranges: Array, group: int, value_dim: int, machine: MachineSpec, formats: StepFormats
) -> Array:
    """Return the time to merge so many results of `group` query rows, for all candidates."""
    found, places = np.unique(ranges, return_inverse=True)
    behind = np.maximum(found - 1, 0)
    counts = np.clip(behind, 1, results_at_once(machine, group, value_dim, formats))
    blocks = ceil_div(behind, counts)
    costs = _merge_costs(formats).of(machine, value_dim, group, counts * group)
    costs[_COSTS.merge] *= counts
    which = np.zeros(len(found), np.int64)
    *marks, end = follow(_merge_order(), which, machine, supply_of(machine, 0.0), costs)
    reached = np.array(marks)[np.minimum(blocks, _BLOCKS - 1), np.arange(len(found))]
    more = np.maximum(blocks - (_BLOCKS - 1), 0) * (marks[-1] - marks[-3]) / 2
    alone: Array = end - marks[-1] + reached + more
    return alone[places]


class _MergeCosts(NamedTuple):
    """Bytes and cycles to merge results."""

    output_bytes: Any
    """Of the first result; then what has the row maxima, or the row sums."""
    column_bytes: Any
    block_output_bytes: Any
    """The same of a block of results."""
    block_column_bytes: Any
    first: Any
    """Vector unit: nothing is merged with the first result."""
    merge: Any
    """Of one result."""
    finish: Any
    stored_bytes: Any


_COSTS = _MergeCosts(*range(len(_MergeCosts._fields)))
_DIM, _GROUP, _BLOCK = range(ONE + 1, ONE + 4)
"""Extents: elements of a row, query rows, and those rows of all results of a block."""


@cache
def _merge_costs(formats: StepFormats) -> CostTable:
    vector, width = formats.vector, formats.vector.bits

    def on(op: str, cols: int, operands: int) -> Cost:
        return vector_op(op, vector, _GROUP, cols, operands * width)

    rescale = on("add", ONE, 3) + on("exp", ONE, 2) + on("multiply", _DIM, 2)
    rescale += on("multiply", ONE, 3)
    merge = on("maximum", ONE, 3) + 2 * rescale + on("add", _DIM, 3) + on("add", ONE, 3)
    is_converted = formats.output != vector
    own = _MergeCosts(
        output_bytes=moved_bytes(_GROUP, _DIM, width),
        column_bytes=moved_bytes(_GROUP, ONE, width),
        block_output_bytes=moved_bytes(_BLOCK, _DIM, width),
        block_column_bytes=moved_bytes(_BLOCK, ONE, width),
        first=(),
        merge=merge + on("convert", ONE, 2),
        finish=on("divide", _DIM, 2) + is_converted * on("convert", _DIM, 2),
        stored_bytes=moved_bytes(_GROUP, _DIM, formats.output.bits),
    )
    return CostTable(own)


@cache
def _merge_order() -> Orders:
    """Return the order of merging a result with _BLOCKS - 1 blocks of others."""
    names = "o", "max", "sum"
    line = Order(dict.fromkeys((f"next_{name}" for name in names), 2))
    for j in range(_BLOCKS):
        output, column = _COSTS.output_bytes, _COSTS.column_bytes
        if j:
            output, column = _COSTS.block_output_bytes, _COSTS.block_column_bytes
        reads = tuple((f"next_{name}" if j else name, j) for name in names)
        for tile, num_bytes in zip(reads, (output, column, column), strict=True):
            line.load(num_bytes, tile)
        line.run(Unit.VECTOR, _COSTS.merge if j else _COSTS.first, reads, ("merged", 0))
        line.note_free(j, Unit.VECTOR)
    line.run(Unit.VECTOR, _COSTS.finish, (), ("stored", 0))
    line.store(_COSTS.stored_bytes, ("stored", 0))
    line.note_retired(_BLOCKS)
    return orders_of([line])
