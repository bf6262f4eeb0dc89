"""How attention becomes integers: what is known before the run, and the phase that makes the codes.

Q has channel groups whose scales are powers of two apart (`accelsim.quantization.channel_groups`),
calibrated for every head and chunk of rows, without a bias: what is taken from a query would come
back as another product with every key. A key has one scale, found in the run, so that a cache can
grow. A column of V has one scale for all keys of its head, known before: the array adds over keys,
so a scale that changed with them could not leave the sum.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels import language as al
from accelsim.kernels.attention.integer.parameters import IntFlashParameters
from accelsim.kernels.attention.operands import Operands
from accelsim.kernels.integer.chunks import Order, even_groups, ordered, row_tiles, spans_of
from accelsim.kernels.integer.encoding import dynamic_loop, layout_of, static_loop
from accelsim.kernels.integer.known import Known, in_rows, input_tensor
from accelsim.kernels.integer.phases import Phase
from accelsim.quantization.channel_groups import ChannelGroups, Span, channel_groups
from accelsim.quantization.codes import check_finite, encode, largest_code, reciprocal, scale_of
from accelsim.quantization.schemes import per_row

_TILE_ROWS = 64
"""Rows of a tile of the quantizing phase: enough to hide the issue of an op."""


class Plan(NamedTuple):
    """One problem in integers."""

    problem: al.AttentionProblem
    parameters: IntFlashParameters
    known: Known
    order: Order
    """Channels of Q by group [heads x chunks, dim]; equally many in each group if not known."""
    factors: NDArray[np.float32]
    """What one unit of Q's sums is worth, over sqrt(head_dim) [heads x chunks]."""

    @classmethod
    def of(
        cls,
        problem: al.AttentionProblem,
        parameters: IntFlashParameters,
        tensors: al.AttentionTensors | None,
    ) -> "Plan":
        """Calibrate on the tensors; raises QuantizationError for values that are not finite."""
        options, dim = parameters.options, problem.head_dim
        if tensors is None:
            rows = problem.batch * problem.q_heads * len(options.chunk_starts(problem.q_len))
            even = ordered(even_groups(options.groups, dim, rows), options.groups, dim)
            return cls(problem, parameters, {}, even, np.ones(rows, np.float32))
        for name in ("q", "k", "v"):
            check_finite(getattr(tensors, name), name)
        heads = [channel_groups(head[None], options) for head in tensors.q]
        order = ordered(np.concatenate([head.group for head in heads]), options.groups, dim)
        last = np.concatenate([head.scale for head in heads]) * 2.0 ** (1 - options.groups)
        factors = (last / np.sqrt(dim)).astype(np.float32)
        return cls(problem, parameters, _known(parameters, tensors, heads), order, factors)

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
        starts = self.parameters.options.chunk_starts(self.problem.q_len)
        return spans_of(starts, self.problem.q_len)


def _known(
    parameters: IntFlashParameters, tensors: al.AttentionTensors, heads: list[ChannelGroups]
) -> Known:
    """Return what is known before the run; heads: how the queries of each are quantized."""
    dim, bits = tensors.q.shape[-1], parameters.bits
    k, v_steps = tensors.k.reshape(-1, dim), scale_of(np.abs(tensors.v).max(1), bits)
    of_output = (v_steps / largest_code(parameters.weight_bits)).astype(np.float32)
    if parameters.input == "quantized":
        keys, each = per_row(k, bits), zip(tensors.q, heads, strict=True)
        codes = [own.encode(q, span) for q, own in each for span in own.spans(len(q))]
        return {
            "q_codes": np.concatenate(codes),
            "k_codes": keys.codes,
            "k_scale": keys.scale.astype(np.float32),
            "v_codes": encode(tensors.v, v_steps[:, None], bits).reshape(-1, dim),
            "v_scale": of_output,
        }
    q_steps = [own.channel_scales(chunk) for own in heads for chunk in range(own.chunks)]
    return {
        "q": tensors.q.reshape(-1, dim),
        "q_reciprocal": reciprocal(np.stack(q_steps)),
        "k": k,
        "v": tensors.v.reshape(-1, dim),
        "v_reciprocal": reciprocal(v_steps),
        "v_scale": of_output,
    }


class Scales(NamedTuple):
    """Matrices in HBM beside the codes of Q, K and V, and the output."""

    keys: al.Tensor
    """Step of every key [kv_heads, kv_len]: the column that keys were stored with, read as rows."""
    values: al.Tensor
    """Value of one step of weights and values together [kv_heads, dim]."""
    order: al.Tensor
    """Channels of Q by group [heads x chunks, dim]."""


def declare(
    builder: al.ProgramBuilder, plan: Plan, buffers: dict[str, al.Buffer]
) -> tuple[Operands, Scales, Phase]:
    """Place operands in HBM, and say what makes the codes.

    buffers: those of `allocate_coding`; none: the codes are there already.
    """
    problem, dim, fp32 = plan.problem, plan.problem.head_dim, al.Format.FP32
    known = {**plan.known, "order": plan.order.channels}
    place = partial(input_tensor, builder, known)
    coder = _Coder(builder, plan, buffers)
    q, k, v, k_scale = coder.make() if buffers else coder.made_before()
    scales = Scales(
        keys=in_rows(k_scale, plan.kv_heads, problem.kv_len),
        values=place("v_scale", plan.kv_heads, dim, fp32),
        order=place("order", len(plan.factors), dim, al.Format.INT32),
    )
    q_rows = plan.heads * problem.q_len
    o = builder.no_tensor(problem.output_dtype)
    if plan.parameters.form is None:
        o = builder.tensor("o", "output", q_rows, dim, problem.output_dtype)
    return Operands(q, k, v, o, builder.no_tensor()), scales, coder.phase


class _Coder:
    """Places Q, K, V and their codes, and notes the loops that make these."""

    def __init__(
        self, builder: al.ProgramBuilder, plan: Plan, buffers: dict[str, al.Buffer]
    ) -> None:
        self.builder, self.plan, self.buffers = builder, plan, buffers
        self.place = partial(input_tensor, builder, plan.known)
        self.dim, self.code = plan.problem.head_dim, plan.parameters.code_format
        self.kv_rows = plan.kv_heads * plan.problem.kv_len
        self.phase: Phase = []

    def made_before(self) -> tuple[al.Tensor, ...]:
        """Place codes of Q, K and V, and scales of keys, that their producers have made."""
        rows = {"q": self.plan.heads * self.plan.problem.q_len, "k": self.kv_rows}
        rows["v"] = self.kv_rows
        codes = [self.place(f"{name}_codes", rows[name], self.dim, self.code) for name in rows]
        return (*codes, self.place("k_scale", self.kv_rows, 1, al.Format.FP32))

    def make(self) -> tuple[al.Tensor, ...]:
        """Return the codes of Q, K and V, and the scales of keys, that are made here."""
        plan, q_len, kv_len = self.plan, self.plan.problem.q_len, self.plan.problem.kv_len
        q_spans = [
            Span(head * len(plan.spans) + chunk, head * q_len + start, head * q_len + stop)
            for head in range(plan.heads)
            for chunk, start, stop in plan.spans
        ]
        v_spans = [Span(head, head * kv_len, (head + 1) * kv_len) for head in range(plan.kv_heads)]
        q = self._static("q", q_spans)
        k, k_scale = self._dynamic("k", self.kv_rows)
        return q, k, self._static("v", v_spans), k_scale

    def _static(self, name: str, spans: list[Span]) -> al.Tensor:
        """Quantize with steps that are known before; spans: rows of the chunks, in order."""
        hbm, chunks = self._matrices(name, spans[-1].stop), spans[-1].chunk + 1
        hbm["reciprocal"] = self.place(f"{name}_reciprocal", chunks, self.dim, al.Format.FP32)
        tiles = row_tiles(spans, _TILE_ROWS)
        self.phase.append(static_loop(layout_of(self.builder, tiles, hbm, self.buffers)))
        return hbm["codes"]

    def _dynamic(self, name: str, rows: int) -> tuple[al.Tensor, al.Tensor]:
        """Quantize every row by its own peak; returns codes and scales [rows, 1]."""
        scale = self.builder.tensor(f"{name}_scale", "intermediate", rows, 1, al.Format.FP32)
        hbm = {**self._matrices(name, rows), "row_scale": scale}
        tiles = row_tiles([Span(0, 0, rows)], _TILE_ROWS)
        self.phase.append(dynamic_loop(layout_of(self.builder, tiles, hbm, self.buffers)))
        return hbm["codes"], scale

    def _matrices(self, name: str, rows: int) -> dict[str, al.Tensor]:
        return {
            "x": self.place(name, rows, self.dim, self.plan.problem.dtype),
            "codes": self.builder.tensor(
                f"{name}_codes", "intermediate", rows, self.dim, self.code
            ),
        }


def allocate_coding(builder: al.ProgramBuilder, plan: Plan) -> dict[str, al.Buffer]:
    """Declare the buffers of the quantizing phase, which Q, K and V use in turn."""
    dim = plan.problem.head_dim

    def double(name: str, rows: int, cols: int, fmt: al.Format = al.Format.FP32) -> al.Buffer:
        return builder.buffer(f"source{name}", rows, cols, fmt, slots=2)

    return {
        "x": double("", _TILE_ROWS, dim, plan.problem.dtype),
        "wide": double("_wide", _TILE_ROWS, dim),
        "peak": double("_peak", _TILE_ROWS, 1),
        "reciprocal": double("_reciprocal", 1, dim),
        "codes": double("_code", _TILE_ROWS, dim, plan.parameters.code_format),
        "part": double("_part", _TILE_ROWS, 1),
        "scale": double("_step", _TILE_ROWS, 1),
    }
