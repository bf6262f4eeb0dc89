"""The pseudo-average of PASA: which beta, and which factor brings a row mean back.

The shifting matrix of a tile of n keys is M = c (I - beta/n 1 1^T), c the scale of the scores. It
has two distinct elements, which are stored rounded: a~ - b~ on the diagonal and -b~ beside it. The
scores it gives are S' = a~ q.k - n b~ mean(q.k), of mean (a~ - n b~) mean(q.k), so what was taken
off is n b~ / (a~ - n b~) times the mean of S'. The kernel uses beta / (1 - beta) for this factor; a
beta for which both agree loses nothing to the rounding of M.

Sources: PASA (arXiv 2503.01873), section on the optimal accuracy condition, and the authors'
`optimal_para.py` (github.com/chenglong92/PASA at 14f5c6f). The published condition rounds M without
its scale c, and asks that its row sum be 1 - beta; the corrected one takes the factor from the
matrix that is really stored.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from accelsim.kernels import language as al
from accelsim.numerics.rounding import round_array

Condition = Literal["corrected", "published"]
"""corrected: of the rounded and scaled matrix; published: of the rounded matrix without scale."""

_TOLERANCE = 1e-8
"""Relative step of beta at which the published script stops."""
_MOST_STEPS = 100


@dataclass(frozen=True, slots=True)
class PseudoAverage:
    """A shifting matrix as it is stored, and the factor that belongs to it."""

    beta: float
    """Share of the mean that is taken off."""
    diagonal: float
    """Rounded element on the diagonal of M."""
    off_diagonal: float
    """Rounded element beside the diagonal of M, negative."""
    rows: int
    """Rows and columns of M: keys of a tile."""

    @property
    def recovery(self) -> float:
        """Factor Inv = beta / (1 - beta) that the kernel uses."""
        return self.beta / (1 - self.beta)

    @property
    def needed_recovery(self) -> float:
        """Factor that the rounded matrix needs."""
        return -self.rows * self.off_diagonal / self.row_sum

    @property
    def row_sum(self) -> float:
        """Sum of a row of the rounded matrix."""
        return self.diagonal + (self.rows - 1) * self.off_diagonal

    def matrix(self) -> al.Array:
        """Return the rounded matrix, float32 [rows, rows]."""
        matrix = np.full((self.rows, self.rows), self.off_diagonal, np.float32)
        np.fill_diagonal(matrix, self.diagonal)
        return matrix


def solve_pseudo_average(
    start: float, rows: int, scale: float, condition: Condition, fmt: al.Format = al.Format.FP16
) -> PseudoAverage:
    """Return the beta that a condition asks for near `start`, and its matrix.

    rows: keys of a tile. scale: c, folded into M before it is rounded to `fmt`. Raises ConfigError
    if the rounded matrix has no inverse, or the published iteration does not settle.
    """
    beta = _published_beta(start, rows, fmt) if condition == "published" else start
    matrix = _rounded(beta, rows, scale, fmt)
    if not matrix.row_sum > 0:
        raise al.ConfigError(
            [
                f"beta: found {start}, for which the {condition} condition has no solution with a "
                f"shifting matrix of {rows} keys in {fmt}; allowed: a beta nearer to 0.9375"
            ]
        )
    if condition == "published":
        return matrix
    # The matrix stays as it is and the factor follows from it, so there is nothing to iterate.
    return replace(matrix, beta=matrix.needed_recovery / (1 + matrix.needed_recovery))


def _published_beta(start: float, rows: int, fmt: al.Format) -> float:
    """Return the fixed point of beta = 1 - row sum of the rounded matrix without its scale.

    NaN if the iteration leaves (0, 1) or does not settle.
    """
    beta = start
    for _ in range(_MOST_STEPS):
        before, beta = beta, 1 - _rounded(beta, rows, 1.0, fmt).row_sum
        if not 0 < beta < 1:
            break
        if abs(beta - before) < _TOLERANCE * before:
            return beta
    return math.nan


def _rounded(beta: float, rows: int, scale: float, fmt: al.Format) -> PseudoAverage:
    share = beta / rows
    diagonal, off_diagonal = round_array([scale * (1 - share), -scale * share], fmt)
    return PseudoAverage(beta, float(diagonal), float(off_diagonal), rows)
