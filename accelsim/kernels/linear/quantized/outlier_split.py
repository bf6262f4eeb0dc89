"""Mixed precision by channels: outliers in floating point on the cube, the rest in integers.

Which input channels are outliers is known before the run. Their columns of X and rows of W stay in
the problem's format and the cube multiplies them, while the integer array multiplies the codes of
all others, with a scale for each row of X, found in the run, and for each column of W. Both
products of a tile are independent and run at the same time; the vector unit scales the integer
sums, adds the others in FP32, and rounds once.

What produced X stores it as two matrices, the outliers beside the rest: as they are known, that is
an order of its output columns.

Sources: Dettmers et al., "LLM.int8()", arXiv 2208.07339, section 3.2 (outliers of a magnitude, the
rest by row and column); Park, Kim and Yoo, "Energy-efficient Neural Network Accelerator Based on
Outlier-aware Low-precision Computation" (OLAccel), ISCA 2018 (a fixed share of outliers). OLAccel's
outliers are single values in 16-bit integers, and LLM.int8() finds the channels in every input.

HBM traffic in bytes: that of `quantized` with k less the o outliers, and loads of m o B x for their
columns of X (T instead of B if they take several steps) and R o n x for their rows of W; x bytes an
element, R row tiles, B blocks of the T column tiles.
"""

from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from accelsim.config.spec import PositiveValue, Spec
from accelsim.errors import QuantizationError
from accelsim.kernels.integer.known import Known, input_tensor
from accelsim.kernels.linear.integer.frame import QuantizedLinear
from accelsim.kernels.linear.integer.operands import (
    check_activations,
    column_scales,
    dynamic_codes,
    quantized_weights,
)
from accelsim.kernels.linear.integer.parameters import QuantizedParameters, input_peaks
from accelsim.kernels.linear.integer.scheme import Plan, Scheme, Work, nothing_beside
from accelsim.kernels.linear.integer.steps import (
    drain,
    is_first_use,
    multiply_panels,
    num_items,
    place_of,
    rows_turn,
    scale_sums,
    store_output,
    tiles_of,
)
from accelsim.kernels.linear.integer.tiles import Tiles
from accelsim.kernels.linear.quantized.quantized import quantized
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer, Tensor
from accelsim.quantization.channel_groups import Span
from accelsim.quantization.schemes import channels_above, top_channels
from accelsim.runtime.jit import jit, jit_inner
from accelsim.units import ceil_div
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors

_LARGEST_STEP = 128
"""Outlier channels that the cube takes at once; a typical layer has no more."""
_OLACCEL_SHARE = 0.03
"""Outliers of OLAccel's evaluation (ISCA 2018): 3 % of the values."""


class OutlierSplitParameters(QuantizedParameters):
    """Choices of the outlier_split kernel."""

    outlier_share: Annotated[float, Field(ge=0, lt=1)] = _OLACCEL_SHARE
    """Share of the input channels that are outliers, those with the largest values; also what is
    assumed where a magnitude is asked for and there are no numbers."""
    outlier_magnitude: PositiveValue | None = None
    """Channels with a value of at least this are outliers, in place of a share; LLM.int8(): 6."""


class _Outliers(NamedTuple):
    """Sizes in elements, matrices in HBM and on-chip tiles of the outlier channels."""

    channels: int
    step: int
    """Channels that are multiplied at once."""
    steps: int
    x: Tensor
    """[m, channels]"""
    w: Tensor
    """[channels, n]"""
    left: Buffer
    right: Buffer
    acc: Buffer
    sums: Buffer


@jit
def outlier_split(p, phase, outliers, k):
    """All tiles of Y: the product of codes, and beside it that of the outliers."""
    for item in range(num_items(k)):
        al.begin_item(p, phase)
        for number in range(tiles_of(item, k)):
            at = place_of(item, number, k)
            acc = multiply_panels(p, at, k)
            kept = _multiply_outliers(p, at, outliers)
            wide = drain(p, at.col_tile, acc, k)
            scale_sums(p, wide, at, k)
            al.add(p, wide, wide, kept)
            store_output(p, wide, at, k)


@jit_inner
def _multiply_outliers(p, at, k):
    """Return the product of the outlier channels of a tile in FP32."""
    acc = al.tile(k.acc, at.col_tile, at.rows, at.cols)
    for step in range(k.steps):
        start = step * k.step
        depth = min(k.step, k.channels - start)
        left = al.tile(k.left, rows_turn(step, k.steps, at), at.rows, depth)
        right = al.tile(k.right, at.turn * k.steps + step, depth, at.cols)
        if is_first_use(k.steps, at):
            al.load(p, left, k.x, at.row, start)
        al.load(p, right, k.w, start, at.col)
        al.matmul(p, acc, left, right, step > 0)
    sums = al.tile(k.sums, at.col_tile, at.rows, at.cols)
    al.move(p, sums, acc)
    return sums


class OutlierSplit(QuantizedLinear):
    """Quantized linear with outlier channels in floating point."""

    name: ClassVar[str] = "outlier_split"
    summary: ClassVar[str] = "mixed precision: outlier channels on the cube, the rest in integers"
    parameters: ClassVar[type[Spec]] = OutlierSplitParameters
    uses_cube: ClassVar[bool] = True

    @classmethod
    def selects_by_values(cls, parameters: OutlierSplitParameters) -> bool:
        """Return whether a magnitude says which channels are outliers."""
        return parameters.outlier_magnitude is not None

    @classmethod
    def plan(
        cls, problem: GemmProblem, parameters: OutlierSplitParameters, tensors: GemmTensors | None
    ) -> Plan:
        """Return how the linear is computed; raises QuantizationError."""
        channels = _outlier_channels(problem, parameters, tensors)
        count = len(channels)
        if count == problem.k:
            raise QuantizationError(
                f"{cls.name} on {problem.name}: found all {problem.k} channels to be outliers; "
                f"allowed: fewer, by a smaller outlier_share or a larger outlier_magnitude"
            )
        known = {} if tensors is None else _known(parameters, tensors, channels)

        def beside(builder: ProgramBuilder, tiles: Tiles) -> tuple[_Outliers]:
            return (_declare(builder, problem, count, known, tiles),)

        return Plan(
            problem.model_copy(update={"k": problem.k - count}),
            Scheme([Span(0, 0, problem.m)], Work(), range_of="row"),
            known,
            outlier_split if count else quantized,
            beside=beside if count else nothing_beside,
            channels_beside=count,
            statistics={"outlier_fraction": count / problem.k},
        )


def _outlier_channels(
    problem: GemmProblem, parameters: OutlierSplitParameters, tensors: GemmTensors | None
) -> Any:
    """Return the channels that are outliers, ascending; the first ones where nothing is known."""
    if tensors is None:
        return np.arange(round(parameters.outlier_share * problem.k))
    check_activations(tensors)
    peaks = input_peaks(parameters, tensors)
    if parameters.outlier_magnitude is not None:
        return channels_above(peaks, parameters.outlier_magnitude)
    return top_channels(peaks, parameters.outlier_share)


def _known(parameters: OutlierSplitParameters, tensors: GemmTensors, channels: Any) -> Known:
    """Return what is known before the run: the outlier channels beside all others."""
    x, w = np.delete(tensors.a, channels, axis=1), np.delete(tensors.b, channels, axis=0)
    weights = quantized_weights(w, parameters.weight_bits, parameters.weight_scale)
    is_made = parameters.input == "quantized"
    return {
        "x": x,
        "w_codes": weights.codes,
        "scale": column_scales(weights, 1.0),
        "x_outliers": np.ascontiguousarray(tensors.a[:, channels]),
        "w_outliers": np.ascontiguousarray(tensors.b[channels]),
        **(dynamic_codes(x, parameters.activation_bits, True) if is_made else {}),
    }


def _declare(
    builder: ProgramBuilder, problem: GemmProblem, count: int, known: Known, tiles: Tiles
) -> _Outliers:
    """Declare the matrices and tiles of the outlier channels."""
    m, n, fmt, fp32 = problem.m, problem.n, problem.dtype, Format.FP32
    step, size = min(count, _LARGEST_STEP), (tiles.m, tiles.n)
    return _Outliers(
        channels=count,
        step=step,
        steps=ceil_div(count, step),
        x=input_tensor(builder, known, "x_outliers", m, count, fmt),
        w=input_tensor(builder, known, "w_outliers", count, n, fmt),
        left=builder.buffer("left", tiles.m, step, fmt, slots=2),
        right=builder.buffer("right", step, tiles.n, fmt, slots=2),
        acc=builder.buffer("outlier_acc", *size, fp32, slots=2, memory="accumulator"),
        sums=builder.buffer("outlier_sums", *size, fp32, slots=2),
    )
