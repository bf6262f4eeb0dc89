"""What the experts of a token return, added up with the weights of the router.

The rows x of all choices lie in the order of experts; the places of a token's rows are loaded, and
the rows gathered from their real addresses. Row t of the result is the sum over j of weight y[t, j]
times row `places[j, t]` of x, in FP32. HBM traffic, with w bytes an element:
rows (top_k (cols w + w + 4) + cols w).
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.blocks import Block, block_at
from accelsim.kernels.vector.operands import Operand, computed, load_operand, store_result
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.kernels.vector.workspace import Workspace
from accelsim.workload.vector import NUMBER_BYTES


class Layout(NamedTuple):
    """Rows of a tile, choices of a token, operands, places, and the sum."""

    tile_rows: int
    top_k: int
    x: Operand
    weights: Operand
    result: Operand
    places: al.Tensor
    """All tokens' first choices, then the second ones, and so on."""
    numbers: al.Buffer


@al.jit
def combine(p, k):
    """All tiles of tokens, choice by choice, computed in FP32."""
    tokens, cols = k.result.matrix.rows, k.result.matrix.cols
    for item in range(-(-tokens // k.tile_rows)):
        al.begin_item(p, 0)
        at = block_at(k.result.matrix, item * k.tile_rows, 0, k.tile_rows, cols)
        of_weights = Block(at.row, 0, at.rows, k.top_k)
        load_operand(p, item, of_weights, k.weights)
        weights = computed(p, item, of_weights, k.weights)
        total = al.tile(k.result.computed, item, at.rows, cols)
        for choice in range(k.top_k):
            weight = al.columns(weights, choice, 1)
            x = _rows_of_choice(p, item * k.top_k + choice, choice * tokens, at, k)
            if choice == 0:
                al.multiply_column(p, total, x, weight)
            else:
                al.multiply_column(p, x, x, weight)
                al.add(p, total, total, x)
        store_result(p, item, at, total, k.result)


@al.jit_inner
def _rows_of_choice(p, turn, first, at, k):
    """The rows that one choice of each token of a tile returned; first: its place in the list."""
    numbers = al.tile(k.numbers, turn, 1, at.rows)
    al.load(p, numbers, k.places, 0, first + at.row)
    al.gather(p, al.tile(k.x.stored, turn, at.rows, at.cols), k.x.matrix, numbers, 0, 0)
    return computed(p, turn, at, k.x)


class Combine(RowFunction):
    """Weighted sums of the rows of experts."""

    entry = staticmethod(combine)

    @classmethod
    def cost(cls, problem: al.VectorProblem) -> RowCost:
        """Return what one token takes: a product an element of each choice, and their sum."""
        cols, top_k = problem.cols, problem.top_k or 1
        ops = [("multiply", cols)] * top_k + [("add", cols)] * (top_k - 1)
        in_place = problem.dtype == al.Format.FP32
        if not in_place:
            ops += [("convert", cols)] * (top_k + 1) + [("convert", top_k)]
        loaded = row_bytes(problem, cols) + row_bytes(problem, 1) + NUMBER_BYTES
        return RowCost(top_k * loaded, row_bytes(problem, cols), tuple(ops), in_place)

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place rows, weights, places and result, and declare the tiles."""
        problem = at.problem
        rows, cols, top_k = problem.rows, problem.cols, problem.top_k or 1
        total = at.buffer("total", cols, slots=2)
        return Layout(
            tile_rows=at.tile.rows,
            top_k=top_k,
            x=at.loaded("x", at.given("x", (top_k * rows, cols)), cols),
            weights=at.loaded("weights", at.given("y", (rows, top_k)), top_k),
            result=at.stored("result", at.made("result", cols), total, cols),
            places=at.numbers(),
            numbers=at.builder.index_buffer("numbers", at.tile.rows, slots=at.asked.stages),
        )

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return the sums in float64, [rows, cols]."""
        places = problem.row_numbers.reshape(-1, problem.rows)
        rows = tensors.x.astype(np.float64)[places]
        return np.einsum("tj,jtc->tc", np.asarray(tensors.y, np.float64), rows)
