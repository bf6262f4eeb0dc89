"""Attention with online softmax: scores and probabilities never leave the chip.

Sources: Dao et al., "FlashAttention" (2022), Algorithm 1; Dao, "FlashAttention-2" (2023), section
3.1 (one division by the row sum, at the end); Shah et al., "FlashAttention-3" (2024), section 3.2
(the scores of the next key tile are computed while the vector unit works on the current one).

HBM reads of one head with query tiles of B_r rows: S_q d b + ceil(S_q / B_r) 2 S_k d b, under a
causal mask only the key tiles at or below the diagonal; writes: S_q d b.
"""

from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
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
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.tiling import first_fit
from accelsim.numerics.formats import FP32, Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import (
    add,
    begin_item,
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
    scale,
    store,
    subtract,
    subtract_column,
    tile,
)
from accelsim.program.program import Program
from accelsim.units import ceil_div
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


class FlashParameters(Spec):
    """Choices of the flash kernel."""

    tile_q: PositiveInt | None = None
    """Query rows of a tile, in elements; absent: the largest that fits, up to 128."""
    tile_k: PositiveInt | None = None
    """Key and value rows of a tile, in elements; absent: the largest that fits, up to 128."""
    precision: Precision = "fp16_fp32"
    """fp32: every step in FP32; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16."""
    scale_at: Literal["scores", "query"] = "scores"
    """Where 1/sqrt(d) is multiplied: to the scores, or to the query before the first product."""


class _Shape(NamedTuple):
    """Sizes in elements; `group` query heads share one KV head."""

    heads: int
    group: int
    q_len: int
    kv_len: int
    dim: int
    tile_q: int
    tile_k: int
    causal: bool
    scale_query: bool
    factor: float


class _Buffers(NamedTuple):
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


@jit
def flash(p, shape, fmt, hbm, b):
    """All query tiles of all heads; those that see the most keys under a causal mask come first."""
    tiles_q = -(-shape.q_len // shape.tile_q)
    for item in range(tiles_q * shape.heads):
        row = (tiles_q - 1 - item // shape.heads) * shape.tile_q
        begin_item(p, 0)
        _query_tile(p, item, item % shape.heads, row, shape, fmt, hbm, b)


@jit_inner
def _query_tile(p, item, head, row, shape, fmt, hbm, b):
    """One tile of query rows against all the keys it sees."""
    rows, dim = min(shape.tile_q, shape.q_len - row), shape.dim
    q_row, kv_row = head * shape.q_len + row, head // shape.group * shape.kv_len
    diagonal = row + shape.kv_len - shape.q_len
    seen = diagonal + rows if shape.causal else shape.kv_len
    tiles_k = -(-seen // shape.tile_k)
    queries, output, row_total = tile(b.q, item), tile(b.output, 0), tile(b.row_sum, 0)

    load(p, queries, hbm.q, q_row, 0, rows, dim)
    if shape.scale_query:
        scale(p, queries, queries, shape.factor, rows, dim, fmt.stored)
    fill(p, tile(b.row_max, 0), -np.inf, rows, 1, fmt.vector)
    fill(p, row_total, 0.0, rows, 1, fmt.vector)
    fill(p, output, 0.0, rows, dim, fmt.vector)
    _scores(p, 0, rows, kv_row, queries, shape, fmt, hbm, b)
    for j in range(tiles_k):
        if j + 1 < tiles_k:
            _scores(p, j + 1, rows, kv_row, queries, shape, fmt, hbm, b)
        _softmax(p, j, rows, diagonal, row_total, shape, fmt, b)
        _add_values(p, j, rows, kv_row, output, shape, fmt, hbm, b)
    divide_column(p, output, output, row_total, rows, dim, fmt.vector)
    stored = tile(b.stored, 0)
    if fmt.stored != fmt.vector:
        convert(p, stored, output, rows, dim, FP32, fmt.stored)
    store(p, hbm.o, q_row, 0, stored, rows, dim)


@jit_inner
def _scores(p, j, rows, kv_row, queries, shape, fmt, hbm, b):
    """Load key tile j and multiply the queries with it."""
    start = j * shape.tile_k
    cols = min(shape.tile_k, shape.kv_len - start)
    keys, acc = tile(b.k, j), tile(b.scores_acc, j)
    load(p, keys, hbm.k, kv_row + start, 0, cols, shape.dim)
    matmul_transposed(p, acc, queries, keys, rows, cols, shape.dim, fmt.stored, FP32, False)
    move(p, tile(b.scores, j), acc, rows, cols, FP32, fmt.scores)


@jit_inner
def _softmax(p, j, rows, diagonal, row_total, shape, fmt, b):
    """Turn the scores of key tile j into weights and bring the row statistics up to date."""
    start, vector = j * shape.tile_k, fmt.vector
    cols = min(shape.tile_k, shape.kv_len - start)
    scores, x, rescale, tile_sum = (
        tile(b.scores, j),
        tile(b.x, j),
        tile(b.rescale, 0),
        tile(b.tile_sum, 0),
    )
    old_max, new_max = tile(b.row_max, j), tile(b.row_max, j + 1)
    if not shape.scale_query:
        scale(p, x, scores, shape.factor, rows, cols, vector)
    elif fmt.scores != vector:
        convert(p, x, scores, rows, cols, vector, vector)
    if shape.causal and start + cols > diagonal + 1:
        mask_above_diagonal(p, x, diagonal, start, rows, cols, vector)
    row_max(p, new_max, x, rows, cols, vector)
    maximum(p, new_max, new_max, old_max, rows, 1, vector)
    subtract(p, rescale, old_max, new_max, rows, 1, vector)
    exp(p, rescale, rescale, rows, 1, vector)
    subtract_column(p, x, x, new_max, rows, cols, vector)
    exp(p, x, x, rows, cols, vector)
    row_sum(p, tile_sum, x, rows, cols, vector)
    multiply(p, row_total, row_total, rescale, rows, 1, vector)
    add(p, row_total, row_total, tile_sum, rows, 1, vector)
    if fmt.weights != vector:
        convert(p, tile(b.weights, j), x, rows, cols, vector, fmt.weights)


@jit_inner
def _add_values(p, j, rows, kv_row, output, shape, fmt, hbm, b):
    """Load value tile j, rescale the running output and add the weighted values."""
    start, dim, vector = j * shape.tile_k, shape.dim, fmt.vector
    cols = min(shape.tile_k, shape.kv_len - start)
    values, acc, weighted = tile(b.v, j), tile(b.output_acc, j), tile(b.product, j)
    load(p, values, hbm.v, kv_row + start, 0, cols, dim)
    matmul(p, acc, tile(b.weights, j), values, rows, dim, cols, fmt.output_operand, FP32, False)
    move(p, weighted, acc, rows, dim, FP32, vector)
    multiply_column(p, output, output, tile(b.rescale, 0), rows, dim, vector)
    add(p, output, output, weighted, rows, dim, vector)


class Flash(Kernel):
    """Attention with online softmax."""

    name: ClassVar[str] = "flash"
    summary: ClassVar[str] = "attention with online softmax; scores never leave the chip"
    problem_kind: ClassVar[str] = "attention"
    parameters: ClassVar[type[Spec]] = FlashParameters

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: FlashParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        name = f"flash on {problem.name}"
        formats = step_formats(problem.dtype, parameters.precision)
        tile_q, tile_k = first_fit(
            name,
            tile_candidates(problem, parameters.tile_q, parameters.tile_k),
            lambda builder, pair: _allocate(builder, problem.head_dim, formats, *pair),
            machine,
        )
        builder = ProgramBuilder(name, with_numbers=tensors is not None)
        hbm = declare_operands(builder, problem, tensors)
        buffers = _allocate(builder, problem.head_dim, formats, tile_q, tile_k)
        scale_query = parameters.scale_at == "query"
        shape = _Shape(
            heads=problem.batch * problem.q_heads,
            group=problem.q_heads // problem.kv_heads,
            q_len=problem.q_len,
            kv_len=problem.kv_len,
            dim=problem.head_dim,
            tile_q=tile_q,
            tile_k=tile_k,
            causal=problem.causal,
            scale_query=scale_query,
            factor=score_factor(problem, formats.stored if scale_query else formats.vector),
        )
        items = shape.heads * ceil_div(problem.q_len, tile_q)
        program = builder.record(flash, items, shape, formats.codes, hbm, buffers)
        return program, hbm.o.data

    @classmethod
    def oracle(cls, problem: AttentionProblem, tensors: AttentionTensors) -> Array:
        """Return softmax attention in float64."""
        return softmax_attention(problem, tensors)


def _allocate(
    builder: ProgramBuilder, dim: int, formats: StepFormats, tile_q: int, tile_k: int
) -> _Buffers:
    """Declare the buffers for tiles of tile_q query and tile_k key rows."""
    stored, vector = formats.stored, formats.vector
    scores = builder.buffer("scores", tile_q, tile_k, formats.scores, slots=2)
    x = scores if vector == formats.scores else builder.buffer("x", tile_q, tile_k, vector)
    is_shared = formats.weights == vector
    output = builder.buffer("output", tile_q, dim, vector)
    return _Buffers(
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
        stored=output if stored == vector else builder.buffer("stored", tile_q, dim, stored),
        row_max=builder.buffer("row_max", tile_q, 1, vector, slots=2),
        row_sum=builder.buffer("row_sum", tile_q, 1, vector),
        tile_sum=builder.buffer("tile_sum", tile_q, 1, vector),
        rescale=builder.buffer("rescale", tile_q, 1, vector),
    )
