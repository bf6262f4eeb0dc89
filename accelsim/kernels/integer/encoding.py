"""The phases that turn X into codes in HBM: by numbers known before, or by peaks found on the way.

A tile goes from HBM to codes in FP32: minus its bias, times the reciprocal of its step, rounded
half to even and saturated.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.integer.chunks import RowTiles
from accelsim.kernels.integer.phases import Loop
from accelsim.numerics.integer import note_clipped
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer, Tensor
from accelsim.quantization.codes import SMALLEST_SCALE, largest_code
from accelsim.runtime.jit import jit, jit_inner
from accelsim.units import ceil_div


class Matrices(NamedTuple):
    """Matrices in HBM."""

    x: Tensor
    """[m, channels]"""
    bias: Tensor
    """[chunks, channels]"""
    reciprocal: Tensor
    """[chunks, channels]; or 2^group, where rows find their base."""
    worth: Tensor
    """One over what channels are multiplied by [chunks, channels]."""
    peaks: Tensor
    """Largest magnitude of the rows of every row tile [tiles, 1]."""
    codes: Tensor
    """[m, channels]"""
    row_scale: Tensor
    """[m, 1]"""


class Layout(NamedTuple):
    """Sizes in elements, matrices in HBM and tiles on chip."""

    row_tiles: RowTiles
    channels: int
    tile_k: int
    """Channels of a tile."""
    panels: int
    """Tiles along a row."""
    largest: float
    """Largest code."""
    has_bias: bool
    is_shared: bool
    """Whether all rows have the step of the largest peak."""
    rotation: int
    """Channels that are rotated together first; 0: none are."""
    shrink: NDArray[np.float64]
    """By what the largest magnitude of a row is multiplied for each base that it tries."""
    clipped: NDArray[np.int64]
    """How many codes were clipped, where there are numbers [1]."""
    hbm: Matrices
    x: Buffer
    wide: Buffer
    bias: Buffer
    reciprocal: Buffer
    codes: Buffer
    peak: Buffer
    part: Buffer
    scale: Buffer
    peaks: Buffer
    turned: Buffer
    large: Buffer
    tried: Buffer
    worth: Buffer
    choice: Buffer


class Piece(NamedTuple):
    """A tile of X."""

    turn: int
    chunk: int
    row: int
    rows: int
    col: int
    cols: int


_OPTIONAL = (
    "bias",
    "reciprocal",
    "peak",
    "part",
    "scale",
    "peaks",
    "turned",
    "large",
    "tried",
    "worth",
    "choice",
)


def layout_of(
    builder: ProgramBuilder,
    row_tiles: RowTiles,
    hbm: dict[str, Tensor],
    buffers: dict[str, Buffer],
    rotation: int = 0,
    shrink: Sequence[float] = (1.0,),
) -> Layout:
    """Return the layout of X in these tiles; it does without what hbm and buffers lack."""
    tensors = dict.fromkeys(Matrices._fields, builder.no_tensor()) | hbm
    tiles = dict.fromkeys(_OPTIONAL, builder.no_buffer()) | buffers
    return Layout(
        row_tiles=row_tiles,
        channels=hbm["x"].cols,
        tile_k=buffers["x"].cols,
        panels=ceil_div(hbm["x"].cols, buffers["x"].cols),
        largest=float(largest_code(buffers["codes"].bits)),
        has_bias="bias" in hbm,
        is_shared="peaks" in hbm,
        rotation=rotation,
        shrink=np.array(shrink),
        clipped=np.zeros(1, np.int64),
        hbm=Matrices(**tensors),
        **tiles,
    )


def static_loop(k: Layout) -> Loop:
    """Return the loop that makes codes by numbers known before."""
    return Loop(encode_static, len(k.row_tiles) * k.panels, (k,))


def dynamic_loop(k: Layout) -> Loop:
    """Return the loop that makes codes by the peaks of rows, or by the largest of `peak_loop`."""
    return Loop(encode_dynamic, len(k.row_tiles), (k,))


def peak_loop(k: Layout) -> Loop:
    """Return the loop that finds what `dynamic_loop` needs where all rows share a step."""
    return Loop(find_peaks, len(k.row_tiles), (k,))


@jit
def encode_static(p, phase, k):
    """All tiles of X, a work item each."""
    for item in range(len(k.row_tiles) * k.panels):
        al.begin_item(p, phase)
        at = piece_at(item // k.panels, item % k.panels, k)
        x, wide = tiles_at(at, k)
        factor = al.tile(k.reciprocal, at.turn, 1, at.cols)
        al.load(p, x, k.hbm.x, at.row, at.col)
        x = rotated_tile(p, x, k)
        al.load(p, factor, k.hbm.reciprocal, at.chunk, at.col)
        if k.has_bias:
            bias = al.tile(k.bias, at.turn, 1, at.cols)
            al.load(p, bias, k.hbm.bias, at.chunk, at.col)
            al.subtract_row(p, wide, x, bias)
            x = wide
        al.multiply_row(p, wide, x, factor)
        store_codes(p, wide, at, k)


@jit
def find_peaks(p, phase, k):
    """The largest magnitude in every row tile of X."""
    for item in range(len(k.row_tiles)):
        al.begin_item(p, phase)
        part = al.tile(k.part, item, 1, 1)
        al.tile_max(p, part, 0, _row_peaks(p, item, k))
        al.store(p, k.hbm.peaks, item, 0, part)


@jit
def encode_dynamic(p, phase, k):
    """All row tiles of X, each row by its own peak, or by the largest of `find_peaks` if shared."""
    for item in range(len(k.row_tiles)):
        al.begin_item(p, phase)
        peak = _shared_peak(p, item, k) if k.is_shared else _row_peaks(p, item, k)
        factor = row_factors(p, item, k.row_tiles[item, 1], peak, k)
        for panel in range(k.panels):
            at = piece_at(item, panel, k)
            x, wide = tiles_at(at, k)
            if k.is_shared or k.panels > 1:
                al.load(p, x, k.hbm.x, at.row, at.col)
                x = rotated_tile(p, x, k)
            elif k.rotation > 0:
                x = al.tile(k.turned, 0, at.rows, at.cols)
            al.multiply_column(p, wide, x, factor)
            store_codes(p, wide, at, k)


@jit_inner
def piece_at(row_tile, panel, k):
    """A tile of X by its place."""
    chunk, row, rows = k.row_tiles[row_tile]
    col = panel * k.tile_k
    return Piece(
        row_tile * k.panels + panel, chunk, row, rows, col, min(k.tile_k, k.channels - col)
    )


@jit_inner
def tiles_at(at, k):
    """A tile of X, as it comes and in FP32."""
    return al.tile(k.x, at.turn, at.rows, at.cols), al.tile(k.wide, at.turn, at.rows, at.cols)


@jit_inner
def rotated_tile(p, x, k):
    """Return a tile of X, loaded, as it is encoded: rotated, if X is."""
    if k.rotation > 0:
        turned = al.tile(k.turned, 0, x.rows, x.cols)
        al.hadamard(p, turned, x, k.rotation)
        x = turned
    return x


@jit_inner
def _row_peaks(p, item, k):
    """Return the largest magnitude of every row of a row tile."""
    rows = k.row_tiles[item, 2]
    peak, part = al.tile(k.peak, item, rows, 1), al.tile(k.part, item, rows, 1)
    for panel in range(k.panels):
        at = piece_at(item, panel, k)
        x, wide = tiles_at(at, k)
        al.load(p, x, k.hbm.x, at.row, at.col)
        al.magnitude(p, wide, rotated_tile(p, x, k))
        raise_peaks(p, panel, peak, part, wide)
    return peak


@jit_inner
def raise_peaks(p, panel, peak, part, magnitudes):
    """Bring the peaks of rows up to date with one more panel; `part` is overwritten."""
    if panel == 0:
        al.row_max(p, peak, magnitudes)
    else:
        al.row_max(p, part, magnitudes)
        al.maximum(p, peak, peak, part)


@jit_inner
def _shared_peak(p, item, k):
    """Return the largest of all peaks, for every row of a row tile."""
    peak, part = al.tile(k.peak, item, k.row_tiles[item, 2], 1), al.tile(k.part, item, 1, 1)
    peaks = al.tile(k.peaks, item, len(k.row_tiles), 1)
    al.load(p, peaks, k.hbm.peaks, 0, 0)
    al.tile_max(p, part, 0, peaks)
    al.fill(p, peak, al.read_element(p, part, 0))
    return peak


@jit_inner
def row_factors(p, turn, row, peak, k):
    """Store the step of the rows from `row` on, peak / largest code, and return its reciprocal."""
    part, scale = al.tile(k.part, turn, peak.rows, 1), al.tile(k.scale, turn, peak.rows, 1)
    steps_of(p, scale, peak, part, k)
    al.store(p, k.hbm.row_scale, row, 0, scale)
    al.fill(p, part, 1.0)
    al.divide_column(p, part, part, scale)
    return part


@jit_inner
def steps_of(p, step, peak, part, k):
    """step = peak / largest code of every row, above 0; `part` is overwritten."""
    al.fill(p, part, k.largest)
    al.divide_column(p, step, peak, part)
    al.fill(p, part, SMALLEST_SCALE)
    al.maximum(p, step, step, part)


@jit_inner
def store_codes(p, wide, at, k):
    """Store what was divided by its step as codes."""
    note_clipped(k.clipped, wide.data, at.rows, at.cols, k.largest)
    codes = al.tile(k.codes, at.turn, at.rows, at.cols)
    al.convert(p, codes, wide)
    al.store(p, k.hbm.codes, at.row, at.col, codes)
