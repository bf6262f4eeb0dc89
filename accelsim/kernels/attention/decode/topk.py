"""Decode with exact top-k: every head attends to its k largest scores.

All scores are computed, the k-th largest of each row is found on the vector unit, and what reaches
it is kept: exactly k keys a head, of equal scores the first ones. The softmax runs over the kept
keys alone. Query heads of a group share rows: V rows are gathered for the union of what they keep.
Source: the selection that sparse decode methods are compared with, such as Loki (Singhania et al.,
2024, arXiv 2406.02542).

HBM reads of a KV head in a step that sees n keys: group d b + n d b + U d b, where U, between k
and group k, is the size of the union; writes: group d b. Exact steps read 2 n d b for K and V.
"""

from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode import merging, pieces, selecting, steps
from accelsim.kernels.attention.decode.frame import OnChip
from accelsim.kernels.attention.decode.kept import note_columns, note_range
from accelsim.kernels.attention.kernel import Task


class TopKParameters(selecting.SelectingParameters):
    """Choices of the top-k kernel."""

    kept: float = Field(default=0.25, gt=0, le=1)
    """Share of the keys that each head keeps, rounded up to whole keys."""
    k: al.Size | None = None
    """Keys that each head keeps; absent: the share `kept`."""
    ranking: Literal["radix", "bitonic", "merge"] = "radix"
    """How the k-th largest score is found: radix select, sorting network, or merge sort. Only the
    first one ranks scores that do not fit on chip."""

    @property
    def may_be_in_pieces(self) -> bool:
        """Return whether the ranking reads scores piece by piece."""
        return self.ranking == "radix"


class _Own(NamedTuple):
    """What is kept, and the tiles beside those of the frame."""

    share: float
    wanted: int
    """Keys that each head keeps; 0: `share` of them."""
    assumed_union: float
    picked: selecting.Picked


@al.jit
def top_k(p, k):
    """All steps, one after the other."""
    for item in range(k.steps * k.heads):
        at = steps.begin_step(p, item, k)
        wanted = _wanted(at, k)
        if at.step < k.exact_steps or wanted >= at.seen:
            note_range(k.mask, 0, at.seen, at, k)
            steps.exact_step(p, at, k)
        else:
            _selecting_step(p, wanted, at, k)


@al.jit_inner
def _wanted(at, k):
    """Keys that each head keeps."""
    return k.own.wanted if k.own.wanted else selecting.count_of(k.own.share, at.seen)


@al.jit
def scored_columns(at, k):
    """Columns whose products go through HBM: all keys, in a step that selects."""
    return 0 if at.step < k.exact_steps or _wanted(at, k) >= at.seen else at.seen


@al.jit
def top_k_in_pieces(p, k):
    """All steps, each with a phase that scores pieces of the keys and one that selects."""
    for step in range(k.steps):
        for item in range(step * k.heads, (step + 1) * k.heads):
            at = steps.item_at(item, k)
            for turn in range(pieces.count(scored_columns(at, k), k)):
                al.begin_item(p, 2 * step)
                pieces.store_maxima(p, pieces.score_keys(p, turn, at, k), turn, at, k)
        for item in range(step * k.heads, (step + 1) * k.heads):
            at = steps.item_at(item, k)
            al.begin_item(p, 2 * step + 1)
            if scored_columns(at, k):
                _select_in_pieces(p, _wanted(at, k), at, k)
            else:
                note_range(k.mask, 0, at.seen, at, k)
                steps.load_queries(p, at, k)
                merging.exact_step(p, at, k)


@al.jit_inner
def _select_in_pieces(p, wanted, at, k):
    """Attention of each head to its largest scores, which are read back piece by piece."""
    largest = pieces.load_largest(p, at.seen, at, k)
    bound = al.tile(k.own.picked.bound, 0, k.group, 1)
    pieces.kth_largest(p, bound, wanted, at.seen, at, k)
    total = al.tile(k.total, 0, k.group, 1)
    al.fill(p, total, 0.0)
    assumed = max(wanted, selecting.count_of(k.own.assumed_union, at.seen))
    counted, is_empty = selecting.Counted(at.seen, assumed), True
    for turn in range(pieces.count(at.seen, k)):
        kept = selecting.keep_largest_of(p, turn, at.seen, at, k)
        start, indices, count = selecting.list_piece(p, turn, kept, -np.inf, counted, k)
        if count > 0:
            weights, indices = selecting.kept_tile(count, k), al.columns(indices, 0, count)
            note_columns(k.mask, weights, indices, -np.inf, start, at)
            pieces.as_exponentials(p, weights, weights, largest, k)
            pieces.add_sums(p, total, weights, k)
            selecting.add_kept(p, weights, indices, start, is_empty, at, k)
            is_empty = False
    selecting.store_sum(p, is_empty, total, at, k)


@al.jit_inner
def _selecting_step(p, wanted, at, k):
    """Attention of each head to its largest scores; V rows are those that any head keeps."""
    x = al.tile(k.x, 0, k.group, at.seen)
    steps.score(p, x, steps.all_rows(at), at, k)
    indices = selecting.pick(p, x, wanted, k)
    weights = selecting.kept_tile(indices.cols, k)
    note_columns(k.mask, weights, indices, -np.inf, 0, at)
    selecting.attend_to_kept(p, indices, steps.exponentials(p, weights, k), at, k)


class TopK(selecting.SelectingKernel):
    """Decode over the k largest scores of every head."""

    name = "topk"
    summary = "decode over the k largest scores of each head, found exactly"
    parameters = TopKParameters
    loop = staticmethod(top_k)
    loop_in_pieces = staticmethod(top_k_in_pieces)
    scored_columns = staticmethod(scored_columns)
    through_hbm = pieces.ThroughHbm(products=True, largest=True)

    @classmethod
    def declare(cls, chip: OnChip, task: Task[TopKParameters]) -> _Own:
        """Return what is kept, and declare the tiles beside those of the frame."""
        parameters = task.parameters
        ranking = al.Ranking[parameters.ranking.upper()]
        picked = selecting.allocate_picked(chip, chip.columns(task.problem.most_keys), ranking)
        return _Own(parameters.kept, parameters.k or 0, parameters.assumed_union or 0.0, picked)
