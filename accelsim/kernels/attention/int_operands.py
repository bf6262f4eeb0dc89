"""How attention becomes integers: what is known before the run, and the phase that makes the codes.

Q has channel groups whose scales are powers of two apart (`accelsim.quantization.channel_groups`),
calibrated for every head and chunk of rows, without a bias: what is taken from a query would come
back as another product with every key. A key has one scale, found in the run, so that a cache can
grow. A column of V has one scale for all keys of its head, known before: the array adds over keys,
so a scale that changed with them could not leave the sum.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.linear.integer.codes import (
    CodeBuffers,
    CodeMatrices,
    CodeShape,
    quantize_dynamic,
    quantize_static,
)
from accelsim.kernels.linear.integer.operands import Order, even_groups, ordered, row_tiles
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Tensor
from accelsim.quantization.channel_groups import GroupOptions, Span, channel_groups
from accelsim.quantization.codes import (
    Codes,
    Scales,
    Values,
    check_finite,
    encode,
    largest_code,
    reciprocal,
    scale_of,
)
from accelsim.quantization.schemes import per_row
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

_TILE_ROWS = 64
"""Rows of a tile of the quantizing phase: enough to hide the issue of an op."""

Array = NDArray[Any]


class Known(NamedTuple):
    """What is computed before the run from the numbers."""

    q: Values
    """[heads x q_len, dim]"""
    k: Values
    """[kv_heads x kv_len, dim]"""
    v: Values
    """[kv_heads x kv_len, dim]"""
    q_steps: Scales
    """Value of one step of every channel [heads x chunks, dim]."""
    q_group: NDArray[np.uint8]
    """Group of every channel [heads x chunks, dim]."""
    v_steps: Scales
    """Value of one step of every column [kv_heads, dim]."""


class Plan(NamedTuple):
    """One problem in integers of `bits`, whose queries are calibrated with `options`."""

    problem: AttentionProblem
    options: GroupOptions
    known: Known | None
    """None: cost only."""

    @classmethod
    def of(
        cls, problem: AttentionProblem, options: GroupOptions, tensors: AttentionTensors | None
    ) -> "Plan":
        """Calibrate on the tensors; raises QuantizationError for values that are not finite."""
        if tensors is None:
            return cls(problem, options, None)
        for name in ("q", "k", "v"):
            check_finite(getattr(tensors, name), name)
        heads = [channel_groups(head[None], options) for head in tensors.q]
        steps = [head.channel_scales(chunk) for head in heads for chunk in range(head.chunks)]
        dim = problem.head_dim
        known = Known(
            q=tensors.q.reshape(-1, dim),
            k=tensors.k.reshape(-1, dim),
            v=tensors.v.reshape(-1, dim),
            q_steps=np.stack(steps),
            q_group=np.concatenate([head.group for head in heads]),
            v_steps=scale_of(np.abs(tensors.v).max(1), options.bits),
        )
        return cls(problem, options, known)

    @property
    def heads(self) -> int:
        """Query heads of all sequences."""
        return self.problem.batch * self.problem.q_heads

    @property
    def kv_heads(self) -> int:
        """KV heads of all sequences."""
        return self.problem.batch * self.problem.kv_heads

    @property
    def spans(self) -> list[Span]:
        """Rows of the chunks of every head."""
        starts = self.options.chunk_starts(self.problem.q_len)
        ends = [*starts[1:], self.problem.q_len]
        return [Span(*each) for each in zip(range(len(starts)), starts, ends, strict=True)]

    @property
    def code_format(self) -> Format:
        """Format of the codes of Q, K and V."""
        return Format(f"int{self.options.bits}")

    def order(self) -> Order:
        """Return the channels by group; equally many in each group where nothing is known."""
        dim, groups = self.problem.head_dim, self.options.groups
        if self.known is not None:
            return ordered(self.known.q_group, groups, dim)
        even = even_groups(groups, dim)
        return ordered(np.repeat(even, self.heads * len(self.spans), axis=0), groups, dim)

    def largest_score_sum(self) -> float:
        """Return a bound on any sum of scores, sum_g 2^(groups - 1 - g) K_g 2^(2 bits - 2)."""
        groups = self.options.groups
        channels = np.diff(self.order().starts.reshape(-1, groups + 1), axis=1)
        doubled = channels @ 2.0 ** np.arange(groups - 1, -1, -1)
        return float(doubled.max()) * 4 ** (self.options.bits - 1)

    def score_factors(self) -> NDArray[np.float32]:
        """Return what one unit of Q's sums is worth, over sqrt(head_dim) [heads x chunks]."""
        if self.known is None:
            return np.ones(self.heads * len(self.spans), np.float32)
        last = self.known.q_steps / 2.0 ** -self.known.q_group.astype(np.float64)
        last = last[:, 0] * 2.0 ** (1 - self.options.groups)
        factors: NDArray[np.float32] = (last / np.sqrt(self.problem.head_dim)).astype(np.float32)
        return factors


class Operands(NamedTuple):
    """Matrices in HBM, all heads one after the other."""

    q: Any
    """Codes [heads x q_len, dim]."""
    k: Any
    """Codes [kv_heads x kv_len, dim]."""
    v: Any
    """Codes [kv_heads x kv_len, dim]."""
    k_scale: Any
    """Step of every key [kv_heads, kv_len]: the column that keys were stored with, read as rows."""
    v_scale: Any
    """Value of one step of weights and values together [kv_heads, dim]."""
    order: Any
    """Channels of Q by group [heads x chunks, dim]."""
    o: Any
    """[heads x q_len, dim]"""


class Coding(NamedTuple):
    """A loop of the quantizing phase: kernel(p, phase, *arguments)."""

    kernel: Callable[..., None]
    items: int
    arguments: tuple[Any, ...]


def declare(
    builder: ProgramBuilder, plan: Plan, weight_bits: int, b: CodeBuffers | None
) -> tuple[Operands, list[Coding]]:
    """Place operands in HBM, and say what makes the codes: nothing if they are there already."""
    problem, known, dim = plan.problem, plan.known, plan.problem.head_dim
    (q, k, v, k_scale), codings = (
        (_made_before(builder, plan), []) if b is None else _made_here(builder, plan, b)
    )
    row_bytes = problem.kv_len * Format.FP32.bits // BITS_PER_BYTE
    by_head = None if k_scale.data is None else k_scale.data.reshape(plan.kv_heads, -1)
    chunks = plan.heads * len(plan.spans)
    v_scale = known and (known.v_steps / largest_code(weight_bits)).astype(np.float32)
    order = known and plan.order().channels
    q_rows = plan.heads * problem.q_len
    operands = Operands(
        q=q,
        k=k,
        v=v,
        k_scale=k_scale._replace(
            rows=plan.kv_heads, cols=problem.kv_len, row_bytes=row_bytes, data=by_head
        ),
        v_scale=builder.tensor("v_scale", "input", plan.kv_heads, dim, Format.FP32, v_scale),
        order=builder.tensor("order", "input", chunks, dim, Format.INT32, order),
        o=builder.tensor("o", "output", q_rows, dim, problem.output_dtype),
    )
    return operands, codings


def _made_before(builder: ProgramBuilder, plan: Plan) -> tuple[Tensor, ...]:
    """Place codes that the producers of Q, K and V have made."""
    dim, fmt, known = plan.problem.head_dim, plan.code_format, plan.known
    q_rows, kv_rows = plan.heads * plan.problem.q_len, plan.kv_heads * plan.problem.kv_len
    keys = known and per_row(known.k, plan.options.bits)
    return (
        builder.tensor("q_codes", "input", q_rows, dim, fmt, known and _query_codes(plan, known)),
        builder.tensor("k_codes", "input", kv_rows, dim, fmt, keys and keys.codes),
        builder.tensor("v_codes", "input", kv_rows, dim, fmt, known and _value_codes(plan, known)),
        builder.tensor(
            "k_scale", "input", kv_rows, 1, Format.FP32, keys and keys.scale.astype(np.float32)
        ),
    )


def _query_codes(plan: Plan, known: Known) -> Codes:
    by_head = known.q.reshape(plan.heads, -1, plan.problem.head_dim)
    steps = known.q_steps.reshape(plan.heads, -1, 1, plan.problem.head_dim)
    parts = [
        encode(by_head[:, span.start : span.stop], steps[:, span.chunk], plan.options.bits)
        for span in plan.spans
    ]
    return np.concatenate(parts, axis=1).reshape(known.q.shape)


def _value_codes(plan: Plan, known: Known) -> Codes:
    by_head = known.v.reshape(plan.kv_heads, -1, plan.problem.head_dim)
    return encode(by_head, known.v_steps[:, None], plan.options.bits).reshape(known.v.shape)


class _Coder(NamedTuple):
    """Places matrices beside their codes and notes the loops that make these."""

    builder: ProgramBuilder
    plan: Plan
    b: CodeBuffers

    def static(
        self, name: str, data: Values | None, steps: Scales | None, spans: list[Span]
    ) -> tuple[Tensor, Coding]:
        """Quantize with steps that are known before; spans: rows of the chunks, in order."""
        chunks, dim = spans[-1].chunk + 1, self.plan.problem.head_dim
        factors = None if steps is None else reciprocal(steps)
        hbm = self._matrices(name, data, spans[-1].stop)._replace(
            reciprocal=self.builder.tensor(
                f"{name}_reciprocal", "input", chunks, dim, Format.FP32, factors
            )
        )
        tiles = row_tiles(spans, _TILE_ROWS)
        arguments = (tiles, False, self._shape, hbm, self.b)
        return hbm.codes, Coding(quantize_static, len(tiles), arguments)

    def dynamic(self, name: str, data: Values | None, rows: int) -> tuple[Tensor, Tensor, Coding]:
        """Quantize every row by its own peak; returns codes, scales [rows, 1] and the loop."""
        scale = self.builder.tensor(f"{name}_scale", "intermediate", rows, 1, Format.FP32)
        hbm = self._matrices(name, data, rows)._replace(row_scale=scale)
        tiles = row_tiles([Span(0, 0, rows)], _TILE_ROWS)
        arguments = (tiles, False, self._shape, hbm, self.b)
        return hbm.codes, scale, Coding(quantize_dynamic, len(tiles), arguments)

    def _matrices(self, name: str, data: Values | None, rows: int) -> CodeMatrices:
        problem = self.plan.problem
        x = self.builder.tensor(name, "input", rows, problem.head_dim, problem.dtype, data)
        codes = self.builder.tensor(
            f"{name}_codes", "intermediate", rows, problem.head_dim, self.plan.code_format
        )
        return CodeMatrices(x, x, x, x, codes, codes)

    @property
    def _shape(self) -> CodeShape:
        dim, largest = self.plan.problem.head_dim, largest_code(self.plan.options.bits)
        return CodeShape(dim, dim, self.plan.code_format.code, float(largest))


def _made_here(
    builder: ProgramBuilder, plan: Plan, b: CodeBuffers
) -> tuple[tuple[Tensor, ...], list[Coding]]:
    """Place Q, K, V and their codes, and return the loops that make these."""
    coder, known, kv_len = _Coder(builder, plan, b), plan.known, plan.problem.kv_len
    chunks, q_len = len(plan.spans), plan.problem.q_len
    q_spans = [
        Span(head * chunks + span.chunk, head * q_len + span.start, head * q_len + span.stop)
        for head in range(plan.heads)
        for span in plan.spans
    ]
    v_spans = [Span(head, head * kv_len, (head + 1) * kv_len) for head in range(plan.kv_heads)]
    q, q_coding = coder.static("q", known and known.q, known and known.q_steps, q_spans)
    k, k_scale, k_coding = coder.dynamic("k", known and known.k, plan.kv_heads * kv_len)
    v, v_coding = coder.static("v", known and known.v, known and known.v_steps, v_spans)
    return (q, k, v, k_scale), [q_coding, k_coding, v_coding]


def allocate_coding(builder: ProgramBuilder, plan: Plan) -> CodeBuffers:
    """Declare the buffers of the quantizing phase, which Q, K and V use in turn."""
    dim, fp32 = plan.problem.head_dim, Format.FP32
    x = builder.buffer("source", _TILE_ROWS, dim, plan.problem.dtype, slots=2)
    wide = builder.buffer("source_wide", _TILE_ROWS, dim, fp32, slots=2)
    peak = builder.buffer("source_peak", _TILE_ROWS, 1, fp32, slots=2)
    return CodeBuffers(
        x=x,
        wide=wide,
        bias=wide,
        reciprocal=builder.buffer("source_reciprocal", 1, dim, fp32, slots=2),
        codes=builder.buffer("source_code", _TILE_ROWS, dim, plan.code_format, slots=2),
        peak=peak,
        part=builder.buffer("source_part", _TILE_ROWS, 1, fp32, slots=2),
        scale=builder.buffer("source_step", _TILE_ROWS, 1, fp32, slots=2),
        peaks=peak,
    )
