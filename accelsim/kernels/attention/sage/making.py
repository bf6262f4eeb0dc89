"""The phases that turn K, and V in FP8, into codes: sums and peaks over all tokens, then the codes.

A work item of the first phase goes through some key tiles of a KV head and stores a row of sums of
K, and one of the largest magnitudes of V. An item of the second one reads the rows of its head,
joins them, and codes one tile.
"""

from typing import Any, NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.sage import coding
from accelsim.quantization.codes import SMALLEST_SCALE

LARGEST_WEIGHT = al.Format.FP8_E4M3.layout.largest
"""Largest number of E4M3, which stands for a weight of 1 and for the peak of a column of V."""


class Making(NamedTuple):
    """Sizes in elements, matrices in HBM and tiles on chip, of K or of V."""

    heads: int
    """KV heads."""
    kv_len: int
    dim: int
    tile_k: int
    tiles_k: int
    """Key tiles of a head."""
    parts: int
    """Work items of a head in the first phase."""
    part_tiles: int
    """Key tiles of each, fewer of the last."""
    is_smoothed: bool
    coder: coding.Coder
    x: al.Tensor
    totals: al.Tensor
    """Sums or largest magnitudes [heads x parts, dim]."""
    made: al.Tensor
    """Codes [heads x kv_len, dim]."""
    scales: al.Tensor
    raw: al.Buffer
    own_total: al.Buffer
    tile_total: al.Buffer
    all_totals: al.Buffer
    joined: al.Buffer
    factor: al.Buffer
    kept: al.Buffer


class Piece(NamedTuple):
    """Key tile `turn` of all heads."""

    turn: int
    head: int
    row: int
    keys: int


@al.jit_inner
def _piece(turn, k):
    head, j = turn // k.tiles_k, turn % k.tiles_k
    start = j * k.tile_k
    return Piece(turn, head, head * k.kv_len + start, min(k.tile_k, k.kv_len - start))


@al.jit_inner
def _load(p, at, k):
    raw = al.tile(k.raw, at.turn, at.keys, k.dim)
    al.load(p, raw, k.x, at.row, 0)
    return raw


@al.jit
def sum_keys(p, phase, k):
    """Sums of K over some key tiles of a head."""
    for item in range(k.heads * k.parts):
        al.begin_item(p, phase)
        own, part = al.tile(k.own_total, item, 1, k.dim), al.tile(k.tile_total, 0, 1, k.dim)
        head, first = item // k.parts, item % k.parts * k.part_tiles
        for j in range(first, min(first + k.part_tiles, k.tiles_k)):
            raw = _load(p, _piece(head * k.tiles_k + j, k), k)
            if j == first:
                al.column_sum(p, own, raw)
            else:
                al.column_sum(p, part, raw)
                al.add(p, own, own, part)
        al.store(p, k.totals, item, 0, own)


@al.jit
def code_keys(p, phase, k):
    """Codes of one key tile, without the mean of K."""
    for item in range(k.heads * k.tiles_k):
        al.begin_item(p, phase)
        at = _piece(item, k)
        raw, wide = _load(p, at, k), al.tile(k.coder.wide, 0, at.keys, k.dim)
        if k.is_smoothed:
            totals = al.tile(k.all_totals, item, k.parts, k.dim)
            mean = al.tile(k.joined, 0, 1, k.dim)
            al.load(p, totals, k.totals, at.head * k.parts, 0)
            al.column_sum(p, mean, totals)
            al.scale(p, mean, mean, 1 / k.kv_len)
            al.subtract_row(p, wide, raw, mean)
        else:
            al.convert(p, wide, raw)
        codes, scale = coding.code_rows(p, item, wide, True, k.coder)
        al.store(p, k.made, at.row, 0, codes)
        count = coding.scales_of_keys(k.coder.shared_by, at.keys)
        kept = al.tile(k.kept, item, count, 1)
        coding.kept_scales(p, scale, kept, k.coder.shared_by)
        al.store(p, k.scales, _first_scale(at, k), 0, kept)


@al.jit_inner
def _first_scale(at, k):
    """Row of the first scale of a key tile."""
    if k.scales.rows == k.heads * k.kv_len:
        return at.row
    return at.turn * (k.scales.rows // (k.heads * k.tiles_k))


@al.jit
def peaks_of_values(p, phase, k):
    """Largest magnitudes of the columns of V over some tiles of a head."""
    for item in range(k.heads * k.parts):
        al.begin_item(p, phase)
        own = al.tile(k.own_total, item, 1, k.dim)
        head, first = item // k.parts, item % k.parts * k.part_tiles
        for j in range(first, min(first + k.part_tiles, k.tiles_k)):
            raw = _load(p, _piece(head * k.tiles_k + j, k), k)
            size = al.tile(k.coder.magnitudes, 0, raw.rows, k.dim)
            al.magnitude(p, size, raw)
            peak = _column_max(p, size)
            if j == first:
                al.convert(p, own, peak)
            else:
                al.maximum(p, own, own, peak)
        al.store(p, k.totals, item, 0, own)


@al.jit_inner
def _column_max(p, x):
    """Return the largest of every column as the first row of x, which is lost."""
    rows = x.rows
    while rows > 1:
        half = (rows + 1) // 2
        head = al.rows_from(x, 0, rows - half)
        al.maximum(p, head, head, al.rows_from(x, half, rows - half))
        rows = half
    return al.rows_from(x, 0, 1)


@al.jit
def code_values(p, phase, k):
    """One tile of V in FP8, every column over its scale; the first item of a head stores these."""
    for item in range(k.heads * k.tiles_k):
        al.begin_item(p, phase)
        at = _piece(item, k)
        totals, scale = al.tile(k.all_totals, item, k.parts, k.dim), al.tile(k.joined, 0, 1, k.dim)
        factor, wide = al.tile(k.factor, 0, 1, k.dim), al.tile(k.coder.wide, 0, at.keys, k.dim)
        al.load(p, totals, k.totals, at.head * k.parts, 0)
        al.scale(p, scale, _column_max(p, totals), 1 / LARGEST_WEIGHT)
        al.fill(p, factor, SMALLEST_SCALE)
        al.maximum(p, scale, scale, factor)
        al.fill(p, factor, 1.0)
        al.divide(p, factor, factor, scale)
        al.multiply_row(p, wide, _load(p, at, k), factor)
        codes = al.tile(k.coder.codes, item, at.keys, k.dim)
        al.convert(p, codes, wide)
        al.store(p, k.made, at.row, 0, codes)
        if item % k.tiles_k == 0:
            al.store(p, k.scales, at.head, 0, scale)


def allocate_making(
    builder: al.ProgramBuilder,
    name: str,
    sizes: tuple[Any, Any, Any],
    stored: al.Format,
    made: al.Format,
) -> dict[str, Any]:
    """Declare the tiles of both phases of K or V, by its name.

    sizes: rows and columns of a tile, and parts of a head.
    """
    rows, dim, parts = sizes

    def row(part: str, rows: Any = 1, slots: int = 1) -> al.Buffer:
        return builder.buffer(f"{name}_{part}", rows, dim, al.Format.FP32, slots=slots)

    codes = builder.buffer(f"{name}_made", rows, dim, made, slots=2)
    coder = coding.allocate_coder(builder, name, (rows, dim), codes, has_peaks=name == "k")
    own = {"tile_total": builder.no_buffer(), "kept": builder.no_buffer()}
    if name == "k":
        own["tile_total"] = row("tile_total")
        own["kept"] = builder.buffer("k_kept", rows, 1, al.Format.FP32, slots=2)
    return {
        "coder": coder,
        "raw": builder.buffer(f"{name}_raw", rows, dim, stored, slots=2),
        "own_total": row("own_total", slots=2),
        "all_totals": row("all_totals", parts, slots=2),
        "joined": row("joined"),
        "factor": row("factor") if name == "v" else builder.no_buffer(),
        **own,
    }
