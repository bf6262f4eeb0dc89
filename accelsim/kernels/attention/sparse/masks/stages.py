"""Stages that several scorers are made of: pooling, projection, and products of block vectors.

Each is a loop over the work items of one phase, and `k` its layout. Vector steps are in FP32: there
are few of them.
"""

from typing import NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.sparse.masks.base import Heads, Setting, Stage


class Rows(NamedTuple):
    """A tile of rows of one head."""

    head: int
    first: int
    """First row, counted within its head."""
    rows: int
    row: int
    """First row in the matrix."""


class Pool(NamedTuple):
    """Rows and their means by blocks, in HBM; tiles of both on chip."""

    x: Heads
    means: Heads
    rows: al.Buffer
    mean: al.Buffer
    stored: al.Buffer


class Projection(NamedTuple):
    """Rows, weights and results in HBM; tiles of all on chip."""

    x: Heads
    matrices: al.Tensor
    """Weights [dim, cols], one below the other; heads take them in turn."""
    share: int
    """Neighboring heads that have the same weights."""
    result: Heads
    rows: al.Buffer
    weights: al.Buffer
    acc: al.Buffer
    stored: al.Buffer


class Product(NamedTuple):
    """Block vectors and their scores in HBM; tiles of all on chip."""

    queries: Heads
    keys: Heads
    scores: Heads
    factor: float
    left: al.Buffer
    right: al.Buffer
    acc: al.Buffer
    out: al.Buffer


def pool_stages(setting: Setting) -> tuple[Stage, Stage]:
    """Declare the stages of phase 0 that average the rows of every block of Q and of K."""
    builder, grid, stored = setting.builder, setting.grid, setting.formats.stored
    means = (
        setting.between_stages("pooled_q", grid.heads, grid.q_blocks, grid.dim, stored),
        setting.between_stages("pooled_k", setting.kv_heads, grid.k_blocks, grid.dim, stored),
    )
    buffers = (
        builder.buffer("pool_rows", grid.block, grid.dim, stored, slots=2),
        builder.buffer("pool_mean", 1, grid.dim, al.Format.FP32),
        builder.buffer("pool_stored", 1, grid.dim, stored, slots=2),
    )

    def stage(x: Heads, y: Heads) -> Stage:
        return Stage(0, y.tiles(1), pool, Pool(x, y, *buffers))

    q, k = setting.operands
    return stage(q, means[0]), stage(k, means[1])


def project_stages(
    setting: Setting,
    phase: int,
    names: tuple[str, str],
    sides: tuple[Heads, Heads],
    weights: tuple[al.Tensor, al.Tensor],
    fmt: al.Format,
) -> tuple[Stage, Stage]:
    """Declare the stages that multiply rows of Q's heads and of K's by weights [dim, cols].

    names: what those of buffers and of results begin with; fmt: format of the results.
    """
    builder, stored, rows = setting.builder, setting.formats.stored, setting.rows
    dim, cols = setting.grid.dim, weights[0].cols
    buffers = (
        builder.buffer(f"{names[0]}_rows", rows, dim, stored, slots=2),
        builder.buffer(f"{names[0]}_weights", dim, cols, stored, slots=2),
        builder.buffer(f"{names[0]}_acc", rows, cols, al.Format.FP32, memory="accumulator"),
        builder.buffer(f"{names[0]}_result", rows, cols, fmt, slots=2),
    )

    def stage(side: str, x: Heads, matrices: al.Tensor) -> Stage:
        share = x.heads // setting.grid.batch * dim // matrices.rows
        y = setting.between_stages(f"{names[1]}_{side}", x.heads, x.length, cols, fmt)
        layout = Projection(x, matrices, share, y, *buffers)
        return Stage(phase, x.tiles(rows), project, layout)

    return stage("q", sides[0], weights[0]), stage("k", sides[1], weights[1])


def product_stage(setting: Setting, phase: int, queries: Heads, keys: Heads) -> Stage:
    """Declare the stage that multiplies the block vectors of queries and keys."""
    builder, rows, stored = setting.builder, setting.rows, setting.formats.stored
    dim = queries.matrix.cols
    layout = Product(
        queries=queries,
        keys=keys,
        scores=setting.block_scores(queries.heads),
        factor=dim**-0.5,
        left=builder.buffer("block_queries", rows, dim, stored, slots=2),
        right=builder.buffer("block_keys", rows, dim, stored, slots=2),
        acc=builder.buffer("block_acc", rows, rows, al.Format.FP32, memory="accumulator"),
        out=builder.buffer("block_products", rows, rows, al.Format.FP32, slots=2),
    )
    return Stage(phase, queries.tiles(rows), multiply_blocks, layout)


@al.jit_inner
def rows_at(item, x, rows):
    """Tile number `item` of so many rows of a head, or fewer at its end."""
    tiles = -(-x.length // rows)
    head, first = item // tiles, item % tiles * rows
    return Rows(head, first, min(rows, x.length - first), head * x.length + first)


@al.jit
def pool(p, phase, items, k):
    """Average the rows of every block of each head."""
    block, dim = k.rows.rows, k.rows.cols
    for item in range(items):
        al.begin_item(p, phase)
        at = rows_at(item, k.x, block)
        x = al.tile(k.rows, item, at.rows, dim)
        mean, stored = al.tile(k.mean, 0, 1, dim), al.tile(k.stored, item, 1, dim)
        al.load(p, x, k.x.matrix, at.row, 0)
        al.column_sum(p, mean, x)
        al.scale(p, mean, mean, 1 / at.rows)
        al.convert(p, stored, mean)
        al.store(p, k.means.matrix, item, 0, stored)


@al.jit
def project(p, phase, items, k):
    """Multiply the rows of every head by its weights."""
    dim, cols = k.weights.rows, k.weights.cols
    for item in range(items):
        al.begin_item(p, phase)
        at = rows_at(item, k.x, k.rows.rows)
        x, weights = al.tile(k.rows, item, at.rows, dim), al.tile(k.weights, item, dim, cols)
        acc, stored = al.tile(k.acc, 0, at.rows, cols), al.tile(k.stored, item, at.rows, cols)
        al.load(p, weights, k.matrices, at.head // k.share * dim % k.matrices.rows, 0)
        al.load(p, x, k.x.matrix, at.row, 0)
        al.matmul(p, acc, x, weights, False)
        al.move(p, stored, acc)
        al.store(p, k.result.matrix, at.row, 0, stored)


@al.jit
def multiply_blocks(p, phase, items, k):
    """Scores of all pairs of block vectors of a head, times `factor`."""
    step, dim, k_blocks = k.left.rows, k.left.cols, k.keys.length
    for item in range(items):
        al.begin_item(p, phase)
        at = rows_at(item, k.queries, step)
        left = al.tile(k.left, item, at.rows, dim)
        al.load(p, left, k.queries.matrix, at.row, 0)
        first_key = at.head * k.keys.heads // k.queries.heads * k_blocks
        for j in range(-(-k_blocks // step)):
            cols = min(step, k_blocks - j * step)
            right, acc = al.tile(k.right, j, cols, dim), al.tile(k.acc, 0, at.rows, cols)
            al.load(p, right, k.keys.matrix, first_key + j * step, 0)
            al.matmul_transposed(p, acc, left, right, False)
            out = al.tile(k.out, j, at.rows, cols)
            store_products(p, acc, out, k.factor, k.scores.matrix, at.row, j * step)


@al.jit_inner
def store_products(p, acc, out, factor, scores, row, col):
    """Store a tile of products, times `factor`, at (row, col) of the scores."""
    al.move(p, out, acc)
    al.scale(p, out, out, factor)
    al.store(p, scores, row, col, out)


@al.jit_inner
def softmax_rows(p, x, k):
    """Replace rows of logits by their probabilities, in FP32."""
    row_max, row_sum = al.tile(k.row_max, 0, x.rows, 1), al.tile(k.row_sum, 0, x.rows, 1)
    al.row_max(p, row_max, x)
    al.subtract_column(p, x, x, row_max)
    al.exp(p, x, x)
    al.row_sum(p, row_sum, x)
    al.divide_column(p, x, x, row_sum)
