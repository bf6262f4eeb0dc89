"""From block scores to the map of kept blocks: softmax, a threshold for every row, fallback.

The threshold of `coverage` (`budget`) is the largest 2^-e for which the blocks of at least that
probability together reach the coverage (are at least as many as the budget). Its exponent is found
bit by bit, e between 0 and 64 in 16 steps, with compares and sums that a vector unit has; a sort
would need other hardware. Blocks within a factor 2^(1/1024) of the threshold are kept together, so
equal scores may exceed a budget. A row whose chosen blocks have less than the demanded predicted
coverage keeps all of its blocks, and so does one with NaN: nothing is below an unknown threshold.

HBM traffic: reads the scores, 4 n_q n_k bytes for every n_q x n_k grid of blocks; writes n_q n_k
bytes of map and, if fallback is asked for, n_q bytes of flags.
"""

from dataclasses import replace
from typing import NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.sparse.masks.base import Heads, ScoredMask, Setting, Stage
from accelsim.kernels.attention.sparse.masks.grid import Blocks
from accelsim.kernels.attention.sparse.masks.stages import rows_at, softmax_rows

_SELECTS = ("coverage", "threshold", "budget")
_COVERAGE, _THRESHOLD, _BUDGET = range(3)
_SEARCH_STEPS, _EXPONENT_RANGE = 16, 64
_BELOW_EVERY_PROBABILITY = -1.0


class Layout(NamedTuple):
    """How blocks are chosen; scores and what is chosen in HBM; tiles on chip."""

    select: int
    target: float
    fallback_below: float
    """0: no row falls back."""
    are_logits: bool
    causal: bool
    offset: int
    """Block of the last key that the first query block sees under a causal mask."""
    scores: Heads
    chosen: al.Tensor
    trusted: al.Tensor
    x: al.Buffer
    """Probabilities [rows, k_blocks], as are `kept` and `map`; the others are columns [rows, 1]."""
    kept: al.Buffer
    map: al.Buffer
    threshold: al.Buffer
    candidate: al.Buffer
    goal: al.Buffer
    total: al.Buffer
    enough: al.Buffer
    flag: al.Buffer
    row_max: al.Buffer
    row_sum: al.Buffer


class BlockSelection:
    """A scored mask with the stage after it, which leaves the map of kept blocks in HBM."""

    def __init__(self, setting: Setting, mask: ScoredMask) -> None:
        self._grid, self._layout = setting.grid, _layout_of(setting, mask)
        items = mask.scores.tiles(setting.rows)
        choosing = Stage(mask.phases, items, select_blocks, self._layout)
        self._mask = replace(mask, stages=(*mask.stages, choosing))
        self.map: al.Tensor = self._layout.chosen
        """1 where a block is kept, [heads / share * q_blocks, k_blocks]."""
        self.share = setting.grid.heads // mask.scores.heads
        """Query heads that have one map."""
        self.phases, self.items = self._mask.phases, self._mask.items

    def record(self, p: al.Recorder) -> None:
        """Score, then choose blocks for every query block."""
        self._mask.record(p)

    def chosen(self) -> Blocks:
        """Return the recorded map as [heads, q_blocks, k_blocks]; needs numbers."""
        chosen = self.map.data.reshape(-1, self._grid.q_blocks, self._grid.k_blocks) != 0
        return chosen.repeat(self.share, axis=0)

    def fallback_fraction(self) -> float:
        """Return the share of query blocks that fell back; 0 if never asked, or without numbers."""
        trusted = self._layout.trusted.data
        if self._layout.fallback_below == 0 or trusted is None:
            return 0.0
        return float(1 - trusted.mean())


def _layout_of(setting: Setting, mask: ScoredMask) -> Layout:
    builder, grid, parameters = setting.builder, setting.grid, setting.parameters
    rows, cols, height = min(setting.rows, grid.q_blocks), grid.k_blocks, mask.scores.matrix.rows
    chosen = builder.tensor("block_map", "intermediate", height, cols, al.Format.INT8)
    trusted = builder.no_tensor(al.Format.INT8)
    if parameters.fallback_below > 0:
        trusted = builder.tensor("trusted", "intermediate", height, 1, al.Format.INT8)

    def column(name: str, fmt: al.Format = al.Format.FP32) -> al.Buffer:
        return builder.buffer(f"select_{name}", rows, 1, fmt)

    return Layout(
        select=_SELECTS.index(parameters.select),
        target=float(getattr(parameters, parameters.select)),
        fallback_below=parameters.fallback_below,
        are_logits=mask.are_logits,
        causal=grid.causal,
        offset=al.ceil_div(grid.offset, grid.block),
        scores=mask.scores,
        chosen=chosen,
        trusted=trusted,
        x=builder.buffer("select_scores", rows, cols, al.Format.FP32, slots=2),
        kept=builder.buffer("select_kept", rows, cols, al.Format.FP32),
        map=builder.buffer("select_map", rows, cols, al.Format.INT8, slots=2),
        threshold=column("threshold"),
        candidate=column("candidate"),
        goal=column("goal"),
        total=column("total"),
        enough=column("enough"),
        flag=column("flag", al.Format.INT8),
        row_max=column("max"),
        row_sum=column("sum"),
    )


@al.jit
def select_blocks(p, phase, items, k):
    """Map of kept blocks for every query block of all heads of the scores."""
    for item in range(items):
        al.begin_item(p, phase)
        at = rows_at(item, k.scores, k.x.rows)
        x = al.tile(k.x, item, at.rows, k.x.cols)
        kept, stored = al.tile(k.kept, 0, x.rows, x.cols), al.tile(k.map, item, x.rows, x.cols)
        threshold = _column(k.threshold, x)
        al.load(p, x, k.scores.matrix, at.row, 0)
        if k.are_logits:
            if k.causal:
                al.mask_above_diagonal(p, x, at.first + k.offset, 0)
            softmax_rows(p, x, k)
        if k.select == _THRESHOLD:
            al.fill(p, threshold, k.target)
        else:
            _search_threshold(p, threshold, x, k)
        if k.fallback_below > 0:
            _fall_back(p, threshold, x, at.row, k)
        al.at_least(p, kept, x, threshold)
        al.convert(p, stored, kept)
        al.store(p, k.chosen, at.row, 0, stored)


@al.jit_inner
def _column(buffer, x):
    """One number for each row of x."""
    return al.tile(buffer, 0, x.rows, 1)


@al.jit_inner
def _covered(p, x, column, counts, k):
    """Sum of the probabilities from `column` on, or how many they are."""
    kept, total = al.tile(k.kept, 0, x.rows, x.cols), _column(k.total, x)
    al.at_least(p, kept, x, column)
    if not counts:
        al.multiply(p, kept, kept, x)
    al.row_sum(p, total, kept)
    return total


@al.jit_inner
def _search_threshold(p, threshold, x, k):
    """Lower the threshold by ever smaller factors, as long as it keeps too little."""
    candidate, goal, enough = _column(k.candidate, x), _column(k.goal, x), _column(k.enough, x)
    width = float(_EXPONENT_RANGE)
    al.fill(p, threshold, 1.0)
    al.fill(p, goal, k.target)
    for _ in range(_SEARCH_STEPS):
        width /= 2
        al.scale(p, candidate, threshold, 2.0**-width)
        al.at_least(p, enough, _covered(p, x, candidate, k.select == _BUDGET, k), goal)
        _keep_where(p, enough, threshold, candidate)
    al.scale(p, threshold, threshold, 2.0**-width)


@al.jit_inner
def _fall_back(p, threshold, x, row, k):
    """Put the threshold of rows with too little predicted coverage below every probability."""
    goal, enough, flag = _column(k.goal, x), _column(k.enough, x), _column(k.flag, x)
    total = _covered(p, x, threshold, False, k)
    al.fill(p, goal, k.fallback_below)
    al.at_least(p, enough, total, goal)
    al.convert(p, flag, enough)
    al.store(p, k.trusted, row, 0, flag)
    al.fill(p, goal, _BELOW_EVERY_PROBABILITY)
    _keep_where(p, enough, threshold, goal)


@al.jit_inner
def _keep_where(p, is_kept, x, other):
    """Keep the elements of x where `is_kept` is 1, and take those of `other` where it is 0."""
    al.subtract(p, x, x, other)
    al.multiply(p, x, x, is_kept)
    al.add(p, x, x, other)
