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

from pydantic import Field

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import softmax_attention, step_formats
from accelsim.kernels.attention.flash_blocks import tilings_of
from accelsim.kernels.attention.flash_estimate import OnlineEstimate, online_work
from accelsim.kernels.attention.int_operands import Coding, Plan, allocate_coding, declare
from accelsim.kernels.attention.old_online_softmax import (
    add_to_output,
    exponentials,
    finish_rows,
    reset_rows,
    seen_tiles,
    shape_of,
)
from accelsim.kernels.attention.online_estimate import Work
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.estimate.choice import fastest
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.footprint import fitting
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.linear.integer.bounds import warn_of_sums
from accelsim.kernels.linear.integer.operands import row_tiles
from accelsim.kernels.tiling import misfit
from accelsim.numerics.formats import FP32, INT32, Format
from accelsim.numerics.integer import Accumulator
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.integer import int_matmul, shift_accumulate
from accelsim.program.old.language import begin_item, convert, load, move, scale, tile, transposed
from accelsim.program.old.quantizing import multiply_row
from accelsim.program.ops import Unit
from accelsim.program.program import Program
from accelsim.quantization.channel_groups import LARGEST_GROUPS, GroupOptions
from accelsim.quantization.codes import largest_code
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


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


class _Formats(NamedTuple):
    """Format codes."""

    output: int
    vector: int
    weights: int


class _Queries(NamedTuple):
    """How queries are quantized; chunks of all heads one after the other."""

    chunks: int
    """Chunks of a head."""
    groups: int
    starts: Any
    """Where groups start [chunks x (groups + 1)]."""
    factors: Any
    """What one unit of a sum is worth, over sqrt(head_dim) [chunks]."""
    largest_weight: float
    """Code of a softmax weight of 1."""


class _Buffers(NamedTuple):
    """On-chip tiles. `x` holds scores on their way to weights, `weights` their codes."""

    q: Any
    order: Any
    k: Any
    k_scale: Any
    v: Any
    v_scale: Any
    scores_acc: Any
    output_acc: Any
    scores: Any
    x: Any
    weights: Any
    sums: Any
    product: Any
    output: Any
    stored: Any
    row_max: Any
    row_sum: Any
    tile_sum: Any
    rescale: Any


@jit
def int_flash(p, phase, tiles, accumulator, queries, shape, fmt, hbm, b):
    """All query tiles of all heads; those that see the most keys under a causal mask come first.

    tiles: chunk, first row and rows of every query tile of a head.
    """
    for item in range(len(tiles) * shape.heads):
        begin_item(p, phase)
        chunk, row, rows = tiles[len(tiles) - 1 - item // shape.heads]
        head = item % shape.heads
        _query_tile(p, item, head, chunk, row, rows, accumulator, queries, shape, fmt, hbm, b)


@jit_inner
def _query_tile(p, item, head, chunk, row, rows, accumulator, queries, shape, fmt, hbm, b):
    """One tile of query rows against all the keys it sees."""
    step, q_row, kv_head = shape.tile_k, head * shape.q_len + row, head // shape.group
    tiles_k = seen_tiles(row, rows, shape)
    of_head = head * queries.chunks + chunk

    load(p, tile(b.q, item), hbm.q, q_row, 0, rows, shape.dim)
    load(p, tile(b.order, item), hbm.order, of_head, 0, 1, shape.dim)
    reset_rows(p, rows, shape, fmt, b)
    _multiply_keys(p, item, 0, rows, kv_head, of_head, accumulator, queries, shape, hbm, b)
    for j in range(tiles_k):
        if j + 1 < tiles_k:
            _multiply_keys(
                p, item, j + 1, rows, kv_head, of_head, accumulator, queries, shape, hbm, b
            )
        _scale_scores(p, j, rows, queries.factors[of_head], shape, b)
        exponentials(p, j, j * step, rows, row, shape, fmt, b)
        _add_values(p, j, rows, kv_head, accumulator, queries, shape, fmt, hbm, b)
    v_scale, output = tile(b.v_scale, item), tile(b.output, 0)
    load(p, v_scale, hbm.v_scale, kv_head, 0, 1, shape.dim)
    multiply_row(p, output, output, v_scale, rows, shape.dim, FP32)
    finish_rows(p, q_row, rows, shape, fmt, hbm, b)


@jit_inner
def _multiply_keys(p, item, turn, rows, kv_head, of_head, accumulator, queries, shape, hbm, b):
    """Load a key tile with its scales and multiply the queries with it, group by group."""
    start, keys, acc = turn * shape.tile_k, tile(b.k, turn), tile(b.scores_acc, turn)
    cols, groups = min(shape.tile_k, shape.kv_len - start), queries.groups
    load(p, keys, hbm.k, kv_head * shape.kv_len + start, 0, cols, shape.dim)
    load(p, tile(b.k_scale, turn), hbm.k_scale, kv_head, start, 1, cols)
    shift_accumulate(
        p,
        acc,
        tile(b.q, item),
        transposed(keys, cols, shape.dim),
        tile(b.order, item),
        queries.starts,
        of_head * (groups + 1),
        groups,
        rows,
        cols,
        accumulator,
        False,
    )
    move(p, tile(b.scores, turn), acc, rows, cols, INT32, INT32)


@jit_inner
def _scale_scores(p, turn, rows, factor, shape, b):
    """x = the sums of a key tile times the scales of queries and keys."""
    cols = min(shape.tile_k, shape.kv_len - turn * shape.tile_k)
    x, k_scale = tile(b.x, turn), tile(b.k_scale, turn)
    scale(p, k_scale, k_scale, factor, 1, cols, FP32)
    convert(p, x, tile(b.scores, turn), rows, cols, FP32, FP32)
    multiply_row(p, x, x, k_scale, rows, cols, FP32)


@jit_inner
def _add_values(p, turn, rows, kv_head, accumulator, queries, shape, fmt, hbm, b):
    """Turn weights into codes, and add the values weighted with them to the running output."""
    start, x, weights = turn * shape.tile_k, tile(b.x, turn), tile(b.weights, turn)
    cols, dim = min(shape.tile_k, shape.kv_len - start), shape.dim
    values, acc, sums, product = tile(b.v, turn), tile(b.output_acc, turn), b.sums, b.product
    scale(p, x, x, queries.largest_weight, rows, cols, FP32)
    convert(p, weights, x, rows, cols, FP32, fmt.weights)
    load(p, values, hbm.v, kv_head * shape.kv_len + start, 0, cols, dim)
    int_matmul(p, acc, weights, values, rows, dim, cols, accumulator, False)
    move(p, tile(sums, 0), acc, rows, dim, INT32, INT32)
    convert(p, tile(product, 0), tile(sums, 0), rows, dim, FP32, FP32)
    add_to_output(p, 0, tile(product, 0), rows, shape, fmt, b)


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
        name = f"int_flash on {problem.name}"
        array = machine.int_mac_for(name)
        plan = Plan.of(problem, parameters.options, tensors)

        def allocate(builder: ProgramBuilder, sizes: tuple[int, ...]) -> tuple[Any, _Buffers]:
            is_made = parameters.input == "quantized"
            coding = None if is_made else allocate_coding(builder, plan)
            return coding, _allocate(builder, plan, parameters.weight_bits, *sizes)

        tile_q, tile_k = _fastest(name, problem, machine, parameters, allocate)
        largest = _largest_sum(name, machine, plan, parameters, tile_k)
        builder = ProgramBuilder(name, with_numbers=tensors is not None)
        coding_buffers, buffers = allocate(builder, (tile_q, tile_k))
        hbm, codings = declare(builder, plan, parameters.weight_bits, coding_buffers)
        tiles = row_tiles(plan.spans, tile_q)
        arguments = (
            tiles,
            Accumulator(array.accumulator_bits, array.overflow == "saturate"),
            _queries(plan, parameters.weight_bits),
            shape_of(problem, step_formats(problem.dtype, "fp32"), tile_q, tile_k),
            _Formats(problem.output_dtype.code, FP32, Format(f"int{parameters.weight_bits}").code),
            hbm,
            buffers,
        )
        codings.append(Coding(int_flash, len(tiles) * plan.heads, arguments))
        items = sum(coding.items for coding in codings)
        program = builder.record(_in_two_phases, items, codings)
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
    asked = tilings_of(problem, parameters.tile_q, parameters.tile_k, fold=False)
    known = asked.at(fitting(machine, lambda b, *own: allocate(b, own), *asked[:2]))
    if not len(known.tile_q):
        smallest = int(asked.tile_q.min()), int(asked.tile_k.min())
        raise misfit(name, machine, lambda builder: allocate(builder, smallest))
    known.check_length(name, problem)
    work = _work_of(problem, parameters)
    best = fastest(OnlineEstimate(problem, machine, work, Unit.INT_MAC).of(known))
    return int(known.tile_q[best]), int(known.tile_k[best])


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


def _in_two_phases(p: Any, codings: list[Coding]) -> None:
    """Record what makes the codes, then the attention, which is the last."""
    *before, attention = codings
    for coding in before:
        coding.kernel(p, 0, *coding.arguments)
    attention.kernel(p, min(len(before), 1), *attention.arguments)


def _queries(plan: Plan, weight_bits: int) -> _Queries:
    return _Queries(
        len(plan.spans),
        plan.options.groups,
        plan.order().starts,
        plan.score_factors(),
        float(largest_code(weight_bits)),
    )


def _allocate(
    builder: ProgramBuilder, plan: Plan, weight_bits: int, tile_q: int, tile_k: int
) -> _Buffers:
    """Declare the buffers for tiles of tile_q query and tile_k key rows."""
    dim, code, stored = plan.problem.head_dim, plan.code_format, plan.problem.output_dtype
    fp32, int32 = Format.FP32, Format.INT32
    output = builder.buffer("output", tile_q, dim, fp32)
    return _Buffers(
        q=builder.buffer("q", tile_q, dim, code, slots=2),
        order=builder.buffer("order", 1, dim, int32, slots=2, memory="index_buffer"),
        k=builder.buffer("k", tile_k, dim, code, slots=2),
        k_scale=builder.buffer("k_scale", 1, tile_k, fp32, slots=2),
        v=builder.buffer("v", tile_k, dim, code, slots=2),
        v_scale=builder.buffer("v_scale", 1, dim, fp32, slots=2),
        scores_acc=builder.buffer("scores_acc", tile_q, tile_k, int32, memory="accumulator"),
        output_acc=builder.buffer("output_acc", tile_q, dim, int32, memory="accumulator"),
        scores=builder.buffer("scores", tile_q, tile_k, int32, slots=2),
        x=builder.buffer("x", tile_q, tile_k, fp32),
        weights=builder.buffer("weights", tile_q, tile_k, Format(f"int{weight_bits}"), slots=2),
        sums=builder.buffer("sums", tile_q, dim, int32),
        product=builder.buffer("product", tile_q, dim, fp32),
        output=output,
        stored=output if stored == fp32 else builder.buffer("stored", tile_q, dim, stored),
        row_max=builder.buffer("row_max", tile_q, 1, fp32, slots=2),
        row_sum=builder.buffer("row_sum", tile_q, 1, fp32),
        tile_sum=builder.buffer("tile_sum", tile_q, 1, fp32),
        rescale=builder.buffer("rescale", tile_q, 1, fp32),
    )
