"""Places of the choices of tokens in the order of experts, for the products of experts.

The rows of an expert follow each other, those of an earlier token first, and the experts in the
order of their numbers. A token chooses an expert once. Experts are counted in two phases, as in a
counting sort: every tile of tokens counts its choices; then it adds the counts of earlier experts,
of earlier tiles, and of earlier tokens of its own. Counts are FP32, exact up to 2^24 choices. HBM
traffic with t tiles: rows top_k 12 + cols (t 4 + t t 4 + 4): choices twice and places, counts of
tiles out and all of them in for each tile, and the first place of each expert.
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.vector import first_maximum
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction
from accelsim.kernels.vector.workspace import Workspace
from accelsim.workload.vector import NUMBER_BYTES

_EXPECTED_DOUBLINGS, _EXPECTED_TILES = 4, 64
"""For the estimate, which does not know the tile: additions that find the counts of earlier tokens
of 16 rows, and tiles whose counts are read."""


class Layout(NamedTuple):
    """Rows of a tile, matrices in HBM and tiles on chip; FP32 but for numbers that are stored."""

    tile_rows: int
    choices: al.Tensor
    """Numbers of experts [rows, top_k], INT32."""
    places: al.Tensor
    firsts: al.Tensor
    """First place of each expert, INT32."""
    counted: al.Tensor
    """Choices of each expert by each tile [tiles, experts], between the phases."""
    stored: al.Buffer
    chosen: al.Buffer
    columns: al.Buffer
    """Numbers of experts in each row, as wide as all experts; so are:"""
    reached: al.Buffer
    one_hot: al.Buffer
    marks: al.Buffer
    before: al.Buffer
    row: al.Buffer
    """Numbers of all experts in one row; counts:"""
    counts: al.Buffer
    all_counts: al.Buffer
    stored_row: al.Buffer
    found: al.Buffer
    result: al.Buffer
    order: first_maximum.Order


@al.jit
def permute(p, k):
    """All tiles of tokens count, then all of them place."""
    tokens, experts = k.choices.rows, k.counted.cols
    tiles = k.counted.rows
    for item in range(tiles):
        al.begin_item(p, 0)
        rows = min(k.tile_rows, tokens - item * k.tile_rows)
        marks = _mark(p, item, _chosen(p, item, rows, k), k)
        counts = al.tile(k.counts, 0, 1, experts)
        al.column_sum(p, counts, marks)
        al.store(p, k.counted, item, 0, counts)
    for item in range(tiles):
        al.begin_item(p, 1)
        rows = min(k.tile_rows, tokens - item * k.tile_rows)
        chosen = _chosen(p, item, rows, k)
        before = _earlier_rows(p, _mark(p, item, chosen, k), k)
        al.add_row(p, before, before, _first_places(p, item, k))
        _place(p, item, chosen, before, k)


@al.jit_inner
def _chosen(p, item, rows, k):
    """The choices of a tile of tokens in FP32, and the numbers of experts beside each of them."""
    stored = al.tile(k.stored, item, rows, k.choices.cols)
    al.load(p, stored, k.choices, item * k.tile_rows, 0)
    chosen = al.tile(k.chosen, 0, rows, k.choices.cols)
    al.convert(p, chosen, stored)
    row, columns = (
        al.tile(k.row, 0, 1, k.counted.cols),
        al.tile(k.columns, 0, rows, k.counted.cols),
    )
    first_maximum.column_of(p, row, first_maximum.falling_order(p, k.order, row.cols), row.cols)
    al.fill(p, columns, 0.0)
    al.add_row(p, columns, columns, row)
    return chosen


@al.jit_inner
def _one_hot(p, expert, k):
    """1 at the expert of each token, whose numbers are a column, and 0 at all others."""
    rows, cols = expert.rows, k.counted.cols
    reached, one_hot = al.tile(k.reached, 0, rows, cols), al.tile(k.one_hot, 0, rows, cols)
    # Numbers that reach that of the expert, less those that reach the one before.
    al.at_least(p, reached, al.tile(k.columns, 0, rows, cols), expert)
    al.scale(p, one_hot, reached, 1.0)
    if cols > 1:
        later = al.columns(one_hot, 1, cols - 1)
        al.subtract(p, later, later, al.columns(reached, 0, cols - 1))
    return one_hot


@al.jit_inner
def _mark(p, item, chosen, k):
    """1 at all experts that a token chose."""
    marks = al.tile(k.marks, 0, chosen.rows, k.counted.cols)
    al.fill(p, marks, 0.0)
    for choice in range(chosen.cols):
        al.add(p, marks, marks, _one_hot(p, al.columns(chosen, choice, 1), k))
    return marks


@al.jit_inner
def _earlier_rows(p, marks, k):
    """Sums of the rows above each row: additions of rows that are 1, 2, 4, .. further up."""
    rows, cols = marks.rows, marks.cols
    sums = al.tile(k.before, 0, rows, cols)
    al.fill(p, al.rows_from(sums, 0, 1), 0.0)
    if rows > 1:
        al.scale(p, al.rows_from(sums, 1, rows - 1), al.rows_from(marks, 0, rows - 1), 1.0)
    turn, step = 0, 1
    while step < rows:
        turn += 1
        wider, left = al.tile(k.before, turn, rows, cols), rows - step
        al.scale(p, al.rows_from(wider, 0, step), al.rows_from(sums, 0, step), 1.0)
        above, own = al.rows_from(sums, 0, left), al.rows_from(sums, step, left)
        al.add(p, al.rows_from(wider, step, left), own, above)
        sums, step = wider, 2 * step
    return sums


@al.jit_inner
def _first_places(p, item, k):
    """The place of the first choice of each expert by a tile; item 0 stores those of all."""
    tiles, experts = k.counted.rows, k.counted.cols
    counts = al.tile(k.all_counts, 0, tiles, experts)
    al.load(p, counts, k.counted, 0, 0)
    total = al.tile(k.counts, 1, 1, experts)
    al.column_sum(p, total, counts)
    first = _earlier_columns(p, total, k)
    if item == 0:
        stored = al.tile(k.stored_row, 0, 1, experts)
        al.convert(p, stored, first)
        al.store(p, k.firsts, 0, 0, stored)
    else:
        al.column_sum(p, total, al.rows_from(counts, 0, item))
        al.add(p, first, first, total)
    return first


@al.jit_inner
def _earlier_columns(p, row, k):
    """Sums of the elements left of each element of a row."""
    cols = row.cols
    sums = al.tile(k.counts, 2, 1, cols)
    al.fill(p, al.columns(sums, 0, 1), 0.0)
    if cols > 1:
        al.scale(p, al.columns(sums, 1, cols - 1), al.columns(row, 0, cols - 1), 1.0)
    turn, step = 0, 1
    while step < cols:
        turn += 1
        wider, left = al.tile(k.counts, 2 + turn % 2, 1, cols), cols - step
        al.scale(p, al.columns(wider, 0, step), al.columns(sums, 0, step), 1.0)
        beside, own = al.columns(sums, 0, left), al.columns(sums, step, left)
        al.add(p, al.columns(wider, step, left), own, beside)
        sums, step = wider, 2 * step
    return sums


@al.jit_inner
def _place(p, item, chosen, places, k):
    """Pick the place of each choice from those of all experts, and store them."""
    found = al.tile(k.found, 0, chosen.rows, chosen.cols)
    for choice in range(chosen.cols):
        one_hot = _one_hot(p, al.columns(chosen, choice, 1), k)
        al.multiply(p, one_hot, one_hot, places)
        al.row_sum(p, al.columns(found, choice, 1), one_hot)
    result = al.tile(k.result, item, chosen.rows, chosen.cols)
    al.convert(p, result, found)
    al.store(p, k.places, item * k.tile_rows, 0, result)


class Permute(RowFunction):
    """Places of choices in the order of experts."""

    entry = staticmethod(permute)

    @classmethod
    def cost(cls, problem: al.VectorProblem) -> RowCost:
        """Return what one token takes in both phases."""
        experts, top_k = problem.cols, problem.top_k or 1
        marked = ["fill", "add", "fill", *(["select", "multiply", "add", "add"] * top_k)]
        placed = ["select", "multiply", "add", "multiply", "reduce"] * top_k
        summed = ["add", "multiply"] * _EXPECTED_DOUBLINGS + ["add", "reduce"]
        ops = [(op, experts) for op in (*marked, *marked, *placed, *summed)]
        moved, counts = top_k * NUMBER_BYTES, (_EXPECTED_TILES + 1) * experts * NUMBER_BYTES
        return RowCost(2 * moved, moved, tuple(ops), tile_bytes=counts)

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place choices, places and counts, and declare the tiles."""
        problem, int32, builder = at.problem, al.Format.INT32, at.builder
        experts, top_k = problem.cols, problem.top_k or 1
        tiles: Any = al.ceil_div(problem.rows, at.tile.rows)
        numbers = at.row_numbers.reshape(-1, top_k)
        return Layout(
            tile_rows=at.tile.rows,
            choices=builder.tensor("numbers", "input", problem.rows, top_k, int32, numbers),
            places=at.made("result", top_k, int32),
            firsts=builder.tensor("firsts", "output", 1, experts, int32),
            counted=builder.tensor("counted", "intermediate", tiles, experts, al.Format.FP32),
            stored=at.buffer("stored", top_k, int32, slots=2),
            chosen=at.buffer("chosen", top_k),
            columns=at.buffer("columns", experts),
            reached=at.buffer("reached", experts),
            one_hot=at.buffer("one_hot", experts),
            marks=at.buffer("marks", experts),
            before=at.buffer("before", experts, slots=2),
            row=builder.buffer("row", 1, experts, al.Format.FP32),
            counts=builder.buffer("counts", 1, experts, al.Format.FP32, slots=4),
            all_counts=builder.buffer("all_counts", tiles, experts, al.Format.FP32),
            stored_row=builder.buffer("stored_row", 1, experts, int32),
            found=at.buffer("found", top_k),
            result=at.buffer("placed", top_k, int32, slots=2),
            order=first_maximum.order_tiles(builder, experts),
        )

    @classmethod
    def loop(cls, at: Workspace) -> tuple[Any, int, Any]:
        """Return the compiled loop over both phases, its work items and the layout."""
        entry, tiles, layout = super().loop(at)
        return entry, 2 * tiles, layout

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return the places, [rows, top_k]: a stable sort of choices by their experts."""
        order = np.argsort(problem.row_numbers, kind="stable")
        places = np.empty(len(order))
        places[order] = np.arange(len(order))
        return places.reshape(problem.rows, -1)
