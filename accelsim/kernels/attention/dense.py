"""Attention as three kernels, the textbook baseline: scores and probabilities go through HBM.

S = Q K^T is stored, P = softmax(S / sqrt(d)) is stored, then O = P V. Every pair of query and key
is computed, also those that a causal mask hides. Source: standard attention in Dao et al.,
"FlashAttention" (2022), Algorithm 0.

HBM reads of one head with query tiles of B_r rows: S_q d b + ceil(S_q / B_r) 2 S_k d b plus S and P
once; writes: S and P once, and S_q d b.
"""

from typing import Any, ClassVar, NamedTuple

from pydantic import PositiveInt

from accelsim.config.spec import Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import (
    Precision,
    StepFormats,
    declare_operands,
    score_factor,
    softmax_attention,
    step_formats,
    tile_candidates,
)
from accelsim.kernels.attention.folding import mask_keys
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.tiling import first_fit, tile_sizes
from accelsim.numerics.formats import FP32, Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import (
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

_LARGEST_SOFTMAX_ROWS = 128


class DenseParameters(Spec):
    """Choices of the dense kernel."""

    tile_q: PositiveInt | None = None
    """Query rows of a product tile, in elements; absent: the largest that fits, up to 128."""
    tile_k: PositiveInt | None = None
    """Key and value rows of a tile, in elements; absent: the largest that fits, up to 128."""
    softmax_rows: PositiveInt | None = None
    """Whole rows of scores in one softmax tile; absent: the most that fit, up to 128."""
    precision: Precision = "fp16_fp32"
    """fp32: every step in FP32; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16."""


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


class _Buffers(NamedTuple):
    """On-chip tiles."""

    q: Any
    kv: Any
    acc: Any
    scores: Any
    weights: Any
    output: Any
    score_rows: Any
    x: Any
    weight_rows: Any
    row_max: Any
    row_sum: Any


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
    move(p, output, acc, rows, shape.dim, FP32, fmt.stored)
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
        name = f"dense on {problem.name}"
        formats = step_formats(problem.dtype, parameters.precision)
        tile_q, tile_k, softmax_rows = first_fit(
            name,
            _tile_candidates(problem, parameters),
            lambda builder, sizes: _allocate(builder, problem, formats, *sizes),
            machine,
        )
        builder = ProgramBuilder(name, with_numbers=tensors is not None)
        heads = problem.batch * problem.q_heads
        rows, cols = heads * problem.q_len, problem.kv_len
        hbm = _Tensors(
            *declare_operands(builder, problem, tensors),
            scores=builder.tensor("s", "intermediate", rows, cols, formats.scores),
            weights=builder.tensor("p", "intermediate", rows, cols, formats.weights),
        )
        buffers = _allocate(builder, problem, formats, tile_q, tile_k, softmax_rows)
        shape = _Shape(
            heads=heads,
            group=problem.q_heads // problem.kv_heads,
            q_len=problem.q_len,
            kv_len=problem.kv_len,
            dim=problem.head_dim,
            tile_q=tile_q,
            tile_k=tile_k,
            softmax_rows=softmax_rows,
            causal=problem.causal,
            factor=score_factor(problem, formats.vector),
        )
        items = 2 * ceil_div(problem.q_len, tile_q) + ceil_div(problem.q_len, softmax_rows)
        program = builder.record(dense, heads * items, shape, formats.codes, hbm, buffers)
        return program, hbm.o.data

    @classmethod
    def oracle(cls, problem: AttentionProblem, tensors: AttentionTensors) -> Array:
        """Return softmax attention in float64."""
        return softmax_attention(problem, tensors)


def _allocate(
    builder: ProgramBuilder,
    problem: AttentionProblem,
    formats: StepFormats,
    tile_q: int,
    tile_k: int,
    softmax_rows: int,
) -> _Buffers:
    """Declare the buffers of all three phases."""
    dim, cols, vector = problem.head_dim, problem.kv_len, formats.vector
    score_rows = builder.buffer("score_rows", softmax_rows, cols, formats.scores)
    x = score_rows if vector == formats.scores else builder.buffer("x", softmax_rows, cols, vector)
    weight_rows = x
    if formats.weights != vector:
        weight_rows = builder.buffer("weight_rows", softmax_rows, cols, formats.weights)
    return _Buffers(
        q=builder.buffer("q", tile_q, dim, formats.stored, slots=2),
        kv=builder.buffer("kv", tile_k, dim, formats.stored, slots=2),
        acc=builder.buffer(
            "acc", tile_q, max(tile_k, dim), Format.FP32, slots=2, memory="accumulator"
        ),
        scores=builder.buffer("scores", tile_q, tile_k, formats.scores, slots=2),
        weights=builder.buffer("weights", tile_q, tile_k, formats.weights, slots=2),
        output=builder.buffer("output", tile_q, dim, formats.stored),
        score_rows=score_rows,
        x=x,
        weight_rows=weight_rows,
        row_max=builder.buffer("row_max", softmax_rows, 1, vector),
        row_sum=builder.buffer("row_sum", softmax_rows, 1, vector),
    )


def _tile_candidates(
    problem: AttentionProblem, parameters: DenseParameters
) -> list[tuple[int, int, int]]:
    """Return sizes of product tiles, largest first, each with the most softmax rows first."""
    asked = parameters.softmax_rows
    rows = [asked] if asked else tile_sizes(_LARGEST_SOFTMAX_ROWS, 1)
    pairs = tile_candidates(problem, parameters.tile_q, parameters.tile_k)
    return [(*pair, min(count, problem.q_len)) for pair in pairs for count in rows]
