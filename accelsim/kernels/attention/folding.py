"""The query heads of a group as one: their rows share a KV head, so one tile can hold rows of all.

Rows of the heads of a group lie one after the other in HBM, so a tile of them is one run. It reads
K and V once where each head alone would read them: when there are few query rows, such as one in a
decode step, folding the group into the rows of a tile divides the reads by the size of the group
(Dao, "FlashAttention-2", 2023; Ye et al., "FlashInfer", 2025, section 3.2.1).

`at` in jitted code is a tile of query rows with the lengths of its sequence: `span`, the query rows
of one head, and `kv_len`.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.kernels import language as al
from accelsim.program.builder import too_long, too_many_items
from accelsim.program.ops import MAX_LONG_OPS, MAX_OPS

_FEWEST_OPS = 8
"""Ops of a query tile and a key tile, in any kernel at least."""
_MOST_BLOCKS = 1 << 19
"""Blocks of query rows in a head: each of them is looked at for every choice of tiles."""


class QueryHeads(NamedTuple):
    """Query heads of all sequences, as a kernel goes through them."""

    heads: Any
    """Heads, or groups of them where they are folded."""
    group: Any
    """Heads that share a KV head; 1 where they are folded."""
    rows: Any
    """Query rows of each."""


def query_heads(problem: al.AttentionProblem, *, fold: bool) -> QueryHeads:
    """Return the query heads of a problem; fold: those of a group as one."""
    group = problem.q_heads // problem.kv_heads
    if fold:
        return QueryHeads(problem.batch * problem.kv_heads, 1, group * problem.q_len)
    return QueryHeads(problem.batch * problem.q_heads, group, problem.q_len)


def shared_fields(
    problem: al.AttentionProblem, *, fold: bool, v_scale: float = 1.0
) -> dict[str, Any]:
    """Return the fields that all layouts over query heads have; v_scale: what V was divided by."""
    heads = query_heads(problem, fold=fold)
    return {
        "heads": heads.heads,
        "group": heads.group,
        "q_len": heads.rows,
        "span": problem.q_len,
        "kv_len": problem.kv_len,
        "dim": problem.head_dim,
        "value_dim": problem.widths.value,
        "causal": problem.causal,
        "divides_by_scale": problem.kv_scales != "one",
        "sum_factor": 1 / v_scale,
    }


def ways_through(problem: al.AttentionProblem, fold: npt.NDArray[np.bool_]) -> QueryHeads:
    """Return the query heads of a problem for every candidate, as arrays."""
    folded, single = query_heads(problem, fold=True), query_heads(problem, fold=False)
    return QueryHeads(*(np.where(fold, *each) for each in zip(folded, single, strict=True)))


def folds(problem: al.AttentionProblem, asked: bool | None) -> tuple[bool, ...]:
    """Return the ways to choose from: both where nobody asked and heads share a KV head."""
    if asked is not None:
        return (asked,)
    return (False,) if problem.q_heads == problem.kv_heads else (False, True)


@al.jit_inner
def seen_keys(at, k):
    """Keys that any of the query rows `at` sees."""
    if not k.causal:
        return at.kv_len
    last = min(at.first % at.span + at.rows, at.span)
    return last + at.kv_len - at.span


@al.jit_inner
def mask_keys(p, x, start, at, k):
    """Hide what a causal mask hides of scores x, whose columns are the keys from `start` on.

    at: the `Rows` of x; each head among them has its own diagonal. Returns whether any is hidden.
    """
    is_masked, done = False, 0
    while done < at.rows:
        position = (at.first + done) % at.span
        own = min(at.rows - done, at.span - position)
        diagonal = position + at.kv_len - at.span
        if start + x.cols > diagonal + 1:
            al.mask_above_diagonal(p, al.rows_from(x, done, own), diagonal, start)
            is_masked = True
        done += own
    return is_masked


@al.jit_inner
def first_position(at, k):
    """The lowest place in its sequence of the query rows `at`, which may be of several heads."""
    begin = at.first % at.span
    return (begin if begin + at.rows <= at.span else 0) + at.kv_len - at.span


@al.jit_inner
def mask_window(p, x, start, at, k):
    """Hide what is outside the window of scores x, whose columns are the keys from `start` on."""
    done = 0
    while done < at.rows:
        position = (at.first + done) % at.span
        own = min(at.rows - done, at.span - position)
        diagonal = position + at.kv_len - at.span
        # The last row has lost most keys, those up to its place less the window.
        last = diagonal + own - 1 - k.window
        if start <= last and start + x.cols > k.sinks:
            rows = al.rows_from(x, done, own)
            al.mask_outside_window(p, rows, diagonal, start, k.window, k.sinks)
        done += own


def check_length(
    name: str, problem: al.AttentionProblem, fold: bool, block_rows: Any, tile_k: Any
) -> None:
    """Refuse a problem of too many tiles before any is looked at closely; raises DoesNotFitError.

    block_rows, tile_k: query rows of a work item and key rows of a tile, of every candidate.
    """
    own = query_heads(problem, fold=fold)
    blocks = al.ceil_div(own.rows, np.minimum(block_rows, own.rows))
    if np.min(blocks) > _MOST_BLOCKS:
        raise too_long(name, _MOST_BLOCKS, "blocks of query rows in a head, the most it may have")
    items = float(own.heads) * blocks
    if np.min(items) > MAX_OPS:
        raise too_many_items(name)
    tiles = np.maximum(_key_tiles(problem, np.asarray(tile_k)), 1.0)
    if np.min(items * tiles * _FEWEST_OPS) > MAX_LONG_OPS:
        raise too_long(name)


def is_short(problem: al.AttentionProblem, block_rows: int, tile_k: int) -> bool:
    """Whether no tiles of so many rows or more are too many, folded or not."""
    both = (query_heads(problem, fold=fold) for fold in (False, True))
    blocks = max(own.heads * al.ceil_div(own.rows, min(block_rows, own.rows)) for own in both)
    return bool(blocks * max(_key_tiles(problem, tile_k), 1.0) * _FEWEST_OPS <= MAX_OPS)


def _key_tiles(problem: al.AttentionProblem, tile_k: Any) -> Any:
    """Return the key tiles of the mean item: a causal mask hides at most half of them."""
    return problem.kv_len / (2 if problem.causal else 1) / tile_k
