"""The steps that attention kernels over shifted keys share, as `shifted` explains.

`b` are the `Steps` buffers, `diagonal` is the last key that the first of the query rows sees.
"""

import numpy as np

from accelsim.jit import jit_inner
from accelsim.kernels.attention.old_online_softmax import mask_keys
from accelsim.numerics.formats import FP32
from accelsim.program.old.language import (
    add,
    convert,
    exp,
    fill,
    load,
    matmul,
    matmul_transposed,
    maximum,
    move,
    multiply,
    multiply_column,
    row_max,
    row_sum,
    subtract_column,
    tile,
)


@jit_inner
def query_tile_of(item, shape):
    """Head and first row of a work item; tiles that see the most keys come first."""
    tiles_q = -(-shape.q_len // shape.tile_q)
    return item % shape.heads, (tiles_q - 1 - item // shape.heads) * shape.tile_q


@jit_inner
def begin_rows(p, item, q_row, rows, shape, fmt, hbm, b):
    """Load a query tile and clear its running result."""
    load(p, tile(b.q, item), hbm.q, q_row, 0, rows, shape.dim)
    fill(p, tile(b.row_max, 0), -np.inf, rows, 1, fmt.statistics)
    fill(p, tile(b.row_sum, 0), 0.0, rows, 1, fmt.vector)
    fill(p, tile(b.output, 0), 0.0, rows, shape.dim, fmt.vector)
    if shape.causal:
        fill(p, tile(b.lowest, 0), shape.lowest, rows, 1, fmt.vector)


@jit_inner
def score_tile(p, j, queries, rows, keys, shape, fmt, b):
    """S' of all `keys` rows of the key tile that lies in slot j of b.k."""
    acc = tile(b.scores_acc, j)
    dim = shape.dim
    matmul_transposed(
        p, acc, queries, tile(b.k, j), rows, keys, dim, fmt.score_operand, FP32, False
    )
    move(p, tile(b.scores, j), acc, rows, keys, FP32, fmt.scores)


@jit_inner
def local_softmax(p, j, rows, row, shape, fmt, b):
    """Weights of key tile j in its own frame: maximum, exponentials and their sum.

    `row` is the first of the `rows` query rows, counted within its head.
    """
    start, vector = j * shape.tile_k, fmt.vector
    cols = min(shape.tile_k, shape.kv_len - start)
    scores, x, tile_max = tile(b.scores, j), tile(b.x, j), tile(b.tile_max, 0)
    is_masked = False
    if shape.causal:
        is_masked = mask_keys(p, scores, row, rows, start, cols, shape, vector)
    row_max(p, tile_max, scores, rows, cols, vector)
    if is_masked:
        maximum(p, tile_max, tile_max, tile(b.lowest, 0), rows, 1, vector)
    subtract_column(p, x, scores, tile_max, rows, cols, vector)
    exp(p, x, x, rows, cols, vector)
    row_sum(p, tile(b.tile_sum, 0), x, rows, cols, vector)
    if fmt.weights != vector:
        convert(p, tile(b.weights, j), x, rows, cols, vector, fmt.weights)
    if fmt.statistics != vector:
        convert(p, tile(b.wide_max, 0), tile_max, rows, 1, fmt.statistics, fmt.statistics)


@jit_inner
def merge_factors(p, rows, fmt, b):
    """Turn the exponents in wide_keep and wide_enter into the factors of the vector path."""
    statistics, vector = fmt.statistics, fmt.vector
    for narrow, wide in ((b.keep, b.wide_keep), (b.enter, b.wide_enter)):
        exp(p, tile(wide, 0), tile(wide, 0), rows, 1, statistics)
        if statistics != vector:
            convert(p, tile(narrow, 0), tile(wide, 0), rows, 1, statistics, vector)


@jit_inner
def merge_tile(p, j, rows, kv_row, shape, fmt, hbm, b):
    """Add key tile j to the running sum and output: keep times the old, enter times the new."""
    start, dim, vector = j * shape.tile_k, shape.dim, fmt.vector
    cols = min(shape.tile_k, shape.kv_len - start)
    keep, enter = tile(b.keep, 0), tile(b.enter, 0)
    total, tile_sum = tile(b.row_sum, 0), tile(b.tile_sum, 0)
    multiply(p, total, total, keep, rows, 1, vector)
    multiply(p, tile_sum, tile_sum, enter, rows, 1, vector)
    add(p, total, total, tile_sum, rows, 1, vector)
    values, acc = tile(b.v, j), tile(b.output_acc, j)
    product, output = tile(b.product, j), tile(b.output, 0)
    load(p, values, hbm.v, kv_row + start, 0, cols, dim)
    matmul(p, acc, tile(b.weights, j), values, rows, dim, cols, fmt.output_operand, FP32, False)
    move(p, product, acc, rows, dim, FP32, vector)
    multiply_column(p, product, product, enter, rows, dim, vector)
    multiply_column(p, output, output, keep, rows, dim, vector)
    add(p, output, output, product, rows, dim, vector)
