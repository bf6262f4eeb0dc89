"""Decode whose keys are split over work items: FlashDecoding. Exact; one split is dense decode.

A step has one work item for each KV head and split, which attends to its own range of keys and
stores its unnormalized output, row maximum and row sum; a second phase merges them. Source: Dao et
al., "Flash-Decoding for long-context inference" (2023).

HBM reads of a KV head in a step that sees n keys in s > 1 splits: s group d b + 2 n d b, and
s group (d + 2) v of partial results with elements of v bytes, as wide as the vector path, which
were written before; the output is group d b. With one split: group d b + 2 n d b, no partials.
"""

from typing import Any, ClassVar, NamedTuple

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import StepFormats
from accelsim.kernels.attention.decode import (
    DecodeKernel,
    DecodeParameters,
    DecodeTiles,
    Frame,
    Shape,
    layout_of,
)
from accelsim.kernels.attention.steps import (
    add_value_range,
    as_operand,
    exponentials,
    load_queries,
    score_range,
    seen_keys,
    store_output,
)
from accelsim.kernels.base import Array
from accelsim.kernels.estimate.memo import remembered
from accelsim.numerics.formats import FP32
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import (
    add,
    begin_item,
    convert,
    divide_column,
    exp,
    load,
    maximum,
    move,
    multiply,
    multiply_column,
    store,
    subtract,
    tile,
)
from accelsim.program.program import Program
from accelsim.program.recording import Tensor
from accelsim.units import ceil_div
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


class SplitKvParameters(DecodeParameters):
    """Choices of the split_kv kernel."""

    splits: Size | None = None
    """Most ranges the keys of a step are split into; absent: as many as give the lowest estimated
    time."""


_FEW_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
_SHORTEST_RANGE = 16
"""Keys of the shortest range that is tried."""


class _Partials(NamedTuple):
    """Results of splits in HBM: row ((step heads + head) splits + split) group + query head."""

    output: Tensor
    largest: Tensor
    total: Tensor


class _Merge(NamedTuple):
    """On-chip tiles of the merge: a running result and that of the next split."""

    output: Any
    largest: Any
    total: Any
    new_largest: Any
    rescale: Any


@jit
def range_length(cols, splits):
    """Keys of each range of a step that sees `cols` keys; the last one may be shorter."""
    return -(-cols // splits)


@jit
def num_ranges(cols, splits):
    """Ranges of a step that sees `cols` keys: fewer than `splits` where there are fewer keys."""
    return -(-cols // range_length(cols, splits))


@jit
def split_kv(p, shape, fmt, splits, partials, merge, hbm, b):
    """All steps, one after the other, each with a phase of ranges and one that merges them."""
    for step in range(shape.steps):
        cols = seen_keys(step, shape)
        ranges, length = num_ranges(cols, splits), range_length(cols, splits)
        for head in range(shape.heads):
            for split in range(ranges):
                begin_item(p, 2 * step)
                place = ((step * shape.heads + head) * splits + split) * shape.group
                start = split * length
                rows = min(length, cols - start)
                _attend_to_range(p, step, head, start, rows, shape, fmt, hbm, b)
                if ranges == 1:
                    store_output(p, step, head, tile(b.total, 0), shape, fmt, hbm, b)
                else:
                    _store_partial(p, place, shape, fmt, partials, b)
        if ranges > 1:
            for head in range(shape.heads):
                begin_item(p, 2 * step + 1)
                place = (step * shape.heads + head) * splits * shape.group
                _merge(p, step, head, place, ranges, shape, fmt, partials, merge, hbm, b)


@jit_inner
def _attend_to_range(p, step, head, start, rows, shape, fmt, hbm, b):
    """Weighted sum of the values of one range of keys, with its row maximum and sum."""
    x, row = tile(b.x, 0), head * shape.kv_len + start
    queries = load_queries(p, step, head, shape, hbm, b)
    score_range(p, x, 0, queries, row, rows, shape, fmt, hbm, b)
    exponentials(p, x, rows, shape, fmt, b)
    weights = as_operand(p, x, rows, shape, fmt, b)
    add_value_range(p, weights, 0, row, rows, False, shape, fmt, hbm, b)


@jit_inner
def _store_partial(p, place, shape, fmt, partials, b):
    output = tile(b.output, 0)
    move(p, output, tile(b.output_acc, 0), shape.group, shape.dim, FP32, fmt.vector)
    store(p, partials.output, place, 0, output, shape.group, shape.dim)
    store(p, partials.largest, place, 0, tile(b.largest, 0), shape.group, 1)
    store(p, partials.total, place, 0, tile(b.total, 0), shape.group, 1)


@jit_inner
def _merge(p, step, head, place, ranges, shape, fmt, partials, m, hbm, b):
    """Merge the results of all ranges of one KV head into its output."""
    group, dim, vector = shape.group, shape.dim, fmt.vector
    output, largest, total = tile(b.output, 0), tile(b.largest, 0), tile(b.total, 0)
    load(p, output, partials.output, place, 0, group, dim)
    load(p, largest, partials.largest, place, 0, group, 1)
    load(p, total, partials.total, place, 0, group, 1)
    for split in range(1, ranges):
        place += group
        _merge_next(p, split, place, output, largest, total, shape, fmt, partials, m)
    stored = tile(b.stored, 0)
    divide_column(p, output, output, total, group, dim, vector)
    if fmt.output != vector:
        convert(p, stored, output, group, dim, FP32, fmt.output)
    store(p, hbm.o, head * group, step * dim, stored, group, dim)


@jit_inner
def _merge_next(p, split, place, output, largest, total, shape, fmt, partials, m):
    """Bring the running result and that of one more range to a common maximum, and add them."""
    group, dim, vector = shape.group, shape.dim, fmt.vector
    next_output, next_largest, next_total = (
        tile(m.output, split),
        tile(m.largest, split),
        tile(m.total, split),
    )
    new_largest, rescale = tile(m.new_largest, 0), tile(m.rescale, 0)
    load(p, next_output, partials.output, place, 0, group, dim)
    load(p, next_largest, partials.largest, place, 0, group, 1)
    load(p, next_total, partials.total, place, 0, group, 1)
    maximum(p, new_largest, largest, next_largest, group, 1, vector)
    _rescale(p, rescale, largest, new_largest, output, total, shape, vector)
    _rescale(p, rescale, next_largest, new_largest, next_output, next_total, shape, vector)
    add(p, output, output, next_output, group, dim, vector)
    add(p, total, total, next_total, group, 1, vector)
    convert(p, largest, new_largest, group, 1, vector, vector)


@jit_inner
def _rescale(p, rescale, largest, new_largest, output, total, shape, vector):
    """Refer a sum of weighted values and its total to a new maximum."""
    subtract(p, rescale, largest, new_largest, shape.group, 1, vector)
    exp(p, rescale, rescale, shape.group, 1, vector)
    multiply_column(p, output, output, rescale, shape.group, shape.dim, vector)
    multiply(p, total, total, rescale, shape.group, 1, vector)


class SplitKv(DecodeKernel):
    """Exact decode with keys split over work items."""

    name: ClassVar[str] = "split_kv"
    summary: ClassVar[str] = "exact decode, the keys of a step split over cores and merged"
    parameters: ClassVar[type[Spec]] = SplitKvParameters

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: SplitKvParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        tiles = split_tiles(problem, machine, parameters)
        layout = layout_of(cls.name, problem, parameters, _allocate)
        splits = tiles.splits
        length = range_length(problem.kv_len, splits)
        frame = Frame.laid_out(layout, tiles, length, tensors)
        partials = _declare_partials(frame, splits)
        items = _num_items(frame.shape, splits)
        program = frame.record(split_kv, items, splits, partials, frame.own)
        return program.with_parameters(splits=splits), frame.output

    @classmethod
    def estimated_cycles(
        cls, problem: AttentionProblem, machine: MachineSpec, parameters: SplitKvParameters
    ) -> float:
        """Return the estimated time with the tiles that `record` takes; raises as it does."""
        return split_tiles(problem, machine, parameters).cycles


@remembered
def split_tiles(
    problem: AttentionProblem, machine: MachineSpec, parameters: SplitKvParameters
) -> DecodeTiles:
    """Return the tiles and splits; raises DoesNotFitError if none of what was asked for fits."""
    splits = [parameters.splits] if parameters.splits else _splits(problem, machine)
    layout = layout_of(SplitKv.name, problem, parameters, _allocate)
    return layout.fastest(machine, parameters, problem.kv_len, splits)


def _splits(problem: AttentionProblem, machine: MachineSpec) -> list[int]:
    """Return the splits to choose from: few ones, and those that fill all cores evenly."""
    heads = problem.batch * problem.kv_heads
    filling = {items // heads for items in range(machine.cores, 5 * machine.cores, machine.cores)}
    filling |= {ceil_div(items, heads) for items in (machine.cores, 2 * machine.cores)}
    longest = ceil_div(problem.kv_len, _SHORTEST_RANGE)
    return sorted({min(max(1, each), longest) for each in filling | set(_FEW_SPLITS)})


def _num_items(shape: Shape, splits: int) -> int:
    """Return the work items of all steps."""
    items = 0
    for step in range(shape.steps):
        hidden = shape.steps - step - 1 if shape.causal else 0
        ranges = num_ranges(shape.kv_len - hidden, splits)
        items += shape.heads * (ranges + 1 if ranges > 1 else 1)
    return items


def _declare_partials(frame: Frame, splits: int) -> _Partials:
    """Place the results of splits in HBM, where every step has its own rows.

    With one split there are none; what stands for them is not touched.
    """
    if splits == 1:
        return _Partials(frame.hbm.o, frame.hbm.o, frame.hbm.o)
    shape, fmt = frame.shape, frame.formats.vector
    rows = shape.steps * shape.heads * splits * shape.group

    def partial(name: str, cols: int) -> Tensor:
        return frame.builder.tensor(name, "intermediate", rows, cols, fmt)

    return _Partials(
        partial("partial_o", shape.dim), partial("partial_max", 1), partial("partial_sum", 1)
    )


def _allocate(builder: ProgramBuilder, problem: AttentionProblem, formats: StepFormats) -> _Merge:
    group, vector = problem.q_heads // problem.kv_heads, formats.vector

    def rows(name: str, cols: int, slots: int) -> Any:
        return builder.buffer(name, group, cols, vector, slots=slots)

    return _Merge(
        output=rows("next_output", problem.head_dim, 2),
        largest=rows("next_largest", 1, 2),
        total=rows("next_total", 1, 2),
        new_largest=rows("new_largest", 1, 1),
        rescale=rows("rescale", 1, 1),
    )
