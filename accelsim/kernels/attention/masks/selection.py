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

from typing import Any, NamedTuple

from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.masks.grid import Blocks
from accelsim.kernels.attention.masks.stages import SoftmaxBuffers, softmax_rows
from accelsim.numerics.formats import FP32, INT8, Format
from accelsim.program.old.block_ops import at_least
from accelsim.program.old.language import (
    add,
    begin_item,
    convert,
    fill,
    load,
    mask_above_diagonal,
    multiply,
    row_sum,
    scale,
    store,
    subtract,
    tile,
)
from accelsim.program.recording import Recorder, Tensor
from accelsim.units import ceil_div

_SELECTS = ("coverage", "threshold", "budget")
_COVERAGE, _THRESHOLD, _BUDGET = range(3)
_SEARCH_STEPS, _EXPONENT_RANGE = 16, 64
_BELOW_EVERY_PROBABILITY = -1.0


class _Rule(NamedTuple):
    """How blocks are chosen."""

    select: int
    target: float
    fallback_below: float
    are_logits: bool
    offset: int
    """Block of the last key that the first query block sees under a causal mask."""
    step: int
    """Rows of a tile."""


class _Buffers(NamedTuple):
    """Tiles [rows, k_blocks]: probabilities, kept, map; columns [rows, 1]: the others."""

    scores: Any
    kept: Any
    map: Any
    threshold: Any
    candidate: Any
    goal: Any
    total: Any
    enough: Any
    flag: Any
    statistics: SoftmaxBuffers


class BlockSelection:
    """A scored mask with the stage after it, which leaves the map of kept blocks in HBM."""

    def __init__(self, setting: Setting, mask: ScoredMask) -> None:
        grid, parameters = setting.grid, setting.parameters
        self._grid, self._mask = grid, mask
        self._heads = grid.heads // mask.share
        rows = self._heads * grid.q_blocks
        tensor = setting.builder.tensor
        self.map: Tensor = tensor("block_map", "intermediate", rows, grid.k_blocks, Format.INT8)
        """1 where a block is kept, [heads / share * q_blocks, k_blocks]."""
        self.trusted: Tensor | None = None
        """1 where the predicted coverage suffices, [heads / share * q_blocks, 1], if asked for."""
        if parameters.fallback_below > 0:
            self.trusted = tensor("trusted", "intermediate", rows, 1, Format.INT8)
        self._rule = _rule(setting, mask.are_logits)
        self._buffers = _allocate(setting)
        self.share, self.phases = mask.share, mask.phases + 1
        self.items = mask.items + self._heads * ceil_div(grid.q_blocks, setting.rows)

    def record(self, p: Recorder) -> None:
        """Score, then choose blocks for every query block."""
        self._mask.record(p)
        phase, scores = self._mask.phases, self._mask.scores
        tensors = (scores, self.map, self.trusted)
        select_blocks(p, phase, self._heads, self._grid, self._rule, *tensors, self._buffers)

    def chosen(self) -> Blocks:
        """Return the recorded map as [heads, q_blocks, k_blocks]; needs numbers."""
        grid = self._grid
        chosen = self.map.data.reshape(self._heads, grid.q_blocks, grid.k_blocks) != 0
        return chosen.repeat(self.share, axis=0)

    def fallback_fraction(self) -> float:
        """Return the share of query blocks that fell back; 0 if never asked, or without numbers."""
        if self.trusted is None or self.trusted.data is None:
            return 0.0
        return float(1 - self.trusted.data.mean())


def _rule(setting: Setting, are_logits: bool) -> _Rule:
    parameters, grid = setting.parameters, setting.grid
    return _Rule(
        select=_SELECTS.index(parameters.select),
        target=float(getattr(parameters, parameters.select)),
        fallback_below=parameters.fallback_below,
        are_logits=are_logits,
        offset=ceil_div(grid.offset, grid.block),
        step=setting.rows,
    )


def _allocate(setting: Setting) -> _Buffers:
    builder, cols = setting.builder, setting.grid.k_blocks
    rows = min(setting.rows, setting.grid.q_blocks)

    def column(name: str, fmt: Format = Format.FP32) -> Any:
        return builder.buffer(name, rows, 1, fmt)

    return _Buffers(
        scores=builder.buffer("select_scores", rows, cols, Format.FP32, slots=2),
        kept=builder.buffer("select_kept", rows, cols, Format.FP32),
        map=builder.buffer("select_map", rows, cols, Format.INT8, slots=2),
        threshold=column("select_threshold"),
        candidate=column("select_candidate"),
        goal=column("select_goal"),
        total=column("select_total"),
        enough=column("select_enough"),
        flag=column("select_flag", Format.INT8),
        statistics=SoftmaxBuffers(column("select_max"), column("select_sum")),
    )


@jit
def select_blocks(p, phase, heads, grid, rule, scores, chosen, trusted, b):
    """Map of kept blocks for every query block of `heads` heads."""
    tiles, cols = -(-grid.q_blocks // rule.step), grid.k_blocks
    for item in range(heads * tiles):
        begin_item(p, phase)
        head, first = item // tiles, item % tiles * rule.step
        rows, row = min(rule.step, grid.q_blocks - first), head * grid.q_blocks + first
        x, kept, out = tile(b.scores, item), tile(b.kept, 0), tile(b.map, item)
        load(p, x, scores, row, 0, rows, cols)
        if rule.are_logits:
            if grid.causal:
                mask_above_diagonal(p, x, first + rule.offset, 0, rows, cols, FP32)
            softmax_rows(p, x, rows, cols, b.statistics)
        if rule.select == _THRESHOLD:
            fill(p, tile(b.threshold, 0), rule.target, rows, 1, FP32)
        else:
            _search_threshold(p, x, rows, cols, rule, b)
        if trusted is not None:
            _fall_back(p, x, row, rows, cols, rule, trusted, b)
        at_least(p, kept, x, tile(b.threshold, 0), rows, cols, FP32)
        convert(p, out, kept, rows, cols, FP32, INT8)
        store(p, chosen, row, 0, out, rows, cols)


@jit_inner
def _covered(p, x, column, rows, cols, counts, b):
    """total = sum of the probabilities from `column` on, or how many they are."""
    kept = tile(b.kept, 0)
    at_least(p, kept, x, column, rows, cols, FP32)
    if not counts:
        multiply(p, kept, kept, x, rows, cols, FP32)
    row_sum(p, tile(b.total, 0), kept, rows, cols, FP32)


@jit_inner
def _search_threshold(p, x, rows, cols, rule, b):
    """Lower the threshold by ever smaller factors, as long as it keeps too little."""
    threshold, candidate, goal = tile(b.threshold, 0), tile(b.candidate, 0), tile(b.goal, 0)
    total, enough, width = tile(b.total, 0), tile(b.enough, 0), float(_EXPONENT_RANGE)
    fill(p, threshold, 1.0, rows, 1, FP32)
    fill(p, goal, rule.target, rows, 1, FP32)
    for _ in range(_SEARCH_STEPS):
        width /= 2
        scale(p, candidate, threshold, 2.0**-width, rows, 1, FP32)
        _covered(p, x, candidate, rows, cols, rule.select == _BUDGET, b)
        at_least(p, enough, total, goal, rows, 1, FP32)
        # threshold = threshold where the candidate keeps enough already, else the candidate
        subtract(p, threshold, threshold, candidate, rows, 1, FP32)
        multiply(p, threshold, threshold, enough, rows, 1, FP32)
        add(p, threshold, threshold, candidate, rows, 1, FP32)
    scale(p, threshold, threshold, 2.0**-width, rows, 1, FP32)


@jit_inner
def _fall_back(p, x, row, rows, cols, rule, trusted, b):
    """Put the threshold of rows with too little predicted coverage below every probability."""
    threshold, goal, enough = tile(b.threshold, 0), tile(b.goal, 0), tile(b.enough, 0)
    _covered(p, x, threshold, rows, cols, False, b)
    fill(p, goal, rule.fallback_below, rows, 1, FP32)
    at_least(p, enough, tile(b.total, 0), goal, rows, 1, FP32)
    convert(p, tile(b.flag, 0), enough, rows, 1, FP32, INT8)
    store(p, trusted, row, 0, tile(b.flag, 0), rows, 1)
    fill(p, goal, _BELOW_EVERY_PROBABILITY, rows, 1, FP32)
    subtract(p, threshold, threshold, goal, rows, 1, FP32)
    multiply(p, threshold, threshold, enough, rows, 1, FP32)
    add(p, threshold, threshold, goal, rows, 1, FP32)
