"""The parts of one decode step, from the query to the output; the layout is in `frame`.

`k` is the layout, `at` the work item. Scores and weights of all keys of an item lie in the columns
of one tile. Rows of K and V follow each other and are loaded, or are listed and are gathered.
"""

from typing import NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode.coded_rows import (
    CodedCache,
    CodedKeys,
    CodedValues,
    PlainCache,
    PlainKeys,
    PlainValues,
    coded_keys,
    coded_keys_of,
    coded_values,
    coded_values_of,
    finish_coded_scores,
    plain_keys,
    plain_values,
)
from accelsim.kernels.attention.operands import as_cube_operand
from accelsim.kernels.attention.softcap import cap_scores
from accelsim.runtime.jit import chosen_by_type


class Item(NamedTuple):
    """A work item: one step of one KV head."""

    number: int
    """Place among the items of all steps, if each head has one a step."""
    step: int
    head: int
    seen: int
    """Keys that the step sees."""
    q_row: int
    """First row of the group in Q."""
    kv_row: int
    """First row of the head in K and V."""


class Range(NamedTuple):
    """Rows of K and V that follow each other."""

    first: int
    size: int


class Listed(NamedTuple):
    """Rows of K and V whose numbers, counted from `first`, are listed."""

    first: int
    size: int
    indices: al.Tile


@al.jit_inner
def hidden_keys(step, k):
    """Keys of later steps."""
    return k.steps - 1 - step


@al.jit_inner
def item_at(number, k):
    """Work item `number` of those of all steps, one after the other."""
    step, head = number // k.heads, number % k.heads
    kv_row, kv_len = k.caches[head, 0], k.caches[head, 1]
    seen = kv_len - hidden_keys(step, k)
    return Item(number, step, head, seen, head * k.group, kv_row)


@al.jit_inner
def begin_step(p, number, k):
    """Begin a work item and load its queries."""
    at = item_at(number, k)
    al.begin_item(p, at.step)
    load_queries(p, at, k)
    return at


@al.jit_inner
def load_queries(p, at, k):
    """Load the query rows of a KV head."""
    al.load(p, queries_of(at, k), k.hbm.q, at.q_row, at.step * k.dim)


@al.jit_inner
def queries_of(at, k):
    """The queries of a work item, which have been loaded."""
    return al.tile(k.queries, at.number, k.group, k.dim)


@al.jit_inner
def all_rows(at):
    """The rows of all keys that a step sees."""
    return Range(at.kv_row, at.seen)


@al.jit_inner
def _load_rows(rows, p, dst, tensor, start):
    al.load(p, dst, tensor, rows.first + start, 0)


@al.jit_inner
def _gather_rows(rows, p, dst, tensor, start):
    al.gather(p, dst, tensor, al.columns(rows.indices, start, dst.rows), rows.first, 0)


_fetch = chosen_by_type({Range: _load_rows, Listed: _gather_rows})
"""Bring as many of the rows as dst has from K or V to it, from number `start` on."""


@al.jit_inner
def _stored_keys(rows, p, turn, start, count, k):
    keys = al.tile(k.keys, turn, count, k.dim)
    _fetch(rows, p, keys, k.hbm.k, start)
    return as_cube_operand(p, keys, k.key_operands, turn)


@al.jit_inner
def _stored_values(rows, p, turn, start, count, k):
    values = al.tile(k.values, turn, count, k.value_dim)
    _fetch(rows, p, values, k.hbm.v, start)
    return as_cube_operand(p, values, k.value_operands, turn)


_keys = chosen_by_type(
    {
        Range: _stored_keys,
        Listed: _stored_keys,
        CodedKeys: coded_keys,
        PlainKeys: plain_keys,
    }
)
"""Bring `count` of the keys from number `start` on; returns them as the matrix unit takes them."""
_values = chosen_by_type(
    {
        Range: _stored_values,
        Listed: _stored_values,
        CodedValues: coded_values,
        PlainValues: plain_values,
    }
)
"""The same of values."""


@al.jit_inner
def _part_of_range(rows, start, size):
    return Range(rows.first + start, size)


@al.jit_inner
def _part_of_list(rows, start, size):
    return Listed(rows.first, size, al.columns(rows.indices, start, size))


part_of = chosen_by_type({Range: _part_of_range, Listed: _part_of_list})
"""Return `size` of the rows, from number `start` on."""


@al.jit_inner
def score(p, x, rows, at, k):
    """x = Q K^T / sqrt(d), with a column for each of the rows of K."""
    for j in range(-(-rows.size // k.tile_k)):
        acc = product(p, rows, j, at, k)
        own = al.columns(x, j * k.tile_k, acc.cols)
        take_scores(p, own, j, acc, k)
        _finish_scores(rows, p, own, j, j * k.tile_k, k)


@al.jit_inner
def _nothing_to_finish(rows, p, x, turn, start, k):
    pass


_finish_scores = chosen_by_type(
    {
        Range: _nothing_to_finish,
        Listed: _nothing_to_finish,
        PlainKeys: _nothing_to_finish,
        CodedKeys: finish_coded_scores,
    }
)


@al.jit_inner
def product(p, rows, turn, at, k):
    """Q K^T of tile `turn` of the rows of K; returns the tile of the accumulator."""
    start = turn * k.tile_k
    count = min(k.tile_k, rows.size - start)
    acc = al.tile(k.scores_acc, turn, k.group, count)
    keys = _keys(rows, p, turn, start, count, k)
    al.matmul_transposed(p, acc, queries_of(at, k), keys, False)
    return acc


@al.jit_inner
def take_scores(p, x, turn, acc, k):
    """x = products / sqrt(d); returns the tile of the products."""
    scores = al.tile(k.scores, turn, acc.rows, acc.cols)
    al.move(p, scores, acc)
    al.scale(p, x, scores, k.factor)
    cap_scores(p, x, k.softcap)
    return scores


@al.jit_inner
def statistics(turn, buffers, k):
    """Tiles of row maxima and row sums; buffers: the layout, or others that have them."""
    return al.tile(buffers.largest, turn, k.group, 1), al.tile(buffers.total, turn, k.group, 1)


@al.jit_inner
def exponentials(p, x, k):
    """x = exp(x - row maximum) in place; returns its row sums, the tile of `total`."""
    largest, total = statistics(0, k, k)
    exponentials_to(p, x, largest, total)
    return total


@al.jit_inner
def exponentials_to(p, x, largest, total):
    """x = exp(x - row maximum) in place, with the row maxima and the row sums."""
    al.row_max(p, largest, x)
    al.subtract_column(p, x, x, largest)
    al.exp(p, x, x)
    al.row_sum(p, total, x)


@al.jit_inner
def as_operand(p, x, k):
    """Return the weights x in the format in which the cube takes them."""
    if k.weights.fmt == k.x.fmt:
        return x
    weights = al.tile(k.weights, 0, k.group, x.cols)
    al.convert(p, weights, x)
    return weights


@al.jit_inner
def add_values(p, weights, rows, accumulate, k):
    """Sum of the rows of V, each weighted with its column; added to before if `accumulate`."""
    acc = al.tile(k.output_acc, 0, k.group, k.value_dim)
    for j in range(-(-rows.size // k.tile_k)):
        start = j * k.tile_k
        count = min(k.tile_k, rows.size - start)
        values = _values(rows, p, j, start, count, k)
        al.matmul(p, acc, al.columns(weights, start, count), values, accumulate or j > 0)


@al.jit_inner
def store_output(p, divisor, at, k):
    """Divide the sum of weighted values by `divisor` and store the rows of a KV head."""
    output = al.tile(k.output, 0, k.group, k.value_dim)
    al.move(p, output, al.tile(k.output_acc, 0, k.group, k.value_dim))
    store_quotient(p, output, divisor, at, k)


@al.jit_inner
def store_quotient(p, output, divisor, at, k):
    """Divide the rows of `output` by `divisor`, which nobody reads after, and store them."""
    stored = al.tile(k.stored, 0, k.group, k.value_dim)
    if k.divides_by_scale:
        al.scale(p, divisor, divisor, k.sum_factor)
    al.divide_column(p, output, output, divisor)
    if k.stored.fmt != k.output.fmt:
        al.convert(p, stored, output)
    al.store(p, k.hbm.o, at.q_row, at.step * k.value_dim, stored)


@al.jit_inner
def attend(p, x, rows, divisor, at, k):
    """Finish a step from its exponentials x, one for each of the rows of V."""
    add_values(p, as_operand(p, x, k), rows, False, k)
    store_output(p, divisor, at, k)


@al.jit_inner
def score_both(p, first, second, at, k):
    """Scores of rows of K in two parts, of which either may be empty."""
    x = al.tile(k.x, 0, k.group, first.size + second.size)
    score(p, al.columns(x, 0, first.size), first, at, k)
    score(p, al.columns(x, first.size, second.size), second, at, k)
    return x


@al.jit_inner
def add_both(p, weights, first, second, k):
    """Sum of the rows of V in two parts."""
    add_values(p, al.columns(weights, 0, first.size), first, False, k)
    latest = al.columns(weights, first.size, second.size)
    add_values(p, latest, second, first.size > 0, k)


@al.jit_inner
def attend_to_both(p, first, second, at, k):
    """Softmax attention over rows of K and V in two parts, the first of which may be empty."""
    x = score_both(p, first, second, at, k)
    total = exponentials(p, x, k)
    add_both(p, as_operand(p, x, k), first, second, k)
    store_output(p, total, at, k)


@al.jit_inner
def attended_keys(seen, k):
    """How many keys a step attends to of those it sees."""
    return min(seen, k.window + k.sinks) if k.window else seen


@al.jit_inner
def attended_range(start, size, at, k):
    """Rows of keys that are attended to, from number `start` on: sinks, and those behind them."""
    sinks = min(k.sinks, max(0, at.seen - k.window)) if k.window else 0
    skipped = at.seen - attended_keys(at.seen, k)
    first = max(0, min(sinks, start + size) - start)
    latest = at.kv_row + start + first + skipped
    return Range(at.kv_row + start, first), Range(latest, size - first)


@al.jit_inner
def _attended_range(_cache, start, size, at, k):
    return attended_range(start, size, at, k)


@al.jit_inner
def _coded_keys_of(_cache, start, size, at, k):
    return coded_keys_of(start, size, at, k)


@al.jit_inner
def _coded_values_of(_cache, start, size, at, k):
    return coded_values_of(start, size, at, k)


keys_in_range = chosen_by_type({PlainCache: _attended_range, CodedCache: _coded_keys_of})
"""(cache, start, size, at, k): the attended keys from number `start` on, in two parts."""
values_in_range = chosen_by_type({PlainCache: _attended_range, CodedCache: _coded_values_of})
"""The same of values."""


@al.jit_inner
def exact_step(p, at, k):
    """Softmax attention over all keys that a step sees."""
    rows, x = all_rows(at), al.tile(k.x, 0, k.group, at.seen)
    score(p, x, rows, at, k)
    attend(p, x, rows, exponentials(p, x, k), at, k)
