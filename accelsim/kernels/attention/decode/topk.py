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
from accelsim.kernels.attention.decode import selecting, steps
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
    """How the k-th largest score is found: radix select, sorting network, or merge sort."""


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
        wanted = k.own.wanted if k.own.wanted else selecting.count_of(k.own.share, at.seen)
        if at.step < k.exact_steps or wanted >= at.seen:
            note_range(k.mask, 0, at.seen, at, k)
            steps.exact_step(p, at, k)
        else:
            _selecting_step(p, wanted, at, k)


@al.jit_inner
def _selecting_step(p, wanted, at, k):
    """Attention of each head to its largest scores; V rows are those that any head keeps."""
    x = al.tile(k.x, 0, k.group, at.seen)
    steps.score(p, x, steps.all_rows(at), at, k)
    indices = selecting.pick(p, x, wanted, k)
    weights = selecting.kept_tile(indices.cols, k)
    note_columns(k.mask, weights, indices, -np.inf, at)
    selecting.attend_to_kept(p, indices, steps.exponentials(p, weights, k), at, k)


class TopK(selecting.SelectingKernel):
    """Decode over the k largest scores of every head."""

    name = "topk"
    summary = "decode over the k largest scores of each head, found exactly"
    parameters = TopKParameters
    loop = staticmethod(top_k)

    @classmethod
    def declare(cls, chip: OnChip, task: Task[TopKParameters]) -> _Own:
        """Return what is kept, and declare the tiles beside those of the frame."""
        parameters = task.parameters
        ranking = al.Ranking[parameters.ranking.upper()]
        picked = selecting.allocate_picked(chip, task.problem.most_keys, ranking)
        return _Own(parameters.kept, parameters.k or 0, parameters.assumed_union or 0.0, picked)
