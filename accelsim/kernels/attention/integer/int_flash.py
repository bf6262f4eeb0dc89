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

from math import log2
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels import language as al
from accelsim.kernels.attention.coded import CodedHeads, allocate_output, check_coded
from accelsim.kernels.attention.flash import online_softmax as online
from accelsim.kernels.attention.integer.operands import Plan, Scales, allocate_coding, declare
from accelsim.kernels.attention.integer.parameters import IntFlashParameters
from accelsim.kernels.attention.integer.tiles import fastest_tiles
from accelsim.kernels.attention.kernel import AttentionKernel, Recording, Task
from accelsim.kernels.attention.operands import TilesOf
from accelsim.kernels.attention.precision import step_formats
from accelsim.kernels.integer.accumulator import accumulator_of, warn_of_sums
from accelsim.kernels.integer.chunks import RowTiles, row_tiles
from accelsim.kernels.integer.phases import Loop, record_phases
from accelsim.numerics.integer import Starts
from accelsim.quantization.codes import largest_code

Buffers = dict[str, al.Buffer]


class Integers(NamedTuple):
    """What integers add to the layout of `online_softmax`, where Q, K, V and weights are codes.

    Queries are quantized in chunks of rows; those of all heads follow each other.
    """

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
    accumulator: al.Accumulator
    hbm: Scales
    order: al.Buffer
    k_scale: al.Buffer
    v_scale: al.Buffer
    sums: al.Buffer


class Rows(NamedTuple):
    """A tile of query rows, as `online_softmax` has it."""

    item: int
    first: int
    rows: int
    q_row: int
    kv_row: int
    span: int
    kv_len: int
    kv_head: int
    chunk: int
    """Counted through all heads."""


@al.jit
def int_flash(p, phase, own, k):
    """All query tiles of all heads; those that see the most keys under a causal mask come first."""
    for item in range(len(own.row_tiles) * k.heads):
        al.begin_item(p, phase)
        _query_tile(p, _query_rows(item, own, k), own, k)


@al.jit_inner
def _query_rows(item, own, k):
    """The tile of query rows that is a work item."""
    chunk, first, rows = own.row_tiles[len(own.row_tiles) - 1 - item // k.heads]
    head = item % k.heads
    kv_head = head // k.group
    q_row, kv_row = head * k.q_len + first, kv_head * k.kv_len
    number = head * own.chunks + chunk
    return Rows(item, first, rows, q_row, kv_row, k.span, k.kv_len, kv_head, number)


@al.jit_inner
def _query_tile(p, at, own, k):
    """One tile of query rows against all the keys it sees."""
    tiles_k = online.seen_tiles(at, k)
    al.load(p, al.tile(k.queries, at.item, at.rows, k.dim), k.hbm.q, at.q_row, 0)
    al.load(p, al.tile(own.order, at.item, 1, k.dim), own.hbm.order, at.chunk, 0)
    online.reset_rows(p, at.rows, -np.inf, k)
    _multiply_keys(p, 0, at, own, k)
    for j in range(tiles_k):
        if j + 1 < tiles_k:
            _multiply_keys(p, j + 1, at, own, k)
        x = _scale_scores(p, j, at, own, k)
        online.exponentials(p, x, j, j, at, k)
        _add_values(p, x, j, at, own, k)
    _scale_output(p, at, own, k)
    online.finish_rows(p, at, k)


@al.jit_inner
def _multiply_keys(p, j, at, own, k):
    """Load key tile j with its scales and multiply the queries with it, group by group."""
    cols = online.keys_of(j, at, k)
    queries, keys = al.tile(k.queries, at.item, at.rows, k.dim), al.tile(k.keys, j, cols, k.dim)
    acc, order = al.tile(k.scores_acc, j, at.rows, cols), al.tile(own.order, at.item, 1, k.dim)
    groups = al.groups_from(order, own.starts, at.chunk * (own.groups + 1), own.groups)
    online.load_keys(p, j, j, at, k)
    al.load(p, al.tile(own.k_scale, j, 1, cols), own.hbm.keys, at.kv_head, j * k.tile_k)
    al.shift_accumulate(p, acc, queries, al.transposed(keys), groups, own.accumulator, False)
    al.move(p, al.tile(k.scores, j, at.rows, cols), acc)


@al.jit_inner
def _scale_scores(p, j, at, own, k):
    """Return the sums of key tile j times the scales of queries and keys."""
    cols = online.keys_of(j, at, k)
    x, k_scale = al.tile(k.x, j, at.rows, cols), al.tile(own.k_scale, j, 1, cols)
    al.scale(p, k_scale, k_scale, own.factors[at.chunk])
    al.convert(p, x, al.tile(k.scores, j, at.rows, cols))
    al.multiply_row(p, x, x, k_scale)
    return x


@al.jit_inner
def _add_values(p, x, j, at, own, k):
    """Turn the weights x into codes, and add the values weighted with them to the output."""
    weights, values = al.tile(k.weights, j, at.rows, x.cols), al.tile(k.values, j, x.cols, k.dim)
    acc, sums = al.tile(k.output_acc, j, at.rows, k.dim), al.tile(own.sums, 0, at.rows, k.dim)
    al.scale(p, x, x, own.largest_weight)
    al.convert(p, weights, x)
    online.load_values(p, j, j, at, k)
    al.int_matmul(p, acc, weights, values, own.accumulator, False)
    al.move(p, sums, acc)
    al.convert(p, al.tile(k.product, j, at.rows, k.dim), sums)
    online.add_to_output(p, j, at, k)


@al.jit_inner
def _scale_output(p, at, own, k):
    """Multiply the output with the scales of weights and values."""
    output, v_scale = al.tile(k.output, 0, at.rows, k.dim), al.tile(own.v_scale, at.item, 1, k.dim)
    al.load(p, v_scale, own.hbm.values, at.kv_head, 0)
    al.multiply_row(p, output, output, v_scale)


class IntFlash(AttentionKernel):
    """Attention with online softmax, in integers."""

    name = "int_flash"
    summary = "flash attention with both products on the integer array"
    is_exact = False
    parameters = IntFlashParameters

    @classmethod
    def stored_dtypes(
        cls, problem: al.AttentionProblem, parameters: IntFlashParameters
    ) -> dict[str, al.Format]:
        """Return the formats of a coded output, and of operands that are codes already."""
        is_made = parameters.input == "quantized"
        made = dict.fromkeys(("q", "k", "v"), parameters.code_format) if is_made else {}
        return {**made, **parameters.stored_dtypes}

    @classmethod
    def recorded(cls, task: Task[IntFlashParameters]) -> Recording:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim].

        Warns of sums that may not fit.
        """
        name, (_, problem, machine, parameters, tensors) = task.name, task
        form = parameters.form
        check_coded(name, problem, form, al.Format.FP32)
        accumulator, plan = accumulator_of(name, machine), Plan.of(problem, parameters, tensors)

        def allocate(builder: al.ProgramBuilder, sizes: tuple[int, ...]) -> tuple[Buffers, ...]:
            coding = allocate_coding(builder, plan) if parameters.input == "float" else {}
            return coding, *_allocate(builder, plan, *sizes)

        tile_q, tile_k = fastest_tiles(name, problem, machine, parameters, allocate)
        largest = _largest_sum(name, machine, plan, tile_k)
        builder = task.builder()
        coding_buffers, own_buffers, buffers = allocate(builder, (tile_q, tile_k))
        hbm, scales, coding = declare(builder, plan, coding_buffers)
        coded = form and CodedHeads.placed(builder, problem, form, tensors)
        buffers = coded.with_coder(builder, buffers) if coded else buffers
        own = _integers(plan, tile_q, accumulator, scales, own_buffers)
        layout = online.layout_of(problem, step_formats(problem.dtype, "fp32"), hbm, buffers)
        attention = Loop(int_flash, len(own.row_tiles) * plan.heads, (own, layout))
        program = record_phases(builder, [coding, [attention]])
        statistics = {
            "accumulator_overflows": float(program.overflows),
            "accumulator_bound_bits": log2(largest),
        }
        program = program.with_parameters(tile_q=tile_q, tile_k=tile_k)
        output = coded.values(builder.data) if coded and tensors else hbm.o.data
        return program.with_statistics(statistics), output


def _largest_sum(name: str, machine: al.MachineSpec, plan: Plan, tile_k: int) -> float:
    """Return a bound on any sum of both products; warns if it does not fit an accumulator.

    Scores: sum over g of 2^(groups - 1 - g) K_g 2^(2 bits - 2), K_g channels of group g.
    """
    parameters = plan.parameters
    channels = np.diff(plan.order.starts.reshape(-1, parameters.groups + 1), axis=1)
    doubled = channels @ 2.0 ** np.arange(parameters.groups - 1, -1, -1)
    scores = float(doubled.max()) * 4 ** (parameters.bits - 1)
    output = float(tile_k << (parameters.bits + parameters.weight_bits - 2))
    if plan.known:
        code, weight = parameters.code_format, parameters.weight_format
        warn_of_sums(name, machine, (code, code), scores, "fewer groups or fewer bits")
        warn_of_sums(name, machine, (weight, code), output, "a smaller tile_k or fewer bits")
    return max(scores, output)


def _integers(
    plan: Plan, tile_q: int, accumulator: al.Accumulator, hbm: Scales, buffers: Buffers
) -> Integers:
    return Integers(
        row_tiles=row_tiles(plan.spans, tile_q),
        chunks=len(plan.spans),
        groups=plan.order.groups,
        starts=plan.order.starts,
        factors=plan.factors,
        largest_weight=float(largest_code(plan.parameters.weight_bits)),
        accumulator=accumulator,
        hbm=hbm,
        **buffers,
    )


def _allocate(
    builder: al.ProgramBuilder, plan: Plan, tile_q: int, tile_k: int
) -> tuple[Buffers, Buffers]:
    """Declare the buffers for tiles of tile_q query and tile_k key rows.

    Returns those of `Integers` and those of the layout of `online_softmax`.
    """
    dim = plan.problem.head_dim
    formats = step_formats(plan.problem.dtype, "fp32", coded=plan.parameters.form)
    fp32, int32 = al.Format.FP32, al.Format.INT32
    code, weight = plan.parameters.code_format, plan.parameters.weight_format

    rows, keys = TilesOf(builder, tile_q, fp32), TilesOf(builder, tile_k, code)
    output = rows("output", dim)
    buffers = {
        "queries": rows("q", dim, code, 2),
        "order": builder.buffer("order", 1, dim, int32, slots=2, memory="index_buffer"),
        "keys": keys("k", dim, slots=2),
        "k_scale": builder.buffer("k_scale", 1, tile_k, fp32, slots=2),
        "values": keys("v", dim, slots=2),
        "v_scale": builder.buffer("v_scale", 1, dim, fp32, slots=2),
        "scores_acc": rows.sums("scores_acc", tile_k, int32),
        "output_acc": rows.sums("output_acc", dim, int32),
        "scores": rows("scores", tile_k, int32, 2),
        "x": rows("x", tile_k),
        "weights": rows("weights", tile_k, weight, 2),
        "sums": rows("sums", dim, int32),
        "product": rows("product", dim),
        "output": output,
        **allocate_output(rows, formats, output, dim),
        "row_max": rows("row_max", 1, slots=2),
        "row_sum": rows("row_sum", 1),
        "tile_sum": rows("tile_sum", 1),
        "rescale": rows("rescale", 1),
    }
    own = ("order", "k_scale", "v_scale", "sums")
    return {name: buffers.pop(name) for name in own}, buffers
