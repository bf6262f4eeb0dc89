"""PASA and centered attention as NumPy statements, in float64 or operation by operation in FP16.

One statement serves two questions: in `EXACT` arithmetic, is the algorithm attention? In `FP16`
arithmetic, does the kernel compute the algorithm? Sums are taken in the order of the kernels.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


def unchanged(x: Array) -> Array:
    return x


def to_fp16(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float32).astype(np.float16).astype(np.float32)


class Arithmetic(NamedTuple):
    dtype: type
    vector: Callable[[Array], Array]
    """Rounding of shifted keys, scores, weights, sums and outputs."""
    statistics: Callable[[Array], Array]
    """Rounding of what there is one of for each row."""


EXACT = Arithmetic(np.float64, unchanged, unchanged)
FP16 = Arithmetic(np.float32, to_fp16, to_fp16)
FP16_STATISTICS_FP32 = Arithmetic(np.float32, to_fp16, unchanged)


class Case(NamedTuple):
    """One head: q [q_len, dim], k and v [kv_len, dim]."""

    q: Array
    k: Array
    v: Array
    tile_q: int
    tile_k: int
    causal: bool

    @property
    def query_tiles(self) -> Iterator[tuple[slice, int]]:
        """Rows of each query tile, and how many keys its last row sees."""
        q_len, kv_len = len(self.q), len(self.k)
        for row in range(0, q_len, self.tile_q):
            stop = min(row + self.tile_q, q_len)
            yield slice(row, stop), (stop + kv_len - q_len if self.causal else kv_len)

    def hidden(self, rows: slice, start: int, cols: int) -> Array:
        """Which of the keys start:start+cols the rows do not see."""
        last = np.arange(rows.start, rows.stop)[:, None] + len(self.k) - len(self.q)
        return (start + np.arange(cols) > last) & self.causal


class Running(NamedTuple):
    """Maximum, sum and output of the rows so far."""

    largest: Array
    total: Array
    output: Array


def product(a: Array, b: Array, dtype: type) -> Array:
    """Matrix product whose sums run along k in order, as the cube's do."""
    total = np.zeros((len(a), b.shape[1]), dtype)
    for step in range(len(b)):
        total += a[:, step : step + 1] * b[step]
    return total


def row_sum(x: Array, rounded: Callable[[Array], Array]) -> Array:
    """Sums of rows by halving."""
    work, width = x.copy(), x.shape[1]
    while width > 1:
        half = (width + 1) // 2
        work[:, : width - half] = rounded(work[:, : width - half] + work[:, half:width])
        width = half
    return work[:, :1]


def row_mean(x: Array, rounded: Callable[[Array], Array]) -> Array:
    """Means of rows; in FP16 the elements are divided before they are summed."""
    share = rounded(x.dtype.type(1 / x.shape[1]))
    if rounded is to_fp16:
        return row_sum(rounded(x * share), rounded)
    return rounded(row_sum(x, rounded) * share)


def exponential(x: Array, dtype: type) -> Array:
    """e^x, correctly rounded to `dtype`."""
    return np.exp(x.astype(np.float64)).astype(dtype)


def local_softmax(scores: Array, hidden: Array, how: Arithmetic) -> tuple[Array, Array, Array]:
    """Maximum, weights and their sum of one tile in its own frame."""
    scores = np.where(hidden, -np.inf, scores)
    largest = np.maximum(scores.max(axis=1, keepdims=True), -60000.0)
    weights = how.vector(exponential(how.vector(scores - largest), how.dtype))
    return largest, weights, row_sum(weights, how.vector)


def merged(
    past: Running,
    largest: Array,
    exponents: tuple[Array, Array],
    tile: tuple[Array, ...],
    how: Arithmetic,
) -> Running:
    """The running result with one more tile: (sum of weights, weighted values)."""
    r = how.vector
    keep, enter = (r(how.statistics(exponential(each, how.dtype))) for each in exponents)
    tile_sum, weighted = tile
    return Running(
        largest,
        r(r(past.total * keep) + r(tile_sum * enter)),
        r(r(past.output * keep) + r(weighted * enter)),
    )


def nothing(rows: int, dim: int, dtype: type) -> Running:
    return Running(
        np.full((rows, 1), -np.inf, dtype), np.zeros((rows, 1), dtype), np.zeros((rows, dim), dtype)
    )


def pasa(
    case: Case, diagonal: float, off_diagonal: float, recovery: float, how: Arithmetic
) -> Array:
    """PASA with a shifting matrix of two distinct elements."""
    n, dtype, r, s = case.tile_k, how.dtype, how.vector, how.statistics
    q, k, v = (x.astype(dtype) for x in (case.q, case.k, case.v))
    copies = -len(k) % n
    padded = np.concatenate([k, k[len(k) - copies :]]) if copies else k
    matrix = np.where(np.eye(n, dtype=bool), diagonal, off_diagonal).astype(dtype)
    shifted = [
        r(product(matrix, padded[start : start + n], dtype)) for start in range(0, len(k), n)
    ]
    recovery = s(dtype(recovery))
    output = np.empty_like(q)
    for rows, seen in case.query_tiles:
        run, frame = nothing(rows.stop - rows.start, q.shape[1], dtype), None
        for j, start in enumerate(range(0, seen, n)):
            cols = min(n, len(k) - start)
            scores = r(product(q[rows], shifted[j].T, dtype))
            mean = row_mean(scores, s)
            largest, weights, total = local_softmax(
                scores[:, :cols], case.hidden(rows, start, cols), how
            )
            before = mean if frame is None else frame
            parts = s(mean * s(dtype(1 / (j + 1)))), s(before * s(dtype(j / (j + 1))))
            frame = s(parts[0] + parts[1])
            shift, old_shift = s(s(mean - frame) * recovery), s(s(before - frame) * recovery)
            new = np.maximum(s(run.largest + old_shift), s(largest + shift))
            exponents = s(s(run.largest - new) + old_shift), s(s(largest - new) + shift)
            weighted = r(product(weights, v[start : start + cols], dtype))
            run = merged(run, new, exponents, (total, weighted), how)
        output[rows] = r(run.output / run.total)
    return output


def centered(case: Case, how: Arithmetic, mean_rounding: Callable[[Array], Array]) -> Array:
    """Attention over keys without their tile mean, whose offset is kept."""
    n, dtype, r = case.tile_k, how.dtype, how.vector
    q, k, v = (x.astype(dtype) for x in (case.q, case.k, case.v))
    scale = dtype(1 / np.sqrt(q.shape[1]))
    output = np.empty_like(q)
    for rows, seen in case.query_tiles:
        run = nothing(rows.stop - rows.start, q.shape[1], dtype)
        for start in range(0, seen, n):
            keys = k[start : start + n]
            ones = np.ones((1, len(keys)), dtype)
            mean = mean_rounding(product(ones, keys, dtype) * dtype(1 / len(keys))).astype(dtype)
            shifted = r((keys - mean) * scale)
            offset = product(q[rows], mean.T, dtype) * scale
            scores = r(product(q[rows], shifted.T, dtype))
            largest, weights, total = local_softmax(
                scores, case.hidden(rows, start, len(keys)), how
            )
            end = largest + offset
            new = np.maximum(run.largest, end)
            weighted = r(product(weights, v[start : start + n], dtype))
            run = merged(run, new, (run.largest - new, end - new), (total, weighted), how)
        output[rows] = r(run.output / run.total)
    return output
