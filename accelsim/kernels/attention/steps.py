"""The parts of one decode step, from the query to the output; the frame is in `decode`.

`p` is the program being recorded, `b` the `Buffers` of the frame. Ranges of keys are loaded, listed
ones gathered; scores and weights of all of them lie in the columns of one tile.
"""

from accelsim.jit import jit_inner
from accelsim.numerics.formats import FP32
from accelsim.program.old.language import (
    columns,
    convert,
    divide_column,
    exp,
    gather,
    load,
    matmul,
    matmul_transposed,
    move,
    row_max,
    row_sum,
    scale,
    store,
    subtract_column,
    tile,
)


@jit_inner
def seen_keys(step, shape):
    """Keys that the row of a step attends to."""
    return shape.kv_len - shape.steps + step + 1 if shape.causal else shape.kv_len


@jit_inner
def load_queries(p, step, head, shape, hbm, b):
    """Load one row of each query head of a group."""
    queries = tile(b.queries, step * shape.heads + head)
    load(p, queries, hbm.q, head * shape.group, step * shape.dim, shape.group, shape.dim)
    return queries


@jit_inner
def multiply_keys(p, turn, x, queries, keys, count, shape, fmt, b):
    """x = queries keys^T / sqrt(d), for `count` keys."""
    acc, scores, group = tile(b.scores_acc, turn), tile(b.scores, turn), shape.group
    matmul_transposed(p, acc, queries, keys, group, count, shape.dim, fmt.stored, FP32, False)
    move(p, scores, acc, group, count, FP32, fmt.scores)
    scale(p, x, scores, shape.factor, group, count, fmt.vector)


@jit_inner
def score_range(p, x, first, queries, row, count, shape, fmt, hbm, b):
    """Scores of the `count` keys from `row` of K on, into the columns of x from `first` on."""
    for j in range(-(-count // shape.tile)):
        start = j * shape.tile
        rows, keys = min(shape.tile, count - start), tile(b.keys, j)
        load(p, keys, hbm.k, row + start, 0, rows, shape.dim)
        multiply_keys(p, j, columns(x, first + start), queries, keys, rows, shape, fmt, b)


@jit_inner
def score_rows(p, x, queries, indices, row, count, shape, fmt, hbm, b):
    """Scores of the `count` keys listed in `indices`, counted from `row` of K."""
    for j in range(-(-count // shape.tile)):
        start = j * shape.tile
        rows, keys = min(shape.tile, count - start), tile(b.keys, j)
        gather(p, keys, hbm.k, columns(indices, start), row, rows, 0, shape.dim)
        multiply_keys(p, j, columns(x, start), queries, keys, rows, shape, fmt, b)


@jit_inner
def exponentials(p, x, cols, shape, fmt, b):
    """x = exp(x - row maximum) in place, and its row sums in `total`."""
    largest, total, group = tile(b.largest, 0), tile(b.total, 0), shape.group
    row_max(p, largest, x, group, cols, fmt.vector)
    subtract_column(p, x, x, largest, group, cols, fmt.vector)
    exp(p, x, x, group, cols, fmt.vector)
    row_sum(p, total, x, group, cols, fmt.vector)


@jit_inner
def as_operand(p, x, cols, shape, fmt, b):
    """Return the weights x in the format in which the cube takes them."""
    weights = x
    if fmt.weights != fmt.vector:
        weights = tile(b.weights, 0)
        convert(p, weights, x, shape.group, cols, fmt.vector, fmt.weights)
    return weights


@jit_inner
def _weigh(p, weights, values, rows, accumulate, shape, fmt, b):
    acc, fmt_values = tile(b.output_acc, 0), fmt.output_operand
    matmul(p, acc, weights, values, shape.group, shape.dim, rows, fmt_values, FP32, accumulate)


@jit_inner
def add_value_range(p, weights, first, row, count, accumulate, shape, fmt, hbm, b):
    """Add `count` rows of V from `row` on, weighted with the columns from `first` on."""
    for j in range(-(-count // shape.tile)):
        start = j * shape.tile
        rows, values = min(shape.tile, count - start), tile(b.values, j)
        load(p, values, hbm.v, row + start, 0, rows, shape.dim)
        weighted = columns(weights, first + start)
        _weigh(p, weighted, values, rows, accumulate or j > 0, shape, fmt, b)


@jit_inner
def add_value_rows(p, weights, indices, row, count, shape, fmt, hbm, b):
    """Sum of the `count` rows of V listed in `indices`, counted from `row`, weighted."""
    for j in range(-(-count // shape.tile)):
        start = j * shape.tile
        rows, values = min(shape.tile, count - start), tile(b.values, j)
        gather(p, values, hbm.v, columns(indices, start), row, rows, 0, shape.dim)
        _weigh(p, columns(weights, start), values, rows, j > 0, shape, fmt, b)


@jit_inner
def store_output(p, step, head, divisor, shape, fmt, hbm, b):
    """Divide the sum of weighted values by `divisor` and store one row of each query head."""
    output, stored, group, dim = tile(b.output, 0), tile(b.stored, 0), shape.group, shape.dim
    move(p, output, tile(b.output_acc, 0), group, dim, FP32, fmt.vector)
    divide_column(p, output, output, divisor, group, dim, fmt.vector)
    if fmt.output != fmt.vector:
        convert(p, stored, output, group, dim, FP32, fmt.output)
    store(p, hbm.o, head * group, step * dim, stored, group, dim)


@jit_inner
def attend_to_all(p, step, head, x, cols, shape, fmt, hbm, b):
    """Finish an exact step from its exponentials: all values, their sum, the output."""
    weights = as_operand(p, x, cols, shape, fmt, b)
    row = head * shape.kv_len
    add_value_range(p, weights, 0, row, cols, False, shape, fmt, hbm, b)
    store_output(p, step, head, tile(b.total, 0), shape, fmt, hbm, b)


@jit_inner
def exact_step(p, step, head, queries, shape, fmt, hbm, b):
    """Softmax attention over all keys that a step sees."""
    x, cols = tile(b.x, 0), seen_keys(step, shape)
    score_range(p, x, 0, queries, head * shape.kv_len, cols, shape, fmt, hbm, b)
    exponentials(p, x, cols, shape, fmt, b)
    attend_to_all(p, step, head, x, cols, shape, fmt, hbm, b)
