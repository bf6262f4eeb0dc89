"""The phase that brings rows whose scales are of runs of channels, such as heads, to one scale.

Attention finds a base for each row of a head. What multiplies a row of all heads needs one: the
largest of their scales. Codes are multiplied with the ratio of their scale to that, and rounded:
three vector ops an element. The statement is `quantization.coded_rows.aligned`.

HBM traffic of m rows of k channels in runs of r: loads m k of codes and 4 m k / r of scales, stores
m k bits / 8 of codes and 4 m of scales.
"""

from typing import NamedTuple

from accelsim.errors import QuantizationError
from accelsim.kernels.integer.chunks import RowTiles, row_tiles
from accelsim.kernels.integer.phases import Loop
from accelsim.kernels.linear.integer.parameters import QuantizedParameters
from accelsim.kernels.linear.integer.scheme import Scheme
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer, Tensor
from accelsim.quantization.channel_groups import Span
from accelsim.quantization.coded_rows import RUN_BITS
from accelsim.quantization.codes import largest_code
from accelsim.runtime.jit import jit, jit_inner
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.problem import GemmProblem


class Matrices(NamedTuple):
    """Matrices in HBM."""

    stored: Tensor
    """Codes as their producer stored them [m, channels]."""
    scale: Tensor
    """Scales of the runs of every row [m, runs]."""
    codes: Tensor
    """[m, channels]"""
    row_scale: Tensor
    """[m, 1]"""


class Layout(NamedTuple):
    """Sizes in elements, matrices in HBM and tiles on chip."""

    row_tiles: RowTiles
    run: int
    """Channels of a run."""
    runs: int
    """Runs of a row."""
    widening: float
    """Steps of a code as it was stored in one of a code that is multiplied."""
    hbm: Matrices
    stored: Buffer
    wide: Buffer
    codes: Buffer
    scale: Buffer
    step: Buffer


def check_run(name: str, problem: GemmProblem, parameters: QuantizedParameters) -> None:
    """Refuse runs that X has not; raises QuantizationError."""
    run = parameters.run
    if not run:
        return
    if parameters.input != "quantized":
        raise QuantizationError(
            f"{name}: found input_run = {run} with input = {parameters.input}, allowed: with "
            f"input = quantized; X that is quantized here has a scale a row"
        )
    if problem.k % run:
        raise QuantizationError(
            f"{name}: found input_run = {run} of {problem.k} channels, allowed: a divisor of them"
        )
    if run * parameters.activation_bits % BITS_PER_BYTE:
        raise QuantizationError(
            f"{name}: found input_run = {run} with codes of {parameters.activation_bits} bits, "
            f"allowed: runs that begin with a whole byte"
        )


def check_scales(name: str, scheme: Scheme) -> None:
    """Refuse runs of an X whose rows have no base of their own, or try several."""
    if scheme.run and (scheme.range_of not in ("row", "scaled_row") or scheme.candidates > 1):
        found = "several candidates" if scheme.candidates > 1 else "ranges that are not of rows"
        raise QuantizationError(
            f"{name}: found input_run = {scheme.run} beside {found}, allowed: one base a row, "
            f"which is the largest of its runs"
        )


def allocate_alignment(
    builder: ProgramBuilder, rows: int, runs: tuple[int, int], code: Format
) -> dict[str, Buffer]:
    """Declare the buffers; runs: channels of one and their number, code: what is multiplied."""
    run, count = runs

    def double(name: str, cols: int, fmt: Format = Format.FP32) -> Buffer:
        return builder.buffer(f"run_{name}", rows, cols, fmt, slots=2)

    return {
        "stored": double("stored", run, Format.INT8),
        "wide": double("wide", run),
        "codes": double("codes", run, code),
        "scale": double("scale", count),
        "step": double("step", 1),
    }


def alignment_loop(hbm: Matrices, run: int, buffers: dict[str, Buffer], fmt: Format) -> Loop:
    """Return the loop; buffers: those of `allocate_alignment`, fmt: of what is multiplied."""
    tiles = row_tiles([Span(0, 0, hbm.codes.rows)], buffers["codes"].rows)
    layout = Layout(
        row_tiles=tiles,
        run=run,
        runs=hbm.scale.cols,
        widening=largest_code(RUN_BITS) / largest_code(fmt.bits),
        hbm=hbm,
        **buffers,
    )
    return Loop(align_runs, len(tiles), (layout,))


@jit
def align_runs(p, phase, k):
    """All row tiles of X, a work item each."""
    for item in range(len(k.row_tiles)):
        al.begin_item(p, phase)
        _, row, rows = k.row_tiles[item]
        ratio = _ratios(p, item, row, rows, k)
        for number in range(k.runs):
            turn, first = item * k.runs + number, number * k.run
            stored, wide = al.tile(k.stored, turn, rows, k.run), al.tile(k.wide, turn, rows, k.run)
            al.load(p, stored, k.hbm.stored, row, first)
            al.convert(p, wide, stored)
            al.multiply_column(p, wide, wide, al.columns(ratio, number, 1))
            codes = al.tile(k.codes, turn, rows, k.run)
            al.convert(p, codes, wide)
            al.store(p, k.hbm.codes, row, first, codes)


@jit_inner
def _ratios(p, item, row, rows, k):
    """Store the scale of every row, and return the ratios of those of its runs to it."""
    scale, step = al.tile(k.scale, item, rows, k.runs), al.tile(k.step, item, rows, 1)
    al.load(p, scale, k.hbm.scale, row, 0)
    al.row_max(p, step, scale)
    if k.widening != 1.0:
        al.scale(p, step, step, k.widening)
    al.store(p, k.hbm.row_scale, row, 0, step)
    al.divide_column(p, scale, scale, step)
    return scale
