"""The router of experts: the top_k experts of each token, and their weights.

Weights are the softmax over the top_k largest scores x [tokens, experts], as in Mixtral (arXiv
2401.04088, section 2.1). A softmax over all experts of which the top_k are divided by their sum is
the same; routers of DeepSeek with groups and biases are not. Experts are taken one after the other,
the largest first, of equal ones the first; scores are finite. HBM traffic, with w bytes an element:
rows (cols w + top_k (w + 4)): scores in, weights and numbers of experts out.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.blocks import Block, block_at
from accelsim.kernels.vector import first_maximum
from accelsim.kernels.vector.functions import softmax
from accelsim.kernels.vector.operands import Operand, computed, load_operand, store_result
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.kernels.vector.workspace import Workspace
from accelsim.workload.vector import NUMBER_BYTES

_TAKEN = 3e38
"""Taken off what has been chosen, so that it is below all others; FP32 reaches 3.4e38."""


class Layout(NamedTuple):
    """Rows of a tile, scores, weights and experts, and what the search needs."""

    tile_rows: int
    x: Operand
    weights: Operand
    experts: al.Tensor
    chosen: al.Buffer
    """Numbers of experts, INT32; FP32 while they are found:"""
    found: al.Buffer
    column: al.Buffer
    marks: al.Buffer
    order: first_maximum.Order


@al.jit
def router(p, k):
    """All tiles of tokens, computed in FP32."""
    for item in range(-(-k.x.matrix.rows // k.tile_rows)):
        al.begin_item(p, 0)
        at = block_at(k.x.matrix, item * k.tile_rows, 0, k.tile_rows, k.x.matrix.cols)
        load_operand(p, item, at, k.x)
        x, top_k = computed(p, item, at, k.x), k.experts.cols
        weights = al.tile(k.weights.computed, item, at.rows, top_k)
        found = al.tile(k.found, 0, at.rows, top_k)
        falling = first_maximum.falling_order(p, k.order, at.cols)
        for i in range(top_k):
            _take_largest(p, al.columns(weights, i, 1), al.columns(found, i, 1), x, falling, k)
        softmax(p, weights, al.tile(k.column, 0, at.rows, 1))
        store_result(p, item, Block(at.row, 0, at.rows, top_k), weights, k.weights)
        chosen = al.tile(k.chosen, item, at.rows, top_k)
        al.convert(p, chosen, found)
        al.store(p, k.experts, at.row, 0, chosen)


@al.jit_inner
def _take_largest(p, weight, expert, x, falling, k):
    """Find the largest of each row of x and its column, and take it out of x."""
    marks, place = al.tile(k.marks, 0, x.rows, x.cols), al.tile(k.column, 1, x.rows, 1)
    al.row_max(p, weight, x)
    first_maximum.find_first(p, place, marks, x, weight, falling)
    first_maximum.column_of(p, expert, place, x.cols)
    al.at_least(p, marks, marks, place)
    al.scale(p, marks, marks, _TAKEN)
    al.subtract(p, x, x, marks)


class Router(RowFunction):
    """Experts of tokens."""

    entry = staticmethod(router)

    @classmethod
    def cost(cls, problem: al.VectorProblem) -> RowCost:
        """Return what one token takes: seven ops on all scores for every expert."""
        cols, top_k = problem.cols, problem.top_k or 1
        rounds = ["reduce", "select", "multiply", "reduce", "select", "multiply", "add"]
        of_weights = ["reduce", "add", "exp", "reduce", "divide", "convert"]
        ops = [(op, cols) for op in rounds * top_k] + [("add", 1)] * 2 * top_k
        ops += [(op, top_k) for op in of_weights]
        if problem.dtype != al.Format.FP32:
            ops += [("convert", cols), ("convert", top_k)]
        stored = row_bytes(problem, top_k) + top_k * NUMBER_BYTES
        return RowCost(row_bytes(problem, cols), stored, tuple(ops))

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place scores, weights and experts, and declare the tiles."""
        cols, top_k = at.problem.cols, at.problem.top_k or 1
        computed_weights = at.buffer("weights_vector", top_k, slots=2)
        return Layout(
            tile_rows=at.tile.rows,
            x=at.loaded("x"),
            weights=at.stored("weights", at.made("result", top_k), computed_weights, top_k),
            experts=at.made("experts", top_k, al.Format.INT32),
            chosen=at.buffer("chosen", top_k, al.Format.INT32, slots=2),
            found=at.buffer("found", top_k),
            column=at.buffer("column", 1, slots=2),
            marks=at.buffer("marks", cols),
            order=first_maximum.order_tiles(at.builder, cols),
        )

    @classmethod
    def output(cls, problem: al.VectorProblem, data: dict[str, al.Array]) -> al.Array:
        """Return weights and numbers of experts, [2, rows, top_k]."""
        return np.stack([data["result"], data["experts"].astype(np.float32)])

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return weights and numbers of experts in float64, [2, rows, top_k]."""
        x = tensors.x.astype(np.float64)
        experts = np.argsort(-x, axis=1, kind="stable")[:, : problem.top_k]
        chosen = np.exp(np.take_along_axis(x, experts, axis=1) - x.max(axis=1, keepdims=True))
        return np.stack([chosen / chosen.sum(axis=1, keepdims=True), experts])
