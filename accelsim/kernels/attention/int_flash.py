"""Attention with online softmax whose two products are those of integers.

Scores: queries in channel groups whose sums the array doubles between groups, keys with one scale
each. Output: softmax weights, at most 1 because the maximum of the row is known, as codes 0 to
2^(b - 1) - 1 with one fixed scale, times values with one scale a column. Sums leave the array as
32-bit integers; scaling, softmax and the running output are FP32 on the vector unit, so a new
maximum rescales what is no integer any more.

Source: Lee, Lee and Sim, "Tender: Accelerating Large Language Models via Tensor Decomposition and
Runtime Requantization", ISCA 2024, arXiv 2406.12930 (all products of a layer in integers); the loop
is that of `flash`. What differs from the paper's code is in docs/algorithms/int_flash.md.

HBM reads of one query head with codes of b bits and query tiles of B_r rows: S_q d b / 8 codes and
ceil(S_q / B_r) (4 d for the order of channels, S_k (2 d b / 8 + 4) for keys with their scales and
values, 4 d for the scales of the output); under a causal mask only the key tiles at or below the
diagonal. Writes: the output. Making the codes reads Q, K, V once and writes their codes and 4 bytes
for each key; it reads 4 d bytes more for each of its tiles of Q and V.
"""

from collections.abc import Callable
from dataclasses import replace
from math import log2
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import softmax_attention, step_formats
from accelsim.kernels.attention.flash_estimate import OnlineEstimate, online_work, tilings_of
from accelsim.kernels.attention.folding import check_length
from accelsim.kernels.attention.int_operands import Operands, Plan, allocate_coding, declare
from accelsim.kernels.attention.online_estimate import Work
from accelsim.kernels.attention.online_softmax import (
    add_to_output,
    exponentials,
    finish_rows,
    keys_of,
    load_keys,
    load_values,
    reset_rows,
    seen_tiles,
)
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.estimate.choice import fastest
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.footprint import fitting
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.integer.accumulator import accumulator_of, warn_of_sums
from accelsim.kernels.integer.chunks import RowTiles, row_tiles
from accelsim.kernels.integer.phases import Loop, record_phases
from accelsim.kernels.tiling import misfit
from accelsim.numerics.formats import Format
from accelsim.numerics.integer import Accumulator, Starts
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.ops import Unit
from accelsim.program.program import Program
from accelsim.program.recording import Buffer
from accelsim.quantization.channel_groups import LARGEST_GROUPS, GroupOptions
from accelsim.quantization.codes import largest_code
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

Buffers = dict[str, Buffer]


class IntFlashParameters(Spec):
    """Choices of the int_flash kernel."""

    bits: Literal[4, 8] = 8
    """Bits of a code of Q, K and V."""
    weight_bits: Literal[4, 8] = 8
    """Bits of a code of a softmax weight, of which the sign is not used."""
    groups: Annotated[int, Field(ge=1, le=LARGEST_GROUPS)] = 4
    """Groups of the channels of Q."""
    chunk_rows: Size = 256
    """Rows of Q that share scale and groups."""
    input: Literal["float", "quantized"] = "float"
    """Q, K and V in the problem's format, to be quantized first; or codes in HBM, because what made
    them quantized them: for decode, a cache of codes."""
    tile_q: Size | None = None
    """Query rows of a tile, in elements; absent: those of the lowest estimated time."""
    tile_k: Size | None = None
    """Key and value rows of a tile, in elements; absent: those of the lowest estimated time."""

    @property
    def options(self) -> GroupOptions:
        """How queries become groups of channels."""
        return GroupOptions(
            bits=self.bits, groups=self.groups, chunk_rows=self.chunk_rows, use_bias=False
        )


class Layout(NamedTuple):
    """Sizes in elements, operands in HBM and tiles on chip, as `online_softmax` has them.

    Queries are quantized in chunks of rows, those of all heads one after the other.
    """

    heads: int
    group: int
    q_len: int
    span: int
    kv_len: int
    dim: int
    tile_k: int
    causal: bool
    row_tiles: RowTiles
    """Query tiles of a head."""
    chunks: int
    """Chunks of a head."""
    groups: int
    """Groups of channels of a chunk."""
    starts: Starts
    """Where groups start [heads x chunks x (groups + 1)]."""
    factors: NDArray[np.float32]
    """What one unit of a sum is worth, over sqrt(head_dim) [heads x chunks]."""
    largest_weight: float
    """Code of a softmax weight of 1."""
    accumulator: Accumulator
    hbm: Operands
    queries: Buffer
    order: Buffer
    keys: Buffer
    k_scale: Buffer
    values: Buffer
    v_scale: Buffer
    scores_acc: Buffer
    output_acc: Buffer
    scores: Buffer
    x: Buffer
    """Scores on their way to weights."""
    weights: Buffer
    """Codes of the weights."""
    sums: Buffer
    product: Buffer
    output: Buffer
    stored: Buffer
    row_max: Buffer
    row_sum: Buffer
    tile_sum: Buffer
    rescale: Buffer


class Rows(NamedTuple):
    """A tile of query rows, as `online_softmax` has it."""

    item: int
    first: int
    rows: int
    q_row: int
    kv_row: int
    kv_head: int
    chunk: int
    """Counted through all heads."""


@jit
def int_flash(p, phase, k):
    """All query tiles of all heads; those that see the most keys under a causal mask come first."""
    for item in range(len(k.row_tiles) * k.heads):
        al.begin_item(p, phase)
        _query_tile(p, _query_rows(item, k), k)


@jit_inner
def _query_rows(item, k):
    """The tile of query rows that is a work item."""
    chunk, first, rows = k.row_tiles[len(k.row_tiles) - 1 - item // k.heads]
    head = item % k.heads
    kv_head = head // k.group
    q_row, kv_row = head * k.q_len + first, kv_head * k.kv_len
    return Rows(item, first, rows, q_row, kv_row, kv_head, head * k.chunks + chunk)


@jit_inner
def _query_tile(p, at, k):
    """One tile of query rows against all the keys it sees."""
    tiles_k = seen_tiles(at, k)
    al.load(p, al.tile(k.queries, at.item, at.rows, k.dim), k.hbm.q, at.q_row, 0)
    al.load(p, al.tile(k.order, at.item, 1, k.dim), k.hbm.order, at.chunk, 0)
    reset_rows(p, at.rows, k)
    _multiply_keys(p, 0, at, k)
    for j in range(tiles_k):
        if j + 1 < tiles_k:
            _multiply_keys(p, j + 1, at, k)
        x = _scale_scores(p, j, at, k)
        exponentials(p, x, j, j, at, k)
        _add_values(p, x, j, at, k)
    _scale_output(p, at, k)
    finish_rows(p, at, k)


@jit_inner
def _multiply_keys(p, j, at, k):
    """Load key tile j with its scales and multiply the queries with it, group by group."""
    cols = keys_of(j, k)
    queries, keys = al.tile(k.queries, at.item, at.rows, k.dim), al.tile(k.keys, j, cols, k.dim)
    acc, order = al.tile(k.scores_acc, j, at.rows, cols), al.tile(k.order, at.item, 1, k.dim)
    groups = al.groups_from(order, k.starts, at.chunk * (k.groups + 1), k.groups)
    load_keys(p, j, j, at, k)
    al.load(p, al.tile(k.k_scale, j, 1, cols), k.hbm.k_scale, at.kv_head, j * k.tile_k)
    al.shift_accumulate(p, acc, queries, al.transposed(keys), groups, k.accumulator, False)
    al.move(p, al.tile(k.scores, j, at.rows, cols), acc)


@jit_inner
def _scale_scores(p, j, at, k):
    """Return the sums of key tile j times the scales of queries and keys."""
    cols = keys_of(j, k)
    x, k_scale = al.tile(k.x, j, at.rows, cols), al.tile(k.k_scale, j, 1, cols)
    al.scale(p, k_scale, k_scale, k.factors[at.chunk])
    al.convert(p, x, al.tile(k.scores, j, at.rows, cols))
    al.multiply_row(p, x, x, k_scale)
    return x


@jit_inner
def _add_values(p, x, j, at, k):
    """Turn the weights x into codes, and add the values weighted with them to the output."""
    weights, values = al.tile(k.weights, j, at.rows, x.cols), al.tile(k.values, j, x.cols, k.dim)
    acc, sums = al.tile(k.output_acc, j, at.rows, k.dim), al.tile(k.sums, 0, at.rows, k.dim)
    al.scale(p, x, x, k.largest_weight)
    al.convert(p, weights, x)
    load_values(p, j, j, at, k)
    al.int_matmul(p, acc, weights, values, k.accumulator, False)
    al.move(p, sums, acc)
    al.convert(p, al.tile(k.product, j, at.rows, k.dim), sums)
    add_to_output(p, j, at, k)


@jit_inner
def _scale_output(p, at, k):
    """Multiply the output with the scales of weights and values."""
    output, v_scale = al.tile(k.output, 0, at.rows, k.dim), al.tile(k.v_scale, at.item, 1, k.dim)
    al.load(p, v_scale, k.hbm.v_scale, at.kv_head, 0)
    al.multiply_row(p, output, output, v_scale)


class IntFlash(Kernel):
    """Attention with online softmax, in integers."""

    name: ClassVar[str] = "int_flash"
    summary: ClassVar[str] = "flash attention with both products on the integer array"
    problem_kind: ClassVar[str] = "attention"
    is_exact: ClassVar[bool] = False
    parameters: ClassVar[type[Spec]] = IntFlashParameters

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: IntFlashParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim].

        Warns of sums that may not fit.
        """
        name, weight_bits = f"int_flash on {problem.name}", parameters.weight_bits
        accumulator = accumulator_of(name, machine)
        plan = Plan.of(problem, parameters.options, tensors)

        def allocate(builder: ProgramBuilder, sizes: tuple[int, ...]) -> tuple[Buffers, Buffers]:
            coding = allocate_coding(builder, plan) if parameters.input == "float" else {}
            return coding, _allocate(builder, plan, weight_bits, *sizes)

        tile_q, tile_k = _fastest(name, problem, machine, parameters, allocate)
        largest = _largest_sum(name, machine, plan, parameters, tile_k)
        builder = ProgramBuilder(name, with_numbers=tensors is not None)
        coding_buffers, buffers = allocate(builder, (tile_q, tile_k))
        hbm, coding = declare(builder, plan, weight_bits, coding_buffers)
        layout = _layout(plan, accumulator, hbm, buffers)
        attention = Loop(int_flash, len(layout.row_tiles) * plan.heads, (layout,))
        program = record_phases(builder, [coding, [attention]])
        selection = {
            "accumulator_overflows": float(program.overflows),
            "accumulator_bound_bits": log2(largest),
        }
        program = program.with_parameters(tile_q=tile_q, tile_k=tile_k)
        return replace(program, selection=selection), hbm.o.data

    @classmethod
    def oracle(cls, problem: AttentionProblem, tensors: AttentionTensors) -> Array:
        """Return softmax attention in float64."""
        return softmax_attention(problem, tensors)


@remembered
def _fastest(
    name: str,
    problem: AttentionProblem,
    machine: MachineSpec,
    parameters: IntFlashParameters,
    allocate: Callable[[ProgramBuilder, tuple[int, ...]], object],
) -> tuple[int, int]:
    """Return the tiles of the lowest estimated time; raises DoesNotFitError if none fit."""
    (tiling,) = tilings_of(problem, parameters.tile_q, parameters.tile_k, False, (1,))
    fits = fitting(machine, lambda b, *own: allocate(b, own), *tiling[:2])
    if not fits.any():
        smallest = int(tiling.tile_q.min()), int(tiling.tile_k.min())
        raise misfit(name, machine, lambda builder: allocate(builder, smallest))
    work = _work_of(problem, parameters)
    known = tiling.at(fits)
    check_length(name, problem, known.fold, known.tile_q * known.query_tiles, known.tile_k)
    online = OnlineEstimate(problem, machine, work, Unit.INT_MAC)
    _, index = fastest([online.of(known)])
    return int(known.tile_q[index]), int(known.tile_k[index])


def _work_of(
    problem: AttentionProblem, parameters: IntFlashParameters
) -> Callable[[OpCosts, Any, Any], Work]:
    """Return what gives the work of a query tile."""
    plain = online_work(problem, step_formats(problem.dtype, "fp32"), scale_query=False)
    bits, weight_bits, dim = parameters.bits, parameters.weight_bits, problem.head_dim
    width = Format.FP32.bits

    def work(costs: OpCosts, rows: Any, tile_k: Any) -> Work:
        own, code_bytes = plain(costs, rows, tile_k), dim * bits / BITS_PER_BYTE

        def on_scores(op: str, moved_bits: int) -> Any:
            return costs.vector(op, Format.FP32, rows, tile_k, moved_bits)

        shifts = parameters.groups - 1
        coding = on_scores("convert", 2 * width) + on_scores("multiply", 2 * width)
        return own._replace(
            query_bytes=rows * code_bytes,
            key_bytes=tile_k * (code_bytes + width / BITS_PER_BYTE),
            value_bytes=tile_k * code_bytes,
            scores=costs.int_product(rows, tile_k, dim, shifts, (bits, bits)),
            softmax=own.softmax + coding + on_scores("convert", width + weight_bits),
            weighted=costs.int_product(rows, dim, tile_k, 0, (weight_bits, bits)),
            merge=own.merge + costs.vector("convert", Format.FP32, rows, dim, 2 * width),
        )

    return work


def _largest_sum(
    name: str, machine: MachineSpec, plan: Plan, parameters: IntFlashParameters, tile_k: int
) -> float:
    """Return a bound on any sum of both products; warns if it does not fit an accumulator."""
    bits, weight_bits = parameters.bits, parameters.weight_bits
    scores, code = plan.largest_score_sum(), plan.code_format
    output = float(tile_k << (bits + weight_bits - 2))
    if plan.known is not None:
        warn_of_sums(name, machine, (code, code), scores, "fewer groups or fewer bits")
        weights = Format(f"int{weight_bits}")
        warn_of_sums(name, machine, (weights, code), output, "a smaller tile_k or fewer bits")
    return max(scores, output)


def _layout(plan: Plan, accumulator: Accumulator, hbm: Operands, buffers: Buffers) -> Layout:
    """Return the layout of a problem cut into the tiles of `buffers`."""
    problem, order = plan.problem, plan.order()
    return Layout(
        heads=plan.heads,
        group=problem.q_heads // problem.kv_heads,
        q_len=problem.q_len,
        span=problem.q_len,
        kv_len=problem.kv_len,
        dim=problem.head_dim,
        tile_k=buffers["keys"].rows,
        causal=problem.causal,
        row_tiles=row_tiles(plan.spans, buffers["queries"].rows),
        chunks=len(plan.spans),
        groups=order.groups,
        starts=order.starts,
        factors=plan.score_factors(),
        largest_weight=float(largest_code(buffers["weights"].bits)),
        accumulator=accumulator,
        hbm=hbm,
        **buffers,
    )


def _allocate(
    builder: ProgramBuilder, plan: Plan, weight_bits: int, tile_q: int, tile_k: int
) -> Buffers:
    """Declare the buffers for tiles of tile_q query and tile_k key rows."""
    dim, code, stored = plan.problem.head_dim, plan.code_format, plan.problem.output_dtype
    fp32, int32 = Format.FP32, Format.INT32

    def rows(name: str, cols: int, fmt: Format = fp32, slots: int = 1) -> Buffer:
        return builder.buffer(name, tile_q, cols, fmt, slots=slots)

    def keys(name: str, cols: int, fmt: Format) -> Buffer:
        return builder.buffer(name, tile_k, cols, fmt, slots=2)

    def accumulator(name: str, cols: int) -> Buffer:
        return builder.buffer(name, tile_q, cols, int32, memory="accumulator")

    output = rows("output", dim)
    return {
        "queries": rows("q", dim, code, 2),
        "order": builder.buffer("order", 1, dim, int32, slots=2, memory="index_buffer"),
        "keys": keys("k", dim, code),
        "k_scale": builder.buffer("k_scale", 1, tile_k, fp32, slots=2),
        "values": keys("v", dim, code),
        "v_scale": builder.buffer("v_scale", 1, dim, fp32, slots=2),
        "scores_acc": accumulator("scores_acc", tile_k),
        "output_acc": accumulator("output_acc", dim),
        "scores": rows("scores", tile_k, int32, 2),
        "x": rows("x", tile_k),
        "weights": rows("weights", tile_k, Format(f"int{weight_bits}"), 2),
        "sums": rows("sums", dim, int32),
        "product": rows("product", dim),
        "output": output,
        "stored": output if stored == fp32 else rows("stored", dim, stored),
        "row_max": rows("row_max", 1, slots=2),
        "row_sum": rows("row_sum", 1),
        "tile_sum": rows("tile_sum", 1),
        "rescale": rows("rescale", 1),
    }
