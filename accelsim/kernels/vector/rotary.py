"""Rotary embedding: pairs of elements of every head of Q and K, turned by the token's position.

`norm_rotary` divides each head by its root mean square before, in the same pass, as the fused
kernels of serving engines do for Qwen3 (TensorRT-LLM, fusedQKNormRopeKernel.cu).

Elements i and i + head_dim / 2 of a head are a pair, the half-split pairing of Llama and GPT-NeoX:
(a, b) becomes (a cos - b sin, b cos + a sin). Row t of the table holds the cosines of position t,
right of them the sines; its rows are gathered by the positions of the tokens. Source: Su et al.,
"RoFormer" (2021), arXiv 2104.09864.

HBM traffic, with w bytes an element: rows (2 cols w + head_dim w + 4): Q and K in and out, a row of
the table and a position for each token.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.blocks import Block, block_at
from accelsim.kernels.vector.functions import divide_by_root_mean_square
from accelsim.kernels.vector.operands import Operand, computed, load_operand, store_result
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.kernels.vector.workspace import Workspace
from accelsim.workload.vector import NUMBER_BYTES


class Layout(NamedTuple):
    """Rows of a tile, the norm, operands, positions, and two tiles of half a head."""

    tile_rows: int
    head_dim: int
    has_norm: bool
    epsilon: float
    x: Operand
    table: Operand
    result: Operand
    positions: al.Tensor
    numbers: al.Buffer
    work: al.Buffer
    squares: al.Buffer
    column: al.Buffer


@al.jit
def rotary(p, k):
    """All tiles of tokens, head by head, computed in FP32."""
    for item in range(-(-k.x.matrix.rows // k.tile_rows)):
        al.begin_item(p, 0)
        at = block_at(k.x.matrix, item * k.tile_rows, 0, k.tile_rows, k.x.matrix.cols)
        load_operand(p, item, at, k.x)
        table = _rows_of_positions(p, item, at, k)
        x = computed(p, item, at, k.x)
        for number in range(at.cols // k.head_dim):
            head = al.columns(x, number * k.head_dim, k.head_dim)
            if k.has_norm:
                squares = al.tile(k.squares, 0, at.rows, k.head_dim)
                column = al.tile(k.column, 0, at.rows, 1)
                divide_by_root_mean_square(p, head, squares, column, k.epsilon)
            _rotate(p, head, table, k)
        store_result(p, item, at, x, k.result)


@al.jit_inner
def _rows_of_positions(p, item, at, k):
    """The rows of the table of a tile of tokens."""
    numbers = al.tile(k.numbers, item, 1, at.rows)
    al.load(p, numbers, k.positions, 0, at.row)
    stored = al.tile(k.table.stored, item, at.rows, k.head_dim)
    al.gather(p, stored, k.table.matrix, numbers, 0, 0)
    return computed(p, item, Block(0, 0, at.rows, k.head_dim), k.table)


@al.jit_inner
def _rotate(p, x, table, k):
    """Turn one head of a tile of tokens, in place."""
    half = k.head_dim // 2
    a, b = al.columns(x, 0, half), al.columns(x, half, half)
    cos, sin = al.columns(table, 0, half), al.columns(table, half, half)
    a_sin, b_sin = al.tile(k.work, 0, x.rows, half), al.tile(k.work, 1, x.rows, half)
    al.multiply(p, a_sin, a, sin)
    al.multiply(p, b_sin, b, sin)
    al.multiply(p, a, a, cos)
    al.multiply(p, b, b, cos)
    al.subtract(p, a, a, b_sin)
    al.add(p, b, b, a_sin)


class Rotary(RowFunction):
    """Rotary embedding of Q and K, behind a norm of their heads where there is one."""

    entry = staticmethod(rotary)

    @classmethod
    def cost(cls, problem: al.VectorProblem) -> RowCost:
        """Return what one token takes: six ops on half of every head, and the norm."""
        dim = problem.head_dim or 2
        of_head = [("multiply", dim // 2)] * 4 + [("add", dim // 2)] * 2
        if problem.function == "norm_rotary":
            of_head += [(op, dim) for op in ("multiply", "reduce", "divide")]
            of_head += [("multiply", 1), ("add", 1), ("square_root", 1)]
        ops = of_head * (problem.cols // dim)
        in_place = problem.dtype == al.Format.FP32
        if not in_place:
            ops += [("convert", problem.cols)] * 2 + [("convert", dim)]
        moved = row_bytes(problem, problem.cols)
        return RowCost(moved + row_bytes(problem, dim) + NUMBER_BYTES, moved, tuple(ops), in_place)

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place Q and K, the table and the positions, and declare their tiles."""
        dim, slots = at.problem.head_dim or 2, at.asked.stages
        x, has_norm = at.loaded("x"), at.problem.function == "norm_rotary"
        work = at.buffer("work", dim // 2, slots=2)
        return Layout(
            tile_rows=at.tile.rows,
            head_dim=dim,
            has_norm=has_norm,
            epsilon=at.problem.epsilon,
            x=x,
            table=at.loaded("table", at.table("y", dim), dim),
            result=at.stored("result", at.made("result"), x.computed),
            positions=at.numbers(),
            numbers=at.builder.index_buffer("numbers", at.tile.rows, slots=slots),
            work=work,
            squares=at.buffer("squares", dim) if has_norm else work,
            column=at.buffer("column", 1) if has_norm else work,
        )

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return the product of complex numbers in float64, [rows, cols]."""
        half = (problem.head_dim or 2) // 2
        x = tensors.x.astype(np.float64).reshape(problem.rows, -1, 2, half)
        if problem.function == "norm_rotary":
            mean = (x**2).mean(axis=(2, 3), keepdims=True)
            x = x / np.sqrt(mean + problem.epsilon)
        table = np.asarray(tensors.y, np.float64)[problem.row_numbers]
        turn = table[:, None, :half] + 1j * table[:, None, half:]
        turned = (x[:, :, 0] + 1j * x[:, :, 1]) * turn
        return np.stack([turned.real, turned.imag], axis=2).reshape(problem.rows, problem.cols)
