"""Results of attention over some of the keys, and how two of them become one.

A result is a sum of weighted values with its row maxima and row sums. Work items of `split_kv` pass
theirs on through HBM. An item whose scores do not fit on chip has one of each piece of its keys,
one after the other. Source: Milakov and Gimelshein, "Online normalizer calculation for softmax"
(2018); Dao et al., "Flash-Decoding for long-context inference" (2023).
"""

from typing import Any, NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode import steps
from accelsim.kernels.attention.operands import TilesOf
from accelsim.kernels.attention.precision import StepFormats

_LOADED_BYTES, _LOADED_SHARE = 16 << 10, 32
"""What is loaded at a time to be merged, and the part of a scratchpad that it is at most: results
are small, and each load waits for the memory."""


class Result(NamedTuple):
    """Sums of values with their row maxima and sums. Tensors, buffers or tiles."""

    output: Any
    largest: Any
    total: Any


class Merge(NamedTuple):
    """Buffers of a merge beside those of the frame, which hold what is merged."""

    following: Result
    """The result that is merged next."""
    new_largest: al.Buffer
    rescale: al.Buffer


def allocate_merge(rows: TilesOf, value_dim: int, at_once: int = 1) -> Merge:
    """Declare the buffers of a merge; rows: declares tiles of the query rows of an item.

    at_once: results that one tile has, one below the other.
    """
    several = rows._replace(height=at_once * rows.height)
    following = Result(
        output=several("next_output", value_dim, slots=2),
        largest=several("next_largest", 1, slots=2),
        total=several("next_total", 1, slots=2),
    )
    return Merge(following, rows("new_largest", 1), rows("rescale", 1))


def results_at_once(
    machine: al.MachineSpec, group: int, value_dim: int, formats: StepFormats
) -> int:
    """Return how many results of `group` rows are loaded at a time to be merged."""
    most_bytes = min(_LOADED_BYTES, machine.scratchpad.capacity // _LOADED_SHARE)
    return max(1, most_bytes // (group * formats.vector.row_bytes(value_dim)))


@al.jit_inner
def result(turn, buffers, k):
    """The tiles of a result; buffers: the layout, or those of the merge."""
    largest, total = steps.statistics(turn, buffers, k)
    return Result(al.tile(buffers.output, turn, k.group, k.value_dim), largest, total)


@al.jit_inner
def add_result(p, merged, following, merge, k):
    """Bring two results to a common maximum and add the second one to the first."""
    new_largest = al.tile(merge.new_largest, 0, k.group, 1)
    al.maximum(p, new_largest, merged.largest, following.largest)
    _rescale(p, merged, new_largest, merge, k)
    _rescale(p, following, new_largest, merge, k)
    al.add(p, merged.output, merged.output, following.output)
    al.add(p, merged.total, merged.total, following.total)
    al.convert(p, merged.largest, new_largest)


@al.jit_inner
def _rescale(p, own, new_largest, merge, k):
    """Refer a sum of weighted values and its total to a new maximum."""
    rescale = al.tile(merge.rescale, 0, k.group, 1)
    al.subtract(p, rescale, own.largest, new_largest)
    al.exp(p, rescale, rescale)
    al.multiply_column(p, own.output, own.output, rescale)
    al.multiply(p, own.total, own.total, rescale)


@al.jit_inner
def add_attention(p, rows, is_first, at, k):
    """Add attention to rows of K and V to the result of an item, piece by piece.

    is_first: nothing is there yet. Returns whether nothing is there still.
    """
    for turn in range(-(-rows.size // k.pieces.size)):
        start = turn * k.pieces.size
        part = steps.part_of(rows, start, min(k.pieces.size, rows.size - start))
        if is_first:
            _attend(p, part, result(0, k, k), at, k)
        else:
            following = result(turn, k.pieces.merge.following, k)
            _attend(p, part, following, at, k)
            add_result(p, result(0, k, k), following, k.pieces.merge, k)
        is_first = False
    return is_first


@al.jit_inner
def _attend(p, rows, own, at, k):
    """Attention to rows of K and V whose scores fit on chip, not divided yet."""
    x = al.tile(k.x, 0, k.group, rows.size)
    steps.score(p, x, rows, at, k)
    steps.exponentials_to(p, x, own.largest, own.total)
    steps.add_values(p, steps.as_operand(p, x, k), rows, False, k)
    al.move(p, own.output, al.tile(k.output_acc, 0, k.group, k.value_dim))


@al.jit_inner
def store_result(p, at, k):
    """Divide the result of an item by its row sums and store it."""
    own = result(0, k, k)
    steps.store_quotient(p, own.output, own.total, at, k)


@al.jit_inner
def exact_step(p, at, k):
    """Softmax attention over all keys that a step sees, piece by piece."""
    add_attention(p, steps.all_rows(at), True, at, k)
    store_result(p, at, k)
