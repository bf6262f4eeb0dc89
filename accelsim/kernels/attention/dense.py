"""Attention as three kernels, the textbook baseline: scores and probabilities go through HBM.

S = Q K^T is stored, P = softmax(S / sqrt(d)) is stored, then O = P V. Every pair of query and key
is computed, also those that a causal mask hides. Source: standard attention in Dao et al.,
"FlashAttention" (2022), Algorithm 0.

HBM reads of one head with query tiles of B_r rows: S_q d b + ceil(S_q / B_r) 2 S_k d b plus S and P
once; writes: S and P once, and S_q d b.
"""

from typing import Any, ClassVar, NamedTuple

from accelsim.config.spec import Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import (
    declare_operands,
    score_factor,
    softmax_attention,
    step_formats,
)
from accelsim.kernels.attention.dense_tiles import DenseParameters, allocate, dense_tiles
from accelsim.kernels.attention.folding import query_heads
from accelsim.kernels.attention.old_online_softmax import mask_keys
from accelsim.kernels.base import Array, Kernel
from accelsim.numerics.formats import FP32
from accelsim.program.builder import ProgramBuilder
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
from accelsim.program.program import Program
from accelsim.units import ceil_div
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


class _Shape(NamedTuple):
    """Sizes in elements; `group` query heads share one KV head, or are folded as in `folding`."""

    heads: int
    group: int
    q_len: int
    span: int
    kv_len: int
    dim: int
    tile_q: int
    tile_k: int
    softmax_rows: int
    causal: bool
    factor: float


class _Tensors(NamedTuple):
    """Matrices in HBM, all heads one after the other."""

    q: Any
    k: Any
    v: Any
    o: Any
    scores: Any
    weights: Any


@jit
def dense(p, shape, fmt, hbm, b):
    """Three phases; each needs all of the one before."""
    tiles_q = -(-shape.q_len // shape.tile_q)
    for item in range(shape.heads * tiles_q):
        begin_item(p, 0)
        _score_rows(p, item, item // tiles_q, item % tiles_q * shape.tile_q, shape, fmt, hbm, b)
    softmax_tiles = -(-shape.q_len // shape.softmax_rows)
    for item in range(shape.heads * softmax_tiles):
        begin_item(p, 1)
        row = item % softmax_tiles * shape.softmax_rows
        _softmax_rows(p, item, item // softmax_tiles, row, shape, fmt, hbm, b)
    for item in range(shape.heads * tiles_q):
        begin_item(p, 2)
        _output_rows(p, item, item // tiles_q, item % tiles_q * shape.tile_q, shape, fmt, hbm, b)


@jit_inner
def _score_rows(p, item, head, row, shape, fmt, hbm, b):
    """Scores of one tile of query rows against all keys."""
    rows, q_row = min(shape.tile_q, shape.q_len - row), head * shape.q_len + row
    queries, kv_row = tile(b.q, item), head // shape.group * shape.kv_len
    load(p, queries, hbm.q, q_row, 0, rows, shape.dim)
    for j in range(-(-shape.kv_len // shape.tile_k)):
        start = j * shape.tile_k
        cols = min(shape.tile_k, shape.kv_len - start)
        keys, acc, scores = tile(b.kv, j), tile(b.acc, j), tile(b.scores, j)
        load(p, keys, hbm.k, kv_row + start, 0, cols, shape.dim)
        matmul_transposed(p, acc, queries, keys, rows, cols, shape.dim, fmt.stored, FP32, False)
        move(p, scores, acc, rows, cols, FP32, fmt.scores)
        store(p, hbm.scores, q_row, start, scores, rows, cols)


@jit_inner
def _softmax_rows(p, item, head, row, shape, fmt, hbm, b):
    """Softmax of whole rows of scores."""
    rows, q_row = min(shape.softmax_rows, shape.q_len - row), head * shape.q_len + row
    cols, vector = shape.kv_len, fmt.vector
    scores, x, weights = tile(b.score_rows, item), tile(b.x, item), tile(b.weight_rows, item)
    largest, total = tile(b.row_max, 0), tile(b.row_sum, 0)
    load(p, scores, hbm.scores, q_row, 0, rows, cols)
    scale(p, x, scores, shape.factor, rows, cols, vector)
    if shape.causal:
        mask_keys(p, x, row, rows, 0, cols, shape, vector)
    row_max(p, largest, x, rows, cols, vector)
    subtract_column(p, x, x, largest, rows, cols, vector)
    exp(p, x, x, rows, cols, vector)
    row_sum(p, total, x, rows, cols, vector)
    divide_column(p, x, x, total, rows, cols, vector)
    if fmt.weights != vector:
        convert(p, weights, x, rows, cols, vector, fmt.weights)
    store(p, hbm.weights, q_row, 0, weights, rows, cols)


@jit_inner
def _output_rows(p, item, head, row, shape, fmt, hbm, b):
    """Output of one tile of query rows."""
    rows, q_row = min(shape.tile_q, shape.q_len - row), head * shape.q_len + row
    kv_row, acc, output = (
        head // shape.group * shape.kv_len,
        tile(b.acc, item),
        tile(b.output, item),
    )
    for j in range(-(-shape.kv_len // shape.tile_k)):
        start = j * shape.tile_k
        cols = min(shape.tile_k, shape.kv_len - start)
        weights, values = tile(b.weights, j), tile(b.kv, j)
        load(p, weights, hbm.weights, q_row, start, rows, cols)
        load(p, values, hbm.v, kv_row + start, 0, cols, shape.dim)
        matmul(p, acc, weights, values, rows, shape.dim, cols, fmt.output_operand, FP32, j > 0)
    move(p, output, acc, rows, shape.dim, FP32, fmt.output)
    store(p, hbm.o, q_row, 0, output, rows, shape.dim)


class Dense(Kernel):
    """Attention with scores and probabilities in HBM."""

    name: ClassVar[str] = "dense"
    summary: ClassVar[str] = "textbook attention; scores and probabilities go through HBM"
    problem_kind: ClassVar[str] = "attention"
    parameters: ClassVar[type[Spec]] = DenseParameters

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: DenseParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        formats = step_formats(problem.dtype, parameters.precision)
        tiles = dense_tiles(problem, machine, parameters)
        builder = ProgramBuilder(f"dense on {problem.name}", with_numbers=tensors is not None)
        own = query_heads(problem, fold=tiles.fold)
        rows, cols = own.heads * own.rows, problem.kv_len
        hbm = _Tensors(
            *declare_operands(builder, problem, tensors),
            scores=builder.tensor("s", "intermediate", rows, cols, formats.scores),
            weights=builder.tensor("p", "intermediate", rows, cols, formats.weights),
        )
        buffers = allocate(builder, problem, formats, *tiles.sizes)
        shape = _Shape(
            heads=own.heads,
            group=own.group,
            q_len=own.rows,
            span=problem.q_len,
            kv_len=problem.kv_len,
            dim=problem.head_dim,
            tile_q=tiles.tile_q,
            tile_k=tiles.tile_k,
            softmax_rows=tiles.softmax_rows,
            causal=problem.causal,
            factor=score_factor(problem, formats.vector),
        )
        items = 2 * ceil_div(own.rows, tiles.tile_q) + ceil_div(own.rows, tiles.softmax_rows)
        program = builder.record(dense, own.heads * items, shape, formats.codes, hbm, buffers)
        return program.with_parameters(**tiles.parameters), hbm.o.data

    @classmethod
    def estimated_cycles(
        cls, problem: AttentionProblem, machine: MachineSpec, parameters: DenseParameters
    ) -> float:
        """Return the estimated time with the tiles that `record` takes; raises as it does."""
        return dense_tiles(problem, machine, parameters).cycles

    @classmethod
    def oracle(cls, problem: AttentionProblem, tensors: AttentionTensors) -> Array:
        """Return softmax attention in float64."""
        return softmax_attention(problem, tensors)
