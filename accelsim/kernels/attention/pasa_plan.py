"""What the pasa kernel decides before its loop runs: parameters, constants, tensors and buffers."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from accelsim.errors import ConfigError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.beta import Condition, PseudoAverage, solve_pseudo_average
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
from accelsim.numerics.rounding import round_array
from accelsim.program.builder import ProgramBuilder
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


class PasaParameters(ShiftedParameters):
    """Choices of the pasa kernel."""

    precision: Precision | None = None
    """fp32: every step in FP32; fp32_scores: FP32 scores and vector path, weights in the format of
    the output; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16. Absent: fp16 for FP16
    problems, fp32_scores for others. K' is in FP32 where scores are, else in FP16."""
    statistics: Literal["fp16", "fp32"] | None = None
    """Format of means, offsets and maxima of rows; absent: that of the vector path."""
    beta: float = Field(default=0.9375, gt=0, lt=1)
    """Share of the mean to take off, where the search for the condition starts. The default,
    1 - 2^-4, multiplies the rounding of the row means least of the published three."""
    condition: Condition = "corrected"
    """Which beta is optimal: corrected accounts for the scale in M, published does not."""
    shift: Literal["once", "per_query_tile", "cached"] = "once"
    """Where K' is made: once per KV head, by every query tile, or before, in the KV cache."""


class Constants(NamedTuple):
    """What belongs to M, and what a tile needs to know of its place."""

    recovery: float
    mean_share: float
    """1 / n, by which a sum becomes a mean."""
    shares: Any
    """float32 [2, tiles_k]: weights of mu_j and F_j-1 in F_j."""
    tail_copies: int
    """Copies of the last keys that fill up the last tile."""
    is_shifted_by_rows: bool
    """Whether every query tile makes its own K'."""


class Tensors(NamedTuple):
    """Matrices in HBM; `shifted` holds K' with the copies that fill up the last tiles."""

    q: Any
    k: Any
    v: Any
    o: Any
    matrix: Any
    shifted: Any


class Buffers(NamedTuple):
    """On-chip tiles beside the shared ones."""

    keys: Any
    matrix: Any
    mean: Any
    frame: Any
    old_frame: Any
    tile_shift: Any
    old_shift: Any
    tile_end: Any


@dataclass(frozen=True, slots=True)
class Plan:
    """The choices for one problem on one machine."""

    name: str
    problem: AttentionProblem
    shift: Literal["once", "per_query_tile", "cached"]
    formats: ShiftedFormats
    average: PseudoAverage
    shape: Shape
    constants: Constants

    @classmethod
    def of(
        cls, problem: AttentionProblem, machine: MachineSpec, parameters: PasaParameters
    ) -> "Plan":
        """Return the plan with the tiles of the lowest estimated time.

        Raises DoesNotFitError, ConfigError.
        """
        name = f"pasa on {problem.name}"
        statistics = Format(parameters.statistics) if parameters.statistics else None
        formats = shifted_formats(problem.dtype, parameters.precision, statistics)
        _check_statistics(formats)
        shape = fit_shape(
            name,
            problem,
            machine,
            parameters,
            formats,
            lambda builder, tiles: _allocate(
                builder, problem.head_dim, formats, tiles, parameters.shift != "cached"
            ),
            is_shifted_first=parameters.shift == "once",
        )
        average = solve_pseudo_average(
            parameters.beta, shape.tile_k, shape.scale, parameters.condition, formats.shifted
        )
        constants = _constants(shape, formats, average, parameters.shift == "per_query_tile")
        return cls(name, problem, parameters.shift, formats, average, shape, constants)

    @property
    def chosen(self) -> dict[str, int | str]:
        """Values of the parameters that may be left to the kernel."""
        return {**self.shape.chosen, "statistics": str(self.formats.statistics)}

    def declare(
        self, builder: ProgramBuilder, tensors: AttentionTensors | None, cached: Array | None
    ) -> Tensors:
        """Place the operands, M and K' in HBM; `cached` are the values of a K' in the KV cache."""
        operands = declare_operands(builder, self.problem, tensors)
        keys, fmt = self.shape.tile_k, self.formats.shifted
        rows = self.shape.kv_heads * self.shape.tiles_k * keys
        matrix = shifted = operands.k  # stands for what this way of shifting does not touch
        if self.shift != "cached":
            matrix = builder.tensor("m", "input", keys, keys, fmt, self._matrix())
        if self.shift == "once":
            shifted = builder.tensor("k_shifted", "intermediate", rows, self.shape.dim, fmt)
        elif self.shift == "cached":
            shifted = builder.tensor("k_shifted", "input", rows, self.shape.dim, fmt, cached)
        return Tensors(*operands, matrix, shifted)

    def allocate(self, builder: ProgramBuilder) -> tuple[Steps, Buffers]:
        """Declare the buffers."""
        tiles = (self.shape.tile_q, self.shape.tile_k)
        return _allocate(builder, self.shape.dim, self.formats, tiles, self.shift != "cached")

    def _matrix(self) -> Array:
        size = self.shape.tile_k
        matrix = np.full((size, size), self.average.off_diagonal, np.float32)
        np.fill_diagonal(matrix, self.average.diagonal)
        return matrix


def _check_statistics(formats: ShiftedFormats) -> None:
    """Refuse statistics that hold less than the numbers they are of."""
    if formats.statistics == Format.FP16 and formats.steps.vector != Format.FP16:
        raise ConfigError(
            [
                f"statistics: found fp16 with a vector path in {formats.steps.vector}, "
                f"allowed: fp32, or precision fp16"
            ]
        )


def _constants(
    shape: Shape, formats: ShiftedFormats, average: PseudoAverage, is_shifted_by_rows: bool
) -> Constants:
    """Return the constants, rounded to the formats they are used in."""
    keys, statistics = shape.tile_k, formats.statistics
    count = np.arange(1, shape.tiles_k + 1)
    recovery, mean_share = round_array([average.recovery, 1 / keys], statistics)
    return Constants(
        recovery=float(recovery),
        mean_share=float(mean_share),
        shares=round_array([1 / count, (count - 1) / count], statistics),
        tail_copies=-shape.kv_len % keys,
        is_shifted_by_rows=is_shifted_by_rows,
    )


def _allocate(
    builder: ProgramBuilder,
    dim: int,
    formats: ShiftedFormats,
    tiles: tuple[int, ...],
    is_shifting: bool,
) -> tuple[Steps, Buffers]:
    tile_q, tile_k = tiles
    b = allocate_steps(builder, dim, formats, tiles, acc_rows=tile_k if is_shifting else 0)
    keys = matrix = b.k  # stands for what a kernel that does not shift has no use for
    if is_shifting:
        keys = builder.buffer("k", tile_k, dim, formats.steps.stored, slots=2)
        matrix = builder.buffer("m", tile_k, tile_k, formats.shifted)

    def column(name: str, slots: int = 1) -> Any:
        return builder.buffer(name, tile_q, 1, formats.statistics, slots=slots)

    return b, Buffers(
        keys=keys,
        matrix=matrix,
        mean=column("mean"),
        frame=column("frame", slots=2),
        old_frame=column("old_frame"),
        tile_shift=column("tile_shift"),
        old_shift=column("old_shift"),
        tile_end=column("tile_end"),
    )
