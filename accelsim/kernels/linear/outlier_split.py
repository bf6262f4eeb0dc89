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
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.base import Array
from accelsim.kernels.linear.integer.bounds import largest_sum, warn_of_overflow, with_sums
from accelsim.kernels.linear.integer.frame import Frame, QuantizedLinear
from accelsim.kernels.linear.integer.operands import (
    check_activations,
    column_epilogue,
    quantized_weights,
)
from accelsim.kernels.linear.integer.parameters import QuantizedParameters, input_peaks
from accelsim.kernels.linear.integer.scheme import Numbers, Scheme, Work
from accelsim.kernels.linear.integer.steps import (
    begin_strip,
    columns_of,
    drain,
    multiply_panels,
    scale_sums,
    store_output,
)
from accelsim.kernels.linear.integer.tiles import Tiles
from accelsim.kernels.linear.quantized import quantized
from accelsim.numerics.formats import FP32, Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import add, load, matmul, move, tile
from accelsim.program.program import Program
from accelsim.quantization.channel_groups import Span
from accelsim.quantization.schemes import channels_above, per_row, top_channels
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
    fmt: int
    """Code of their format."""
    x: Any
    """[m, channels]"""
    w: Any
    """[channels, n]"""
    left: Any
    right: Any
    acc: Any
    sums: Any


@jit
def outlier_split(p, phase, row_tiles, accumulator, peak, outliers, has, shape, hbm, b):
    """All tiles of Y: the product of codes, and beside it that of the outliers."""
    for item in range(len(row_tiles) * shape.blocks):
        strip = begin_strip(p, phase, item, row_tiles, shape)
        for col_tile in range(strip.first, strip.end):
            rows, cols = strip.rows, columns_of(col_tile, shape)
            acc = multiply_panels(p, strip, col_tile, accumulator, shape, hbm, b)
            kept = _multiply_outliers(p, strip, col_tile, outliers, shape)
            wide = drain(p, col_tile, acc, rows, cols, peak, b)
            scale_sums(p, wide, strip, col_tile, has, shape, hbm, b)
            add(p, wide, wide, kept, rows, cols, FP32)
            store_output(p, wide, strip, col_tile, shape, hbm, b)


@jit_inner
def _multiply_outliers(p, strip, col_tile, outliers, shape):
    """Return the product of the outlier channels of a tile in FP32."""
    rows, col, cols = strip.rows, col_tile * shape.tile_n, columns_of(col_tile, shape)
    acc, sums = tile(outliers.acc, col_tile), tile(outliers.sums, col_tile)
    steps = -(-outliers.channels // outliers.step)
    for step in range(steps):
        start = step * outliers.step
        depth = min(outliers.step, outliers.channels - start)
        turn = (strip.item * shape.block + col_tile - strip.first) * steps + step
        left = tile(outliers.left, turn if steps > 1 else strip.item)
        right = tile(outliers.right, turn)
        if steps > 1 or col_tile == strip.first:
            load(p, left, outliers.x, strip.row, start, rows, depth)
        load(p, right, outliers.w, start, col, depth, cols)
        matmul(p, acc, left, right, rows, cols, depth, outliers.fmt, FP32, step > 0)
    move(p, sums, acc, rows, cols, FP32, FP32)
    return sums


class OutlierSplit(QuantizedLinear):
    """Quantized linear with outlier channels in floating point."""

    name: ClassVar[str] = "outlier_split"
    summary: ClassVar[str] = "mixed precision: outlier channels on the cube, the rest in integers"
    parameters: ClassVar[type[Spec]] = OutlierSplitParameters

    @classmethod
    def selects_by_values(cls, parameters: OutlierSplitParameters) -> bool:
        """Return whether a magnitude says which channels are outliers."""
        return parameters.outlier_magnitude is not None

    @classmethod
    def record(
        cls,
        problem: GemmProblem,
        machine: MachineSpec,
        parameters: OutlierSplitParameters,
        tensors: GemmTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, Y [m, n]; warns of sums that may not fit."""
        name = f"{cls.name} on {problem.name}"
        machine.int_mac_for(name)
        machine.cube_for(name)
        channels = _outlier_channels(problem, parameters, tensors)
        if len(channels) == problem.k:
            raise QuantizationError(
                f"{name}: found all {problem.k} channels to be outliers; allowed: fewer, by a "
                f"smaller outlier_share or a larger outlier_magnitude"
            )
        rest = problem.model_copy(update={"k": problem.k - len(channels)})

        def beside(builder: ProgramBuilder, tiles: Tiles) -> tuple[Any, ...]:
            return (_declare(builder, problem, channels, tensors, tiles),) if len(channels) else ()

        scheme = Scheme([Span(0, 0, problem.m)], Work(), range_of="row")
        frame = Frame.prepare(cls.name, rest, machine, parameters, scheme, beside, len(channels))
        numbers, peak, largest = _numbers(parameters, tensors, channels), np.zeros(1, np.int64), 0.0
        if numbers is not None:
            bits: int = parameters.activation_bits
            largest = largest_sum(np.ones((1, rest.k)), numbers.weights, bits)
            warn_of_overflow(frame, largest, "fewer bits")
        product = outlier_split if len(channels) else quantized
        program, y = frame.record(numbers, product, frame.accumulator, peak)
        share = len(channels) / problem.k
        return with_sums(program, largest, peak, outlier_fraction=share), y


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


def _numbers(
    parameters: OutlierSplitParameters, tensors: GemmTensors | None, channels: Any
) -> Numbers | None:
    """Return what is known of the other channels before the run."""
    if tensors is None:
        return None
    x, w = np.delete(tensors.a, channels, axis=1), np.delete(tensors.b, channels, axis=0)
    weights = quantized_weights(w, parameters.weight_bits, parameters.weight_scale)
    is_made = parameters.input == "quantized"
    return Numbers(
        x=x,
        weights=weights.codes,
        epilogue=column_epilogue(weights, 1.0),
        codes=per_row(x, parameters.activation_bits) if is_made else None,
    )


def _declare(
    builder: ProgramBuilder,
    problem: GemmProblem,
    channels: Any,
    tensors: GemmTensors | None,
    tiles: Tiles,
) -> _Outliers:
    """Declare the matrices and tiles of the outlier channels."""
    m, n, fmt, count = problem.m, problem.n, problem.dtype, len(channels)
    step = min(count, _LARGEST_STEP)
    x = None if tensors is None else np.ascontiguousarray(tensors.a[:, channels])
    w = None if tensors is None else np.ascontiguousarray(tensors.b[channels])
    return _Outliers(
        channels=count,
        step=step,
        fmt=fmt.code,
        x=builder.tensor("x_outliers", "input", m, count, fmt, x),
        w=builder.tensor("w_outliers", "input", count, n, fmt, w),
        left=builder.buffer("left", tiles.m, step, fmt, slots=2),
        right=builder.buffer("right", step, tiles.n, fmt, slots=2),
        acc=builder.buffer(
            "outlier_acc", tiles.m, tiles.n, Format.FP32, slots=2, memory="accumulator"
        ),
        sums=builder.buffer("outlier_sums", tiles.m, tiles.n, Format.FP32, slots=2),
    )
