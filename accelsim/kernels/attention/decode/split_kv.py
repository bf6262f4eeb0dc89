"""Decode whose keys are split over work items: FlashDecoding. Exact; one split is dense decode.

A step has one work item for each KV head and split, which attends to its own range of keys and
stores its unnormalized output, row maximum and row sum; a second phase merges them. Source: Dao et
al., "Flash-Decoding for long-context inference" (2023).

HBM reads of a KV head in a step that sees n keys in s > 1 splits: s group d b + 2 n d b, and
s group (d + 2) v of partial results with elements of v bytes, as wide as the vector path, which
were written before; the output is group d b. With one split: group d b + 2 n d b, no partials. With
K and V of c bytes an element and values of d_v elements: n (d + d_v) c for 2 n d b, d_v for d in
partial results and output.

A step may have several new tokens, as when a draft is verified: group counts the rows of all. Under
a causal mask the keys that the first of them does not see are in the last range, so every row sees
a key of each range. Source: Leviathan et al., "Fast Inference from Transformers via Speculative
Decoding" (2023).
"""

from typing import Any, NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode import steps
from accelsim.kernels.attention.decode.frame import (
    DecodeKernel,
    DecodeParameters,
    DecodeTiles,
    Frame,
    Generation,
    OnChip,
    later_keys,
    seen_by_steps,
)
from accelsim.kernels.attention.folding import mask_keys
from accelsim.kernels.attention.kernel import Recording, Task
from accelsim.kernels.attention.stand_ins import stand_ins


class SplitKvParameters(DecodeParameters):
    """Choices of the split_kv kernel."""

    splits: al.Size | None = None
    """Most ranges the keys of a step are split into; absent: as many as give the lowest estimated
    time."""


_FEW_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
_SHORTEST_RANGE = 16
"""Keys of the shortest range that is tried."""


class _Result(NamedTuple):
    """Results of ranges: sums of values with their row maxima and sums. Tensors, buffers or tiles.

    In HBM they begin at row ((step heads + head) splits + split) group.
    """

    output: Any
    largest: Any
    total: Any


class _Own(NamedTuple):
    """What the kernel has beside the frame."""

    later: int
    """Keys that the first query row of a step does not see; they are in the last range."""
    splits: int
    partials: _Result
    """In HBM."""
    following: _Result
    """Of the next split, in the merge."""
    new_largest: al.Buffer
    rescale: al.Buffer


class _Queries(NamedTuple):
    """Query rows of a KV head, as a causal mask asks for them; see `folding`."""

    first: int
    rows: int
    span: int
    kv_len: int


@al.jit
def range_length(cols, splits):
    """Keys of each range of a step whose first rows see at most `cols` keys.

    The last range may be shorter, and has those besides that the first rows do not see.
    """
    return -(-cols // splits)


@al.jit
def split_kv(p, k):
    """All steps, one after the other, each with a phase of ranges and one that merges them."""
    for step in range(k.steps):
        length = range_length(k.kv_len - steps.hidden_keys(step, k) - k.own.later, k.own.splits)
        for item in range(step * k.heads, (step + 1) * k.heads):
            at = steps.item_at(item, k)
            for split in range(_num_ranges(at, length, k)):
                al.begin_item(p, 2 * step)
                _range_of_keys(p, split, length, at, k)
        for item in range(step * k.heads, (step + 1) * k.heads):
            at = steps.item_at(item, k)
            ranges = _num_ranges(at, length, k)
            if ranges > 1:
                al.begin_item(p, 2 * step + 1)
                _merge(p, ranges, at, k)


@al.jit_inner
def _num_ranges(at, length, k):
    """Ranges of a head, each of `length` keys but for the last one."""
    return -(-(at.seen - k.own.later) // length)


@al.jit_inner
def _range_of_keys(p, split, length, at, k):
    """Attention to one range of keys; its result is the output, if there is no other one."""
    start, ranges = split * length, _num_ranges(at, length, k)
    rows = steps.Range(at.kv_row + start, length if split + 1 < ranges else at.seen - start)
    x = al.tile(k.x, 0, k.group, rows.size)
    steps.load_queries(p, at, k)
    steps.score(p, x, rows, at, k)
    if k.own.later:
        mask_keys(p, x, start, _Queries(0, k.group, k.span, at.seen), k)
    total = steps.exponentials(p, x, k)
    steps.add_values(p, steps.as_operand(p, x, k), rows, False, k)
    if ranges == 1:
        steps.store_output(p, total, at, k)
    else:
        _store_partial(p, split, at, k)


@al.jit_inner
def _partial_row(split, at, k):
    """First row of the result of a split in HBM."""
    return (at.number * k.own.splits + split) * k.group


@al.jit_inner
def _result(turn, buffers, k):
    """The tiles of a result; buffers: the layout, or those of the merge."""
    output = al.tile(buffers.output, turn, k.group, k.value_dim)
    largest = al.tile(buffers.largest, turn, k.group, 1)
    return _Result(output, largest, al.tile(buffers.total, turn, k.group, 1))


@al.jit_inner
def _store_partial(p, split, at, k):
    result, row, partials = _result(0, k, k), _partial_row(split, at, k), k.own.partials
    al.move(p, result.output, al.tile(k.output_acc, 0, k.group, k.value_dim))
    al.store(p, partials.output, row, 0, result.output)
    al.store(p, partials.largest, row, 0, result.largest)
    al.store(p, partials.total, row, 0, result.total)


@al.jit_inner
def _load_partial(p, result, split, at, k):
    row, partials = _partial_row(split, at, k), k.own.partials
    al.load(p, result.output, partials.output, row, 0)
    al.load(p, result.largest, partials.largest, row, 0)
    al.load(p, result.total, partials.total, row, 0)


@al.jit_inner
def _merge(p, ranges, at, k):
    """Merge the results of all ranges of one KV head into its output."""
    merged = _result(0, k, k)
    _load_partial(p, merged, 0, at, k)
    for split in range(1, ranges):
        following = _result(split, k.own.following, k)
        _load_partial(p, following, split, at, k)
        _add_result(p, merged, following, k)
    steps.store_quotient(p, merged.output, merged.total, at, k)


@al.jit_inner
def _add_result(p, merged, following, k):
    """Bring two results to a common maximum and add the second one to the first."""
    new_largest = al.tile(k.own.new_largest, 0, k.group, 1)
    al.maximum(p, new_largest, merged.largest, following.largest)
    _rescale(p, merged, new_largest, k)
    _rescale(p, following, new_largest, k)
    al.add(p, merged.output, merged.output, following.output)
    al.add(p, merged.total, merged.total, following.total)
    al.convert(p, merged.largest, new_largest)


@al.jit_inner
def _rescale(p, result, new_largest, k):
    """Refer a sum of weighted values and its total to a new maximum."""
    rescale = al.tile(k.own.rescale, 0, k.group, 1)
    al.subtract(p, rescale, result.largest, new_largest)
    al.exp(p, rescale, rescale)
    al.multiply_column(p, result.output, result.output, rescale)
    al.multiply(p, result.total, result.total, rescale)


class SplitKv(DecodeKernel):
    """Exact decode with keys split over work items."""

    name = "split_kv"
    summary = "exact decode, the keys of a step split over cores and merged"
    query_rows = "equal"
    parameters = SplitKvParameters

    @classmethod
    def recorded(cls, task: Task[SplitKvParameters]) -> Recording:
        """Return the program and, with tensors, the output [rows of Q, head_dim]."""
        problem, tiles, later = task.problem, split_tiles(task), later_keys(task.problem)
        length = range_length(problem.most_keys - later, tiles.splits) + later
        generation = Generation(task, _declare)
        frame = generation.with_tiles(tiles, length)
        partials = _declare_partials(frame, generation.formats.vector, tiles.splits)
        own = frame.layout.own._replace(later=later, splits=tiles.splits, partials=partials)
        items = _num_items(problem, tiles.splits)
        program = frame.with_layout(own=own).record(split_kv, items)
        return program.with_parameters(splits=tiles.splits), frame.output

    @classmethod
    def estimated_cycles(
        cls, problem: al.AttentionProblem, machine: al.MachineSpec, parameters: SplitKvParameters
    ) -> float:
        """Return the estimated time with the tiles that `record` takes; raises as it does."""
        return split_tiles(Task(cls.name, problem, machine, parameters, None)).cycles


def split_tiles(task: Task[SplitKvParameters]) -> DecodeTiles:
    """Return the tiles, and the splits of the longest sequence.

    Ranges are as long as the estimate finds for sequences of the mean length. Raises
    DoesNotFitError if none of what was asked for fits.
    """
    generation, problem, asked = Generation(task, _declare), task.problem, task.parameters.splits
    if asked:
        return generation.fastest_tiles(problem.most_keys, (asked,))
    (sequences,) = stand_ins(problem)
    splits = _splits(sequences, task.machine)
    tiles = generation.fastest_tiles(sequences.kv_len, splits)
    if problem.sequences is None:
        return tiles
    later = later_keys(problem)
    length = range_length(sequences.kv_len - later, tiles.splits)
    return tiles._replace(splits=al.ceil_div(problem.most_keys - later, length))


def _splits(problem: al.AttentionProblem, machine: al.MachineSpec) -> tuple[int, ...]:
    """Return the splits to choose from: few ones, and those that fill all cores evenly."""
    heads = problem.batch * problem.kv_heads
    filling = {items // heads for items in range(machine.cores, 5 * machine.cores, machine.cores)}
    filling |= {al.ceil_div(items, heads) for items in (machine.cores, 2 * machine.cores)}
    longest = al.ceil_div(problem.kv_len, _SHORTEST_RANGE)
    return tuple(sorted({min(max(1, n), longest) for n in filling | set(_FEW_SPLITS)}))


def _num_items(problem: al.AttentionProblem, splits: int) -> int:
    """Return the work items of all steps: ranges, and a merge where there are several."""
    seen = seen_by_steps(problem) - later_keys(problem)
    ranges = -(-seen // range_length(seen.max(axis=1, keepdims=True), splits))
    return int((ranges + (ranges > 1)).sum())


def _declare_partials(frame: Frame, fmt: al.Format, splits: int) -> _Result:
    """Place the results of splits in HBM, in a format; there are none with one split."""
    builder, k = frame.builder, frame.layout
    rows = k.steps * k.heads * splits * k.group

    def partial(name: str, cols: int) -> al.Tensor:
        if splits == 1:
            return builder.no_tensor(fmt)
        return builder.tensor(name, "intermediate", rows, cols, fmt)

    return _Result(
        partial("partial_o", k.value_dim), partial("partial_max", 1), partial("partial_sum", 1)
    )


def _declare(chip: OnChip, _task: Task[SplitKvParameters]) -> _Own:
    """Declare the tiles of the merge; splits and results in HBM are not known yet."""
    following = _Result(
        output=chip.rows("next_output", chip.widths.value, slots=2),
        largest=chip.rows("next_largest", 1, slots=2),
        total=chip.rows("next_total", 1, slots=2),
    )
    unknown = _Result(None, None, None)
    return _Own(0, 1, unknown, following, chip.rows("new_largest", 1), chip.rows("rescale", 1))
