"""Stages that several scorers are made of: pooling, projection, and products of block vectors.

Each is a loop over the work items of one phase. Vector steps are in FP32: there are few of them.
"""

from typing import Any, NamedTuple

from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.masks.base import Setting
from accelsim.numerics.formats import FP32, Format
from accelsim.program.old.block_ops import column_sum
from accelsim.program.old.language import (
    begin_item,
    convert,
    divide_column,
    exp,
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


class PoolBuffers(NamedTuple):
    """Tiles of `pool`."""

    rows: Any
    mean: Any
    stored: Any


class ProjectBuffers(NamedTuple):
    """Tiles of `project`."""

    rows: Any
    weights: Any
    acc: Any
    result: Any


class ProductBuffers(NamedTuple):
    """Tiles of `multiply_blocks`."""

    queries: Any
    keys: Any
    acc: Any
    scores: Any


class SoftmaxBuffers(NamedTuple):
    """Row statistics of `softmax_rows`, [rows, 1]."""

    largest: Any
    total: Any


def pool_buffers(setting: Setting) -> PoolBuffers:
    """Declare the buffers to average the rows of a block."""
    builder, grid, stored = setting.builder, setting.grid, setting.formats.stored
    return PoolBuffers(
        rows=builder.buffer("pool_rows", grid.block, grid.dim, stored, slots=2),
        mean=builder.buffer("pool_mean", 1, grid.dim, Format.FP32),
        stored=builder.buffer("pool_stored", 1, grid.dim, stored, slots=2),
    )


def project_buffers(setting: Setting, name: str, cols: int, result: Format) -> ProjectBuffers:
    """Declare the buffers to multiply rows of head_dim elements by weights [head_dim, cols]."""
    builder, dim, stored = setting.builder, setting.grid.dim, setting.formats.stored
    return ProjectBuffers(
        rows=builder.buffer(f"{name}_rows", setting.rows, dim, stored, slots=2),
        weights=builder.buffer(f"{name}_weights", dim, cols, stored, slots=2),
        acc=builder.buffer(f"{name}_acc", setting.rows, cols, Format.FP32, memory="accumulator"),
        result=builder.buffer(f"{name}_result", setting.rows, cols, result, slots=2),
    )


def product_buffers(setting: Setting, dim: int) -> ProductBuffers:
    """Declare the buffers to multiply block vectors of `dim` elements."""
    builder, rows, stored = setting.builder, setting.rows, setting.formats.stored
    return ProductBuffers(
        queries=builder.buffer("block_queries", rows, dim, stored, slots=2),
        keys=builder.buffer("block_keys", rows, dim, stored, slots=2),
        acc=builder.buffer("block_acc", rows, rows, Format.FP32, memory="accumulator"),
        scores=builder.buffer("block_products", rows, rows, Format.FP32, slots=2),
    )


@jit
def pool(p, phase, src, dst, heads, length, block, dim, stored, b):
    """dst[head, i] = mean of the rows of block i, for every block of `length` rows of each head."""
    blocks = -(-length // block)
    for item in range(heads * blocks):
        begin_item(p, phase)
        head, start = item // blocks, item % blocks * block
        rows = min(block, length - start)
        x, mean, out = tile(b.rows, item), tile(b.mean, 0), tile(b.stored, item)
        load(p, x, src, head * length + start, 0, rows, dim)
        column_sum(p, mean, x, rows, dim, FP32)
        scale(p, mean, mean, 1 / rows, 1, dim, FP32)
        convert(p, out, mean, 1, dim, FP32, stored)
        store(p, dst, item, 0, out, 1, dim)


@jit
def project(p, phase, src, weights, dst, heads, share, kinds, length, dim, cols, step, fmt, out, b):
    """dst = src times the weights [dim, cols] of its head, of which there are `kinds` in turn.

    `share` neighboring heads have the same weights.
    """
    tiles = -(-length // step)
    for item in range(heads * tiles):
        begin_item(p, phase)
        head, start = item // tiles, item % tiles * step
        rows, row = min(step, length - start), head * length + start
        x, w, acc, y = (
            tile(b.rows, item),
            tile(b.weights, item),
            tile(b.acc, 0),
            tile(b.result, item),
        )
        load(p, w, weights, head // share % kinds * dim, 0, dim, cols)
        load(p, x, src, row, 0, rows, dim)
        matmul(p, acc, x, w, rows, cols, dim, fmt, FP32, False)
        move(p, y, acc, rows, cols, FP32, out)
        store(p, dst, row, 0, y, rows, cols)


@jit
def multiply_blocks(p, phase, queries, keys, scores, grid, dim, step, factor, stored, b):
    """Scores of all pairs of block vectors of a head, times `factor`."""
    tiles = -(-grid.q_blocks // step)
    for item in range(grid.heads * tiles):
        begin_item(p, phase)
        head, start = item // tiles, item % tiles * step
        rows, row = min(step, grid.q_blocks - start), head * grid.q_blocks + start
        load(p, tile(b.queries, item), queries, row, 0, rows, dim)
        first_key = head // grid.group * grid.k_blocks
        for j in range(-(-grid.k_blocks // step)):
            cols = min(step, grid.k_blocks - j * step)
            right, acc, out = tile(b.keys, j), tile(b.acc, 0), tile(b.scores, j)
            load(p, right, keys, first_key + j * step, 0, cols, dim)
            matmul_transposed(
                p, acc, tile(b.queries, item), right, rows, cols, dim, stored, FP32, False
            )
            move(p, out, acc, rows, cols, FP32, FP32)
            scale(p, out, out, factor, rows, cols, FP32)
            store(p, scores, row, j * step, out, rows, cols)


@jit_inner
def softmax_rows(p, x, rows, cols, b):
    """Replace rows of logits by their probabilities, in FP32."""
    largest, total = tile(b.largest, 0), tile(b.total, 0)
    row_max(p, largest, x, rows, cols, FP32)
    subtract_column(p, x, x, largest, rows, cols, FP32)
    exp(p, x, x, rows, cols, FP32)
    row_sum(p, total, x, rows, cols, FP32)
    divide_column(p, x, x, total, rows, cols, FP32)
