"""How attention becomes integers: what is known before the run, and the phase that makes the codes.

Q has channel groups whose scales are powers of two apart (`accelsim.quantization.channel_groups`),
calibrated for every head and chunk of rows, without a bias: what is taken from a query would come
back as another product with every key. A key has one scale, found in the run, so that a cache can
grow. A column of V has one scale for all keys of its head, known before: the array adds over keys,
so a scale that changed with them could not leave the sum.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.integer.chunks import Order, even_groups, ordered, row_tiles, spans_of
from accelsim.kernels.integer.encoding import dynamic_loop, layout_of, static_loop
from accelsim.kernels.integer.phases import Loop, Phase
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer, Tensor
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
        return spans_of(self.options.chunk_starts(self.problem.q_len), self.problem.q_len)

    @property
    def code_format(self) -> Format:
        """Format of the codes of Q, K and V."""
        return Format(f"int{self.options.bits}")

    def order(self) -> Order:
        """Return the channels by group; equally many in each group where nothing is known."""
        dim, groups = self.problem.head_dim, self.options.groups
        if self.known is not None:
            return ordered(self.known.q_group, groups, dim)
        return ordered(even_groups(groups, dim, self.heads * len(self.spans)), groups, dim)

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

    q: Tensor
    """Codes [heads x q_len, dim]."""
    k: Tensor
    """Codes [kv_heads x kv_len, dim]."""
    v: Tensor
    """Codes [kv_heads x kv_len, dim]."""
    k_scale: Tensor
    """Step of every key [kv_heads, kv_len]: the column that keys were stored with, read as rows."""
    v_scale: Tensor
    """Value of one step of weights and values together [kv_heads, dim]."""
    order: Tensor
    """Channels of Q by group [heads x chunks, dim]."""
    o: Tensor
    """[heads x q_len, dim]"""


def declare(
    builder: ProgramBuilder, plan: Plan, weight_bits: int, buffers: dict[str, Buffer]
) -> tuple[Operands, Phase]:
    """Place operands in HBM, and say what makes the codes.

    buffers: those of `allocate_coding`; none: the codes are there already.
    """
    problem, known, dim = plan.problem, plan.known, plan.problem.head_dim
    (q, k, v, k_scale), coding = (
        _made_here(builder, plan, buffers) if buffers else (_made_before(builder, plan), [])
    )
    chunks, q_rows = plan.heads * len(plan.spans), plan.heads * problem.q_len
    v_scale = known and (known.v_steps / largest_code(weight_bits)).astype(np.float32)
    operands = Operands(
        q=q,
        k=k,
        v=v,
        k_scale=_in_rows(k_scale, plan.kv_heads, problem.kv_len),
        v_scale=builder.tensor("v_scale", "input", plan.kv_heads, dim, Format.FP32, v_scale),
        order=builder.tensor("order", "input", chunks, dim, Format.INT32, plan.order().channels),
        o=builder.tensor("o", "output", q_rows, dim, problem.output_dtype),
    )
    return operands, coding


def _in_rows(column: Tensor, rows: int, cols: int) -> Tensor:
    """Return a column [rows x cols, 1] as the matrix [rows, cols] that lies there."""
    data = None if column.data is None else column.data.reshape(rows, cols)
    row_bytes = cols * column.bits // BITS_PER_BYTE
    return column._replace(rows=rows, cols=cols, row_bytes=row_bytes, data=data)


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
    """Places matrices beside their codes."""

    builder: ProgramBuilder
    plan: Plan
    buffers: dict[str, Buffer]

    def static(
        self, name: str, data: Values | None, steps: Scales | None, spans: list[Span]
    ) -> tuple[Tensor, Loop]:
        """Quantize with steps that are known before; spans: rows of the chunks, in order.

        Returns the codes and the loop that makes them.
        """
        chunks, dim = spans[-1].chunk + 1, self.plan.problem.head_dim
        factors = None if steps is None else reciprocal(steps)
        hbm = self._matrices(name, data, spans[-1].stop)
        hbm["reciprocal"] = self.builder.tensor(
            f"{name}_reciprocal", "input", chunks, dim, Format.FP32, factors
        )
        tiles = row_tiles(spans, _TILE_ROWS)
        return hbm["codes"], static_loop(layout_of(self.builder, tiles, hbm, self.buffers))

    def dynamic(self, name: str, data: Values | None, rows: int) -> tuple[Tensor, Tensor, Loop]:
        """Quantize every row by its own peak; returns codes, scales [rows, 1] and the loop."""
        scale = self.builder.tensor(f"{name}_scale", "intermediate", rows, 1, Format.FP32)
        hbm = {**self._matrices(name, data, rows), "row_scale": scale}
        tiles = row_tiles([Span(0, 0, rows)], _TILE_ROWS)
        loop = dynamic_loop(layout_of(self.builder, tiles, hbm, self.buffers))
        return hbm["codes"], scale, loop

    def _matrices(self, name: str, data: Values | None, rows: int) -> dict[str, Tensor]:
        dim, stored, code = (
            self.plan.problem.head_dim,
            self.plan.problem.dtype,
            self.plan.code_format,
        )
        return {
            "x": self.builder.tensor(name, "input", rows, dim, stored, data),
            "codes": self.builder.tensor(f"{name}_codes", "intermediate", rows, dim, code),
        }


def _made_here(
    builder: ProgramBuilder, plan: Plan, buffers: dict[str, Buffer]
) -> tuple[tuple[Tensor, ...], Phase]:
    """Place Q, K, V and their codes, and return the loops that make these."""
    coder, known, kv_len = _Coder(builder, plan, buffers), plan.known, plan.problem.kv_len
    chunks, q_len = len(plan.spans), plan.problem.q_len
    q_spans = [
        Span(head * chunks + span.chunk, head * q_len + span.start, head * q_len + span.stop)
        for head in range(plan.heads)
        for span in plan.spans
    ]
    v_spans = [Span(head, head * kv_len, (head + 1) * kv_len) for head in range(plan.kv_heads)]
    q, q_loop = coder.static("q", known and known.q, known and known.q_steps, q_spans)
    k, k_scale, k_loop = coder.dynamic("k", known and known.k, plan.kv_heads * kv_len)
    v, v_loop = coder.static("v", known and known.v, known and known.v_steps, v_spans)
    return (q, k, v, k_scale), [q_loop, k_loop, v_loop]


def allocate_coding(builder: ProgramBuilder, plan: Plan) -> dict[str, Buffer]:
    """Declare the buffers of the quantizing phase, which Q, K and V use in turn."""
    dim = plan.problem.head_dim

    def double(name: str, rows: int, cols: int, fmt: Format = Format.FP32) -> Buffer:
        return builder.buffer(f"source{name}", rows, cols, fmt, slots=2)

    return {
        "x": double("", _TILE_ROWS, dim, plan.problem.dtype),
        "wide": double("_wide", _TILE_ROWS, dim),
        "peak": double("_peak", _TILE_ROWS, 1),
        "reciprocal": double("_reciprocal", 1, dim),
        "codes": double("_code", _TILE_ROWS, dim, plan.code_format),
        "part": double("_part", _TILE_ROWS, 1),
        "scale": double("_step", _TILE_ROWS, 1),
    }
