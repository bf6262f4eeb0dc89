"""Decode whose keys are split over work items: FlashDecoding. Exact; one split is dense decode.

A step has one work item for each KV head and split, which attends to its own range of keys and
stores its unnormalized output, row maximum and row sum; a second phase merges them, of which it
loads several at a time. Source: Dao et al., "Flash-Decoding for long-context inference" (2023).

HBM reads of a KV head in a step that sees n keys in s > 1 splits: s group d b + 2 n d b, and
s group (d + 2) v of partial results with elements of v bytes, as wide as the vector path, which
were written before; the output is group d b. With one split: group d b + 2 n d b, no partials. With
K and V of c bytes an element and values of d_v elements: n (d + d_v) c for 2 n d b, d_v for d in
partial results and output.

A step may have several new tokens, as when a draft is verified: group counts the rows of all. Under
a causal mask the keys that the first of them does not see are in the last range, so every row sees
a key of each range. Source: Leviathan et al., "Fast Inference from Transformers via Speculative
Decoding" (2023).

Heads that have logits without keys have them in their first range.

K and V may be codes, the latest ones as they came: see `coded_rows`. The bytes are those of the
format then (`numerics.kv_format`).

Under a window of the problem, with one new token, n is min(n, sinks + window), and ranges count
the sinks and the keys of the window one after the other.
"""

from typing import NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode import steps
from accelsim.kernels.attention.decode.coded_rows import (
    CodedCache,
    PlainCache,
    declare_cache,
    for_blocks,
)
from accelsim.kernels.attention.decode.frame import (
    DecodeKernel,
    DecodeParameters,
    DecodeTiles,
    Frame,
    Generation,
    OnChip,
    formed,
    later_keys,
    seen_by_steps,
)
from accelsim.kernels.attention.decode.merging import (
    Merge,
    Result,
    add_result,
    allocate_merge,
    result,
    results_at_once,
    store_result,
)
from accelsim.kernels.attention.folding import mask_keys
from accelsim.kernels.attention.kernel import Recording, Task
from accelsim.kernels.attention.operands import Operands
from accelsim.kernels.attention.sinks import allocate_logits, set_to_logits
from accelsim.kernels.attention.stand_ins import stand_ins


class SplitKvParameters(DecodeParameters):
    """Choices of the split_kv kernel."""

    splits: al.Size | None = None
    """Most ranges the keys of a step are split into; absent: as many as give the lowest estimated
    time, of those that fit."""

    @property
    def may_be_in_pieces(self) -> bool:
        """Return False: ranges are the pieces."""
        return False


_FEW_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
_SHORTEST_RANGE = 16
"""Keys of the shortest range that is tried."""


class _Own(NamedTuple):
    """What the kernel has beside the frame."""

    later: int
    """Keys that the first query row of a step does not see; they are in the last range."""
    splits: int
    partials: Result
    """In HBM, from row ((step heads + head) splits + split) group on."""
    merge: Merge
    at_once: int
    """Results that are loaded at a time to be merged."""
    q_heads: int
    """Query heads of a sequence; 0: they have no logits of their own."""
    loaded: al.Buffer
    """Logits as they are loaded."""
    logits: al.Buffer
    """Logits of the heads of the rows, in the format of the vector path."""
    cache: PlainCache | CodedCache
    """How K and V are kept."""


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
        most = steps.attended_keys(k.kv_len - steps.hidden_keys(step, k), k)
        length = range_length(most - k.own.later, k.own.splits)
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
    return -(-(steps.attended_keys(at.seen, k) - k.own.later) // length)


@al.jit_inner
def _range_of_keys(p, split, length, at, k):
    """Attention to one range of keys; its result is the output, if there is no other one."""
    start, ranges = split * length, _num_ranges(at, length, k)
    size = length if split + 1 < ranges else steps.attended_keys(at.seen, k) - start
    keys, later_keys = steps.keys_in_range(k.own.cache, start, size, at, k)
    values, later_values = steps.values_in_range(k.own.cache, start, size, at, k)
    steps.load_queries(p, at, k)
    x = steps.score_both(p, keys, later_keys, at, k)
    if k.own.later:
        mask_keys(p, x, start, _Queries(0, k.group, k.span, at.seen), k)
    if k.own.q_heads and split == 0:
        total = _exponentials_with_sinks(p, x, at, k)
    else:
        total = steps.exponentials(p, x, k)
    steps.add_both(p, steps.as_operand(p, x, k), values, later_values, k)
    if ranges == 1:
        steps.store_output(p, total, at, k)
    else:
        _store_partial(p, split, at, k)


class _Logits(NamedTuple):
    """Where logits are, on chip and in HBM."""

    sink_logits: al.Buffer
    hbm: Operands


class _Heads(NamedTuple):
    """Query rows of a KV head, as their logits are asked for."""

    item: int
    head: int
    first: int
    span: int


@al.jit_inner
def _exponentials_with_sinks(p, x, at, k):
    """As `steps.exponentials`, with the logit of each head beside its scores."""
    largest, total = steps.statistics(0, k, k)
    logits, heads = al.tile(k.own.logits, 0, k.group, 1), k.group // k.span
    own = _Heads(at.number, at.head * heads % k.own.q_heads, 0, k.span)
    set_to_logits(p, logits, own, _Logits(k.own.loaded, k.hbm))
    al.row_max(p, largest, x)
    al.maximum(p, largest, largest, logits)
    al.subtract_column(p, x, x, largest)
    al.exp(p, x, x)
    al.row_sum(p, total, x)
    al.subtract(p, logits, logits, largest)
    al.exp(p, logits, logits)
    al.add(p, total, total, logits)
    return total


@al.jit_inner
def _partial_row(split, at, k):
    """First row of the result of a split in HBM."""
    return (at.number * k.own.splits + split) * k.group


@al.jit_inner
def _store_partial(p, split, at, k):
    own, row, partials = result(0, k, k), _partial_row(split, at, k), k.own.partials
    al.move(p, own.output, al.tile(k.output_acc, 0, k.group, k.value_dim))
    al.store(p, partials.output, row, 0, own.output)
    al.store(p, partials.largest, row, 0, own.largest)
    al.store(p, partials.total, row, 0, own.total)


@al.jit_inner
def _load_partial(p, own, row, k):
    """Load results that follow each other from a row on, as many as the tiles have rows for."""
    partials = k.own.partials
    al.load(p, own.output, partials.output, row, 0)
    al.load(p, own.largest, partials.largest, row, 0)
    al.load(p, own.total, partials.total, row, 0)


@al.jit_inner
def _following(turn, count, k):
    """Tiles of `count` results, one below the other."""
    rows, tiles = count * k.group, k.own.merge.following
    return Result(
        al.tile(tiles.output, turn, rows, k.value_dim),
        al.tile(tiles.largest, turn, rows, 1),
        al.tile(tiles.total, turn, rows, 1),
    )


@al.jit_inner
def _result_in(results, number, k):
    """One of the results that lie one below the other."""
    first = number * k.group
    return Result(
        al.rows_from(results.output, first, k.group),
        al.rows_from(results.largest, first, k.group),
        al.rows_from(results.total, first, k.group),
    )


@al.jit_inner
def _merge(p, ranges, at, k):
    """Merge the results of all ranges of one KV head into its output."""
    merged, at_once = result(0, k, k), k.own.at_once
    _load_partial(p, merged, _partial_row(0, at, k), k)
    for turn in range(-(-(ranges - 1) // at_once)):
        first = 1 + turn * at_once
        count = min(at_once, ranges - first)
        results = _following(turn, count, k)
        _load_partial(p, results, _partial_row(first, at, k), k)
        for number in range(count):
            add_result(p, merged, _result_in(results, number, k), k.own.merge, k)
    store_result(p, at, k)


class SplitKv(DecodeKernel):
    """Exact decode with keys split over work items."""

    name = "split_kv"
    summary = "exact decode, the keys of a step split over cores and merged"
    query_rows = "equal"
    windows = "one"
    caps_scores = True
    takes_sink_logits = True
    takes_coded_kv = True
    leaves_open = "tile_k", "stages", "splits"
    parameters = SplitKvParameters

    @classmethod
    def recorded(cls, task: Task[SplitKvParameters]) -> Recording:
        """Return the program and, with tensors, the output [rows of Q, head_dim]."""
        asked = task.parameters.tile_k, task.parameters.stages, task.parameters.splits
        generation, (tiles, *_) = split_rivals(task, is_estimated=None in asked)
        problem, later = generation.problem, later_keys(task.problem)
        length = range_length(_most_keys(problem) - later, tiles.splits) + later
        frame = generation.with_tiles(tiles, length)
        partials = _declare_partials(frame, generation.formats.vector, tiles.splits)
        cache = for_blocks(frame.layout.own.cache, frame.layout.blocks)
        own = frame.layout.own._replace(later=later, splits=tiles.splits, partials=partials)
        own = own._replace(cache=cache)
        items = _num_items(problem, tiles.splits)
        program = frame.with_layout(own=own).record(split_kv, items)
        return program.with_parameters(splits=tiles.splits), frame.output

    @classmethod
    def rivals(
        cls, problem: al.AttentionProblem, machine: al.MachineSpec, parameters: SplitKvParameters
    ) -> list[dict[str, int]]:
        """Return the tiles that may be the fastest, those that `record` takes first."""
        _, rivals = split_rivals(Task(cls.name, problem, machine, parameters, None))
        return [{name: getattr(each, name) for name in cls.leaves_open} for each in rivals]

    @classmethod
    def estimated_cycles(
        cls, problem: al.AttentionProblem, machine: al.MachineSpec, parameters: SplitKvParameters
    ) -> float:
        """Return the estimated time with the tiles that `record` takes; raises as it does."""
        _, (tiles, *_) = split_rivals(Task(cls.name, problem, machine, parameters, None))
        return tiles.cycles


_Rivals = tuple[DecodeTiles, ...]


def split_rivals(
    task: Task[SplitKvParameters], *, is_estimated: bool = True
) -> tuple[Generation, _Rivals]:
    """Return the tiles that may be the fastest, with splits of the longest sequence, best first.

    They are of the first form that fits. Ranges are as long as the estimate finds for sequences of
    the mean length. Raises DoesNotFitError if none of what was asked for fits.
    """
    return formed(Generation(task, _declare), lambda each: (each, _rivals(each, is_estimated)))


def _rivals(generation: Generation, is_estimated: bool) -> _Rivals:
    problem, asked = generation.problem, generation.task.parameters.splits
    if asked:
        return generation.rivals(_most_keys(problem), (asked,), is_estimated=is_estimated)
    (sequences,) = stand_ins(problem)
    keys = int(problem.attended_of(sequences.kv_len))
    few = _splits(sequences, generation.task.machine, keys)
    try:
        found = generation.rivals(keys, few)
    except al.DoesNotFitError:
        more = generation.fitting_splits(keys, few[-1], _SHORTEST_RANGE)
        found = generation.rivals(keys, more)
    if problem.sequences is None:
        return found
    return tuple(each._replace(splits=_longest_splits(problem, keys, each)) for each in found)


def _longest_splits(problem: al.AttentionProblem, keys: int, tiles: DecodeTiles) -> int:
    """Return the splits of the longest sequence in ranges as long as those of `keys` keys."""
    later = later_keys(problem)
    length = range_length(keys - later, tiles.splits)
    return al.ceil_div(_most_keys(problem) - later, length)


def _most_keys(problem: al.AttentionProblem) -> int:
    """Return the most keys that a step attends to."""
    return int(problem.attended_of(problem.most_keys))


def _splits(problem: al.AttentionProblem, machine: al.MachineSpec, keys: int) -> tuple[int, ...]:
    """Return the splits of keys to choose from: few ones, and those that fill all cores evenly."""
    heads = problem.batch * problem.kv_heads
    filling = {items // heads for items in range(machine.cores, 5 * machine.cores, machine.cores)}
    filling |= {al.ceil_div(items, heads) for items in (machine.cores, 2 * machine.cores)}
    longest = al.ceil_div(keys, _SHORTEST_RANGE)
    return tuple(sorted({min(max(1, n), longest) for n in filling | set(_FEW_SPLITS)}))


def _num_items(problem: al.AttentionProblem, splits: int) -> int:
    """Return the work items of all steps: ranges, and a merge where there are several."""
    seen = problem.attended_of(seen_by_steps(problem)) - later_keys(problem)
    ranges = -(-seen // range_length(seen.max(axis=1, keepdims=True), splits))
    return int((ranges + (ranges > 1)).sum())


def _declare_partials(frame: Frame, fmt: al.Format, splits: int) -> Result:
    """Place the results of splits in HBM, in a format; there are none with one split."""
    builder, k = frame.builder, frame.layout
    rows = k.steps * k.heads * splits * k.group

    def partial(name: str, cols: int) -> al.Tensor:
        if splits == 1:
            return builder.no_tensor(fmt)
        return builder.tensor(name, "intermediate", rows, cols, fmt)

    return Result(
        partial("partial_o", k.value_dim), partial("partial_max", 1), partial("partial_sum", 1)
    )


def _declare(chip: OnChip, task: Task[SplitKvParameters]) -> _Own:
    """Declare the tiles of the merge; splits and results in HBM are not known yet."""
    unknown, formats, has_logits = Result(None, None, None), chip.formats, task.problem.sink_logits
    at_once = results_at_once(task.machine, chip.rows.height, chip.widths.value, formats)
    return _Own(
        later=0,
        splits=1,
        partials=unknown,
        merge=allocate_merge(chip.rows, chip.widths.value, at_once),
        at_once=at_once,
        q_heads=task.problem.q_heads if has_logits else 0,
        loaded=allocate_logits(chip.rows, formats),
        logits=chip.rows("logits", 1) if has_logits else chip.builder.no_buffer(formats.vector),
        cache=declare_cache(chip.builder, task.problem, task.tensors, chip.tile_k, chip.stages),
    )
