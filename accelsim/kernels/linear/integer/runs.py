"""Rows of X whose scales are of runs of channels, such as heads, brought to one scale on chip.

Attention finds a base for each row of a head. What multiplies a row of all heads needs one: the
largest of their scales. Codes are loaded run by run, multiplied with the ratio of their scale to
that of the row, and rounded: three vector ops an element. The statement is
`quantization.coded_rows.aligned`.
"""

from typing import Any, NamedTuple

from accelsim.errors import QuantizationError
from accelsim.kernels.linear.integer.parameters import QuantizedParameters
from accelsim.kernels.linear.integer.scheme import Scheme
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer
from accelsim.quantization.coded_rows import RUN_BITS
from accelsim.quantization.codes import largest_code
from accelsim.runtime.jit import chosen_by_type, jit_inner
from accelsim.workload.problem import GemmProblem

ALIGNING_OPS = 3
"""On each element: to FP32, a product, and back."""
_RUNS_AHEAD = 4
"""Runs on chip at a time, one in use and others on their way."""


class WholeRows(NamedTuple):
    """Rows with one scale each."""

    run: int


WHOLE_ROWS = WholeRows(0)


class Runs(NamedTuple):
    """Rows with a scale for each run."""

    run: int
    """Channels of a run."""
    runs: int
    """Runs of a row."""
    widening: float
    """Steps of a code as it was loaded in one of a code that is multiplied."""
    stored: Buffer
    """Codes of one run as they are loaded."""
    wide: Buffer
    """The same in FP32."""
    scale: Buffer
    """[rows, runs]"""
    ratio: Buffer
    """Scale of every run over that of its row [rows, runs]."""


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
    if parameters.tile_k and parameters.tile_k % run:
        raise QuantizationError(
            f"{name}: found tile_k = {parameters.tile_k} with input_run = {run}, allowed: "
            f"multiples of {run}, so that a panel has whole runs"
        )


def check_scales(name: str, scheme: Scheme) -> None:
    """Refuse runs of an X whose rows have no base of their own, or try several."""
    if scheme.run and (scheme.range_of not in ("row", "scaled_row") or scheme.candidates > 1):
        found = "several candidates" if scheme.candidates > 1 else "ranges that are not of rows"
        raise QuantizationError(
            f"{name}: found input_run = {scheme.run} beside {found}, allowed: one base a row, "
            f"which is the largest of its runs"
        )


def allocate_runs(builder: ProgramBuilder, rows: Any, k: int, run: int, code: Format) -> Runs:
    """Declare what brings rows of k channels to one scale; code: format of what is multiplied."""
    fp32, runs = Format.FP32, k // run
    return Runs(
        run=run,
        runs=runs,
        widening=largest_code(RUN_BITS) / largest_code(code.bits),
        stored=builder.buffer("run_codes", rows, run, Format.INT8, slots=_RUNS_AHEAD),
        wide=builder.buffer("run_wide", rows, run, fp32, slots=2),
        scale=builder.buffer("run_scale", rows, runs, fp32, slots=2),
        ratio=builder.buffer("run_ratio", rows, runs, fp32, slots=2),
    )


@jit_inner
def _load_codes(_source, p, x, start, at, k):
    al.load(p, x, k.hbm.codes, at.row, start)


@jit_inner
def _load_and_align(source, p, x, start, at, k):
    ratio = al.tile(source.ratio, at.item, at.rows, source.runs)
    if at.number == 0 and start == 0:
        _find_ratios(p, ratio, source, at, k)
    for number in range(x.cols // source.run):
        first, wide = number * source.run, al.tile(source.wide, number, x.rows, source.run)
        stored = al.tile(source.stored, number, x.rows, source.run)
        al.load(p, stored, k.hbm.codes, at.row, start + first)
        al.convert(p, wide, stored)
        own = al.columns(ratio, start // source.run + number, 1)
        al.multiply_column(p, wide, wide, own)
        al.convert(p, al.columns(x, first, source.run), wide)


@jit_inner
def _find_ratios(p, ratio, source, at, k):
    """Find the scale of every row of an item, and the ratios of those of its runs to it."""
    scale, step = (
        al.tile(source.scale, at.item, at.rows, source.runs),
        al.tile(k.row_scale, at.item, at.rows, 1),
    )
    al.load(p, scale, k.hbm.row_scale, at.row, 0)
    al.row_max(p, step, scale)
    if source.widening != 1.0:
        al.scale(p, step, step, source.widening)
    al.divide_column(p, ratio, scale, step)


load_rows = chosen_by_type({WholeRows: _load_codes, Runs: _load_and_align})
"""load_rows(source, p, x, start, at, k): load channels of X from `start` on as one scale a
row has them."""


@jit_inner
def _load_scale(_source, p, row_factor, at, k):
    al.load(p, row_factor, k.hbm.row_scale, at.row, 0)


@jit_inner
def _is_found(_source, _p, _row_factor, _at, _k):
    """The scale of a row has been found when its codes were loaded."""


load_row_scale = chosen_by_type({WholeRows: _load_scale, Runs: _is_found})
"""load_row_scale(source, p, row_factor, at, k): have the scales of the rows of an item."""
