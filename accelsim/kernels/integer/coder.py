"""Rows that the kernel that makes them stores as codes: the last step of norms, activations, heads.

A tile has whole rows of a matrix, or of a head, in FP32. Its channels are rotated, if they are, and
multiplied by 2^group; what is then the largest magnitude of a row is its base, and the row times
127 over it, rounded, are its codes: the steps by which the integer linears code what they load
(`encoding`, `row_base`, `row_choice`). Values are not rounded to the format of the HBM first.

HBM traffic of rows of `cols` channels: stores cols bits / 8 of codes and 4 bytes of a scale for
each; loads cols bytes of powers of two for a tile with groups (E8M0), and as many again for each of
several bases.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.estimate.footprint import Footprint
from accelsim.kernels.integer.code_form import CodeForm
from accelsim.kernels.integer.encoding import row_factors, store_codes
from accelsim.kernels.integer.row_choice import (
    COLUMNS,
    add_lost,
    best_factors,
    candidate_of,
    take_better,
)
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer, Tensor
from accelsim.quantization.codes import largest_code
from accelsim.quantization.row_bases import SHRINK
from accelsim.runtime.jit import chosen_by_type, jit_inner


class Matrices(NamedTuple):
    """Matrices in HBM."""

    codes: Tensor
    """[rows, cols]"""
    row_scale: Tensor
    """[rows, 1]"""
    factor: Tensor
    """2^group of every channel [heads, cols]."""
    worth: Tensor
    """One over it."""


class Coder(NamedTuple):
    """What codes rows and stores them; stands where the buffer of an output does."""

    span: int
    """Rows that follow each other in one head."""
    heads: int
    """Heads whose channels have groups of their own, in turn."""
    rotation: int
    """Channels that are rotated together first; 0: none are."""
    has_factor: bool
    """Whether channels are in groups."""
    largest: float
    """Largest code."""
    shrink: NDArray[np.float64]
    """By what the largest magnitude of a row is multiplied for each base that it tries."""
    clipped: NDArray[np.int64]
    """How many codes were clipped, where there are numbers [1]."""
    hbm: Matrices
    codes: Buffer
    large: Buffer
    peak: Buffer
    part: Buffer
    scale: Buffer
    turned: Buffer
    factor: Buffer
    worth: Buffer
    tried: Buffer
    choice: Buffer


class Piece(NamedTuple):
    """A tile of rows, as `encoding` stores them."""

    turn: int
    row: int
    rows: int
    col: int
    cols: int


@jit_inner
def _store_values(stored, p, matrix, at, x):
    """Round values to the format of the buffer and store them."""
    own = al.tile(stored, at.turn, at.rows, at.cols)
    if own.fmt != x.fmt:
        al.convert(p, own, x)
    al.store(p, matrix, at.row, at.col, own)


@jit_inner
def _store_codes(coder, p, _matrix, at, x):
    """Store values as codes with a scale for each row; x is overwritten."""
    if coder.rotation > 0:
        turned = al.tile(coder.turned, 0, at.rows, at.cols)
        al.hadamard(p, turned, x, coder.rotation)
        x = turned
    if coder.has_factor:
        _scale_channels(coder, p, at, x)
    large = al.tile(coder.large, at.turn, at.rows, at.cols)
    peak = al.tile(coder.peak, at.turn, at.rows, 1)
    al.magnitude(p, large, x)
    al.row_max(p, peak, large)
    if len(coder.shrink) > 1:
        factor = _best_of_several(coder, p, at, x, peak)
    else:
        factor = row_factors(p, at.turn, at.row, peak, coder)
    al.multiply_column(p, x, x, factor)
    store_codes(p, x, at, coder)


@jit_inner
def _scale_channels(coder, p, at, x):
    """Multiply the channels of each head by the powers of two of their groups."""
    done = 0
    while done < at.rows:
        row = at.row + done
        own = min(at.rows - done, coder.span - row % coder.span)
        factor = al.tile(coder.factor, row // coder.span, 1, at.cols)
        al.load(p, factor, coder.hbm.factor, row // coder.span % coder.heads, 0)
        part = al.rows_from(x, done, own)
        al.multiply_row(p, part, part, factor)
        done += own


@jit_inner
def _best_of_several(coder, p, at, x, peak):
    """Store the best steps of rows, and return their reciprocals."""
    worth = al.tile(coder.worth, at.turn, 1, at.cols)
    al.load(p, worth, coder.hbm.worth, 0, 0)
    for index in range(len(coder.shrink)):
        candidate = candidate_of(p, index, peak, coder)
        add_lost(p, 0, at.turn, x, worth, candidate, coder)
        take_better(p, index, candidate, coder)
    return best_factors(p, at.row, at.rows, coder)


store_rows = chosen_by_type({Buffer: _store_values, Coder: _store_codes})
"""store_rows(buffer or coder, p, matrix, at, x): store a tile of rows as values or as codes.

at: a `Piece`. A coder has the matrices that it stores to, and needs x in FP32.
"""


def allocate_coder(
    builder: ProgramBuilder | Footprint, form: CodeForm, rows: Any, cols: Any, prefix: str = ""
) -> dict[str, Buffer]:
    """Declare what a coder has on chip for tiles of rows x cols, `large` and columns apart.

    rows, cols: numbers, or arrays of all candidates.
    """

    def tiles(name: str, rows: Any, cols: Any, fmt: Format, slots: int = 1) -> Buffer:
        return builder.buffer(f"{prefix}code_{name}", rows, cols, fmt, slots=slots)

    own = {
        "codes": tiles("tile", rows, cols, form.format, 2),
        "scale": tiles("scale", rows, 1, Format.FP32, 2),
    }
    if form.rotation:
        own["turned"] = tiles("turned", rows, cols, Format.FP32)
    if form.groups > 1:
        own["factor"] = tiles("factor", 1, cols, Format.E8M0, 2)
    if form.candidates > 1:
        own["worth"] = tiles("worth", 1, cols, Format.E8M0, 2)
        own["tried"] = tiles("tried", rows, cols, form.format)
        own["choice"] = tiles("choice", rows, 1, Format.FP32, COLUMNS)
    return own


def coder_of(
    builder: ProgramBuilder | Footprint,
    form: CodeForm,
    hbm: Matrices,
    span: int,
    buffers: dict[str, Buffer],
) -> Coder:
    """Return a coder; buffers: those of `allocate_coder`, and `large`, `peak` and `part`."""
    none = dict.fromkeys(("turned", "factor", "worth", "choice"), builder.no_buffer())
    none["tried"] = builder.no_buffer(form.format)
    return Coder(
        span=span,
        heads=max(hbm.factor.rows, 1),
        rotation=form.rotation,
        has_factor=form.groups > 1,
        largest=float(largest_code(form.bits)),
        shrink=np.array(SHRINK[: form.candidates]),
        clipped=np.zeros(1, np.int64),
        hbm=hbm,
        **(none | buffers),
    )
