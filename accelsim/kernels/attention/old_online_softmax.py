"""The steps of online softmax: one tile of query rows meets its key tiles one after the other.

A kernel decides which key tiles a tile of queries sees, and calls `begin_rows`, for every key tile
`multiply_keys`, `update_weights` and `add_values`, and at last `finish_rows`. `turn` counts the key
tiles that a query tile has met; `start` is the first key of one.

Sources: Dao et al., "FlashAttention" (2022), Algorithm 1; Dao, "FlashAttention-2" (2023), section
3.1 (one division by the row sum, at the end).
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.jit import jit_inner
from accelsim.kernels.attention.common import StepFormats, score_factor
from accelsim.kernels.attention.folding import query_heads, seen_keys
from accelsim.numerics.formats import FP32, Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import (
    add,
    convert,
    divide_column,
    exp,
    fill,
    load,
    mask_above_diagonal,
    matmul,
    matmul_transposed,
    maximum,
    move,
    multiply,
    multiply_column,
    row_max,
    row_sum,
    rows_from,
    scale,
    store,
    subtract,
    subtract_column,
    tile,
)
from accelsim.workload.problem import AttentionProblem


class Shape(NamedTuple):
    """Sizes in elements; `group` query heads share one KV head.

    Where the query heads of a group are folded, the rows of all of them count as those of one head,
    which has its KV head for itself.
    """

    heads: int
    group: int
    q_len: int
    span: int
    """Query rows that follow each other in time: after them the next folded head begins."""
    kv_len: int
    dim: int
    tile_q: int
    tile_k: int
    causal: bool
    scale_query: bool
    factor: float


class Buffers(NamedTuple):
    """On-chip tiles. `x` holds scores on their way to weights; buffers of one format are shared."""

    q: Any
    k: Any
    v: Any
    scores_acc: Any
    output_acc: Any
    scores: Any
    x: Any
    weights: Any
    product: Any
    output: Any
    stored: Any
    row_max: Any
    row_sum: Any
    tile_sum: Any
    rescale: Any


def shape_of(
    problem: AttentionProblem,
    formats: StepFormats,
    tile_q: int,
    tile_k: int,
    *,
    fold: bool = False,
    scale_query: bool = False,
) -> Shape:
    """Return the sizes of a problem cut into tiles; fold: the query heads of a group as one."""
    heads = query_heads(problem, fold=fold)
    return Shape(
        heads=heads.heads,
        group=heads.group,
        q_len=heads.rows,
        span=problem.q_len,
        kv_len=problem.kv_len,
        dim=problem.head_dim,
        tile_q=tile_q,
        tile_k=tile_k,
        causal=problem.causal,
        scale_query=scale_query,
        factor=score_factor(problem, formats.stored if scale_query else formats.vector),
    )


def allocate(
    builder: ProgramBuilder, dim: int, formats: StepFormats, tile_q: int, tile_k: int
) -> Buffers:
    """Declare the buffers for tiles of tile_q query and tile_k key rows."""
    stored, vector = formats.stored, formats.vector
    scores = builder.buffer("scores", tile_q, tile_k, formats.scores, slots=2)
    x = scores if vector == formats.scores else builder.buffer("x", tile_q, tile_k, vector)
    is_shared = formats.weights == vector
    output = builder.buffer("output", tile_q, dim, vector)
    return Buffers(
        q=builder.buffer("q", tile_q, dim, stored, slots=2),
        k=builder.buffer("k", tile_k, dim, stored, slots=2),
        v=builder.buffer("v", tile_k, dim, stored, slots=2),
        scores_acc=builder.buffer("scores_acc", tile_q, tile_k, Format.FP32, memory="accumulator"),
        output_acc=builder.buffer("output_acc", tile_q, dim, Format.FP32, memory="accumulator"),
        scores=scores,
        x=x,
        weights=x
        if is_shared
        else builder.buffer("weights", tile_q, tile_k, formats.weights, slots=2),
        product=builder.buffer("product", tile_q, dim, vector),
        output=output,
        stored=output
        if formats.output == vector
        else builder.buffer("stored", tile_q, dim, formats.output),
        row_max=builder.buffer("row_max", tile_q, 1, vector, slots=2),
        row_sum=builder.buffer("row_sum", tile_q, 1, vector),
        tile_sum=builder.buffer("tile_sum", tile_q, 1, vector),
        rescale=builder.buffer("rescale", tile_q, 1, vector),
    )


@jit_inner
def seen_tiles(row, rows, shape):
    """Key tiles that the `rows` query rows from `row` on see."""
    return -(-seen_keys(row, rows, shape) // shape.tile_k)


@jit_inner
def begin_rows(p, item, q_row, rows, shape, fmt, hbm, b):
    """Load a tile of query rows and reset what runs along the keys."""
    queries = tile(b.q, item)
    load(p, queries, hbm.q, q_row, 0, rows, shape.dim)
    if shape.scale_query:
        scale(p, queries, queries, shape.factor, rows, shape.dim, fmt.stored)
    reset_rows(p, rows, shape, fmt, b)


@jit_inner
def reset_rows(p, rows, shape, fmt, b):
    """Set maxima, sums and output to what they are before the first key."""
    fill(p, tile(b.row_max, 0), -np.inf, rows, 1, fmt.vector)
    fill(p, tile(b.row_sum, 0), 0.0, rows, 1, fmt.vector)
    fill(p, tile(b.output, 0), 0.0, rows, shape.dim, fmt.vector)


@jit_inner
def multiply_keys(p, item, turn, start, rows, kv_row, shape, fmt, hbm, b):
    """Load a key tile and multiply the queries with it."""
    load_keys(p, turn, start, kv_row, shape, hbm, b)
    multiply_loaded_keys(p, item, turn, start, rows, shape, fmt, b)


@jit_inner
def load_keys(p, turn, start, kv_row, shape, hbm, b):
    """Load a key tile."""
    cols = min(shape.tile_k, shape.kv_len - start)
    load(p, tile(b.k, turn), hbm.k, kv_row + start, 0, cols, shape.dim)


@jit_inner
def multiply_loaded_keys(p, item, turn, start, rows, shape, fmt, b):
    """Multiply the queries with a key tile that has been loaded."""
    cols = min(shape.tile_k, shape.kv_len - start)
    queries, keys, acc = tile(b.q, item), tile(b.k, turn), tile(b.scores_acc, turn)
    matmul_transposed(p, acc, queries, keys, rows, cols, shape.dim, fmt.stored, FP32, False)
    move(p, tile(b.scores, turn), acc, rows, cols, FP32, fmt.scores)


@jit_inner
def update_weights(p, turn, start, rows, row, shape, fmt, b):
    """Turn the scores of a key tile into weights and bring the row statistics up to date.

    `row` is the first of the `rows` query rows, counted within its head.
    """
    cols, vector = min(shape.tile_k, shape.kv_len - start), fmt.vector
    scores, x = tile(b.scores, turn), tile(b.x, turn)
    if not shape.scale_query:
        scale(p, x, scores, shape.factor, rows, cols, vector)
    elif fmt.scores != vector:
        convert(p, x, scores, rows, cols, vector, vector)
    exponentials(p, turn, start, rows, row, shape, fmt, b)
    if fmt.weights != vector:
        convert(p, tile(b.weights, turn), x, rows, cols, vector, fmt.weights)


@jit_inner
def exponentials(p, turn, start, rows, row, shape, fmt, b):
    """Turn the scaled scores of a key tile, in `x`, into weights in place; update the statistics.

    `rescale` becomes the factor that is due to what the rows have summed up before.
    """
    cols, vector = min(shape.tile_k, shape.kv_len - start), fmt.vector
    x, row_total = tile(b.x, turn), tile(b.row_sum, 0)
    rescale, tile_sum = tile(b.rescale, turn), tile(b.tile_sum, 0)
    old_max, new_max = tile(b.row_max, turn), tile(b.row_max, turn + 1)
    if shape.causal:
        mask_keys(p, x, row, rows, start, cols, shape, vector)
    row_max(p, new_max, x, rows, cols, vector)
    maximum(p, new_max, new_max, old_max, rows, 1, vector)
    subtract(p, rescale, old_max, new_max, rows, 1, vector)
    exp(p, rescale, rescale, rows, 1, vector)
    subtract_column(p, x, x, new_max, rows, cols, vector)
    exp(p, x, x, rows, cols, vector)
    row_sum(p, tile_sum, x, rows, cols, vector)
    multiply(p, row_total, row_total, rescale, rows, 1, vector)
    add(p, row_total, row_total, tile_sum, rows, 1, vector)


@jit_inner
def add_values(p, turn, start, rows, kv_row, shape, fmt, hbm, b):
    """Load a value tile, rescale the running output and add the weighted values."""
    load_values(p, turn, start, kv_row, shape, hbm, b)
    weigh_values(p, turn, start, rows, shape, fmt, b)
    add_to_output(p, turn, tile(b.product, turn), rows, shape, fmt, b)


@jit_inner
def load_values(p, turn, start, kv_row, shape, hbm, b):
    """Load a value tile."""
    cols = min(shape.tile_k, shape.kv_len - start)
    load(p, tile(b.v, turn), hbm.v, kv_row + start, 0, cols, shape.dim)


@jit_inner
def weigh_values(p, turn, start, rows, shape, fmt, b):
    """Multiply the weights of a key tile with its values, which have been loaded."""
    cols, dim = min(shape.tile_k, shape.kv_len - start), shape.dim
    values, acc, weighted = tile(b.v, turn), tile(b.output_acc, turn), tile(b.product, turn)
    matmul(p, acc, tile(b.weights, turn), values, rows, dim, cols, fmt.output_operand, FP32, False)
    move(p, weighted, acc, rows, dim, FP32, fmt.vector)


@jit_inner
def add_to_output(p, turn, weighted, rows, shape, fmt, b):
    """Rescale the running output and add the weighted values of a key tile."""
    output, dim, vector = tile(b.output, 0), shape.dim, fmt.vector
    multiply_column(p, output, output, tile(b.rescale, turn), rows, dim, vector)
    add(p, output, output, weighted, rows, dim, vector)


@jit_inner
def finish_rows(p, q_row, rows, shape, fmt, hbm, b):
    """Divide the output by the row sums and store it."""
    output, stored, dim = tile(b.output, 0), tile(b.stored, 0), shape.dim
    divide_column(p, output, output, tile(b.row_sum, 0), rows, dim, fmt.vector)
    if fmt.output != fmt.vector:
        convert(p, stored, output, rows, dim, FP32, fmt.output)
    store(p, hbm.o, q_row, 0, stored, rows, dim)


@jit_inner
def mask_keys(p, x, row, rows, start, cols, shape, fmt):
    """Hide the keys from `start` on that a causal mask hides; return whether there are any.

    x: scores of the `rows` query rows from `row` on; each head among them has its own diagonal.
    """
    is_masked, done = False, 0
    while done < rows:
        position = (row + done) % shape.span
        own = min(rows - done, shape.span - position)
        diagonal = position + shape.kv_len - shape.span
        if start + cols > diagonal + 1:
            mask_above_diagonal(p, rows_from(x, done), diagonal, start, own, cols, fmt)
            is_masked = True
        done += own
    return is_masked
