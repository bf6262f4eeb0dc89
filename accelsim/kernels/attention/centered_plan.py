"""What the centered kernel decides before its loop runs: parameters, tensors and buffers."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.common import Precision, declare_operands
from accelsim.kernels.attention.shifted import (
    Shape,
    ShiftedFormats,
    ShiftedParameters,
    Steps,
    allocate_steps,
    fit_shape,
    shifted_formats,
)
from accelsim.kernels.base import Array
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


class CenteredParameters(ShiftedParameters):
    """Choices of the centered kernel."""

    precision: Precision | None = None
    """fp32: every step in FP32; fp32_scores: FP32 scores and vector path, weights in the format of
    the output; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16 but the offsets and maxima
    of rows. Absent: fp16 for FP16 problems, fp32_scores for others. K' is in FP32 where scores are,
    else in FP16."""
    shift: Literal["once", "cached"] = "once"
    """Where K' and the tile means are made: once per KV head, or before, in the KV cache."""


class Tensors(NamedTuple):
    """Matrices in HBM; `means` has a row for each key tile."""

    q: Any
    k: Any
    v: Any
    o: Any
    shifted: Any
    means: Any


class Buffers(NamedTuple):
    """On-chip tiles beside the shared ones."""

    keys: Any
    ones: Any
    sums: Any
    wide: Any
    mean: Any
    offset: Any


class CenteredKeys(NamedTuple):
    """Values of a cache that holds centered keys."""

    shifted: Array
    means: Array


@dataclass(frozen=True, slots=True)
class Plan:
    """The choices for one problem on one machine."""

    name: str
    problem: AttentionProblem
    formats: ShiftedFormats
    shape: Shape

    @classmethod
    def of(
        cls, problem: AttentionProblem, machine: MachineSpec, parameters: CenteredParameters
    ) -> "Plan":
        """Return the plan with the tiles of the lowest estimated time; raises DoesNotFitError."""
        name = f"centered on {problem.name}"
        formats = shifted_formats(problem.dtype, parameters.precision, Format.FP32)
        is_shifted_first = parameters.shift == "once"
        shape = fit_shape(
            name,
            problem,
            machine,
            parameters,
            formats,
            lambda builder, tiles: _allocate(
                builder, problem.head_dim, formats, tiles, is_shifted_first
            ),
            is_shifted_first=is_shifted_first,
        )
        return cls(name, problem, formats, shape)

    def declare(
        self, builder: ProgramBuilder, tensors: AttentionTensors | None, cached: CenteredKeys | None
    ) -> Tensors:
        """Place the operands, K' and the tile means in HBM; `cached` are values in the KV cache."""
        operands = declare_operands(builder, self.problem, tensors)
        shape, fmt = self.shape, self.formats.shifted
        role: Literal["input", "intermediate"] = (
            "intermediate" if shape.is_shifted_first else "input"
        )
        shifted, means = cached or (None, None)
        rows, tiles = shape.kv_heads * shape.kv_len, shape.kv_heads * shape.tiles_k
        return Tensors(
            *operands,
            shifted=builder.tensor("k_shifted", role, rows, shape.dim, fmt, shifted),
            means=builder.tensor("k_means", role, tiles, shape.dim, fmt, means),
        )

    def allocate(self, builder: ProgramBuilder) -> tuple[Steps, Buffers]:
        """Declare the buffers."""
        shape = self.shape
        tiles = (shape.tile_q, shape.tile_k)
        return _allocate(builder, shape.dim, self.formats, tiles, shape.is_shifted_first)


def _allocate(
    builder: ProgramBuilder,
    dim: int,
    formats: ShiftedFormats,
    tiles: tuple[int, ...],
    is_centering: bool,
) -> tuple[Steps, Buffers]:
    tile_q, tile_k = tiles
    b = allocate_steps(builder, dim, formats, tiles, acc_rows=1)
    keys = ones = sums = wide = b.k  # stands for what a kernel that does not center has no use for
    if is_centering:
        keys = builder.buffer("k", tile_k, dim, formats.steps.stored, slots=2)
        ones = builder.buffer("ones", 1, tile_k, formats.shifted)
        sums = builder.buffer("sums", 1, dim, Format.FP32)
        wide = builder.buffer("wide", tile_k, dim, Format.FP32)
    return b, Buffers(
        keys=keys,
        ones=ones,
        sums=sums,
        wide=wide,
        mean=builder.buffer("mean", 1, dim, formats.shifted, slots=2),
        offset=builder.buffer("offset", tile_q, 1, Format.FP32, slots=2),
    )
