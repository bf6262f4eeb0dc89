"""Scores of more keys than fit on chip: pieces, one after the other, that go through HBM.

A kernel that selects needs the scores of all keys twice or more: to find a threshold, and to keep
what reaches it. Where they do not fit on chip, a step has two phases. In the first one a work item
scores a piece of the keys of a KV head and stores the products as they leave the cube, before they
are scaled, with their row maxima and, if asked, the row sums of their exponentials. In the second
one an item reads the products of a KV head back, piece by piece, once for each pass over them.
Source: top-k kernels of GPUs read all scores from memory for each digit (Alabi et al., "Fast
k-selection algorithms for graphics processing units", 2012; Zhang et al., "Parallel Top-K
Algorithms on GPU", SC 2023), behind a kernel that wrote them (DeepSeek-V3.2-Exp, 2025).

HBM traffic of a KV head in a step that scores m columns in r pieces and reads them q times, with
products of s bytes and a vector path of v: group m s (1 + q) for the products, 2 group r v for the
maxima and, if asked, as much for the sums; the first phase reads the query r times.
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode import steps
from accelsim.kernels.attention.decode.merging import Merge, allocate_merge
from accelsim.kernels.attention.operands import TilesOf
from accelsim.kernels.attention.precision import StepFormats


class Statistics(NamedTuple):
    """Of each piece of a KV head, a column each: row maxima and row sums. Tensors or buffers."""

    largest: Any
    total: Any


class Pieces(NamedTuple):
    """How the keys of a KV head are held piece by piece."""

    size: int
    """Keys of a piece, or other columns that have a score."""
    most: int
    """Pieces of the longest KV head."""
    loaded: al.Buffer
    """Products that are read back."""
    statistics: Statistics
    merge: Merge
    products: Any
    """Tensor [steps heads group, columns]: those of all steps, as they leave the cube."""
    stored: Any
    """`Statistics` of all steps in HBM, [steps heads group, pieces] each."""
    room: Any
    """int64 [group]: how many more that equal the threshold each row keeps."""


class ThroughHbm(NamedTuple):
    """What a kernel keeps in HBM from the first phase to the second one."""

    products: bool = False
    largest: bool = False
    total: bool = False


def allocate_pieces(
    rows: TilesOf, formats: StepFormats, value_dim: int, length: tuple[int, Any], own: ThroughHbm
) -> Pieces:
    """Declare the buffers of pieces; nothing is in HBM yet. length: of all, and of a piece."""
    columns, size = length
    most, absent = al.ceil_div(columns, size), rows.builder.no_buffer
    loaded = rows("loaded", size, formats.scores, slots=2) if own.products else None
    largest = rows("maxima", most) if own.largest else absent(formats.vector)
    total = rows("sums", most) if own.total else absent(formats.vector)
    return Pieces(
        size,
        most,
        loaded or absent(formats.scores),
        Statistics(largest, total),
        allocate_merge(rows, value_dim),
        *(None, None, None),
    )


def placed(builder: al.ProgramBuilder, k: Any, formats: StepFormats, own: ThroughHbm) -> Pieces:
    """Return the pieces of a layout with their tensors in HBM."""
    rows = k.steps * k.heads * k.group

    def place(name: str, cols: int, fmt: al.Format, *, is_kept: bool) -> al.Tensor:
        if not is_kept:
            return builder.no_tensor(fmt)
        return builder.tensor(name, "intermediate", rows, cols, fmt)

    return k.pieces._replace(
        products=place("products", k.kv_len, formats.scores, is_kept=own.products),
        stored=Statistics(
            place("piece_max", k.pieces.most, formats.vector, is_kept=own.largest),
            place("piece_sum", k.pieces.most, formats.vector, is_kept=own.total),
        ),
        room=np.zeros(k.group, np.int64),
    )


@al.jit_inner
def count(columns, k):
    """Pieces of so many columns."""
    return -(-columns // k.pieces.size)


@al.jit_inner
def piece(turn, columns, k):
    """First column and columns of a piece."""
    start = turn * k.pieces.size
    return start, min(k.pieces.size, columns - start)


@al.jit_inner
def first_row(at, k):
    """First row of the scores of a KV head in HBM."""
    return at.number * k.group


@al.jit_inner
def store_products(p, products, column, at, k):
    """Store products, the first of which is of `column`."""
    al.store(p, k.pieces.products, first_row(at, k), column, products)


@al.jit_inner
def store_maxima(p, x, turn, at, k):
    """Store the row maxima of the scores x of a piece."""
    largest = al.tile(k.largest, 0, k.group, 1)
    al.row_max(p, largest, x)
    al.store(p, k.pieces.stored.largest, first_row(at, k), turn, largest)


@al.jit_inner
def store_statistics(p, x, turn, at, k):
    """Store the row maxima of the scores x of a piece, and the row sums of their exponentials."""
    largest, total = steps.statistics(0, k, k)
    steps.exponentials_to(p, x, largest, total)
    al.store(p, k.pieces.stored.largest, first_row(at, k), turn, largest)
    al.store(p, k.pieces.stored.total, first_row(at, k), turn, total)


@al.jit_inner
def score_keys(p, turn, at, k):
    """Score a piece of the keys that a step sees, and store the products; returns the scores."""
    start, size = piece(turn, at.seen, k)
    rows, x = steps.part_of(steps.all_rows(at), start, size), al.tile(k.x, 0, k.group, size)
    steps.load_queries(p, at, k)
    for j in range(-(-size // k.tile_k)):
        acc = steps.product(p, rows, j, at, k)
        products = steps.take_scores(p, al.columns(x, j * k.tile_k, acc.cols), j, acc, k)
        store_products(p, products, start + j * k.tile_k, at, k)
    return x


@al.jit_inner
def load_largest(p, columns, at, k):
    """Return the row maxima of all scores."""
    _, largest = _loaded_statistics(p, columns, at, k)
    return largest


@al.jit_inner
def _loaded_statistics(p, columns, at, k):
    own = al.tile(k.pieces.statistics.largest, 0, k.group, count(columns, k))
    largest = al.tile(k.largest, 0, k.group, 1)
    al.load(p, own, k.pieces.stored.largest, first_row(at, k), 0)
    al.row_max(p, largest, own)
    return own, largest


@al.jit_inner
def load_statistics(p, columns, at, k):
    """Return the row maxima of all scores, and the row sums of their exponentials."""
    own, largest = _loaded_statistics(p, columns, at, k)
    sums = al.tile(k.pieces.statistics.total, 0, k.group, own.cols)
    total = al.tile(k.total, 0, k.group, 1)
    al.load(p, sums, k.pieces.stored.total, first_row(at, k), 0)
    al.subtract_column(p, own, own, largest)
    al.exp(p, own, own)
    al.multiply(p, sums, sums, own)
    al.row_sum(p, total, sums)
    return largest, total


@al.jit_inner
def load_products(p, turn, columns, at, k):
    """Read the products of a piece back."""
    start, size = piece(turn, columns, k)
    products = al.tile(k.pieces.loaded, turn, k.group, size)
    al.load(p, products, k.pieces.products, first_row(at, k), start)
    return products


@al.jit_inner
def kth_largest(p, bound, rank, columns, at, k):
    """bound = the `rank`-th largest product of each row; sets how many of its equals are kept."""
    extent = first_row(at, k), columns
    al.kth_largest_stored(p, bound, k.pieces.loaded, k.pieces.products, extent, rank, k.pieces.room)


@al.jit_inner
def add_sums(p, total, x, k):
    """Add the row sums of x to those of other pieces."""
    _, own = steps.statistics(0, k.pieces.merge.following, k)
    al.row_sum(p, own, x)
    al.add(p, total, total, own)


@al.jit_inner
def as_exponentials(p, x, products, largest, k):
    """x = exp(products / sqrt(d) - largest), which may be in place."""
    al.scale(p, x, products, k.factor)
    al.subtract_column(p, x, x, largest)
    al.exp(p, x, x)
