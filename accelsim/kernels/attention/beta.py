"""The pseudo-average of PASA: which beta, and which factor brings a row mean back.

The shifting matrix of a tile of n keys is M = c (I - beta/n 1 1^T), c the scale of the scores. It
has two distinct elements, which are stored rounded: a~ - b~ on the diagonal and -b~ beside it. The
scores it gives are S' = a~ q.k - n b~ mean(q.k), of mean (a~ - n b~) mean(q.k), so what was taken
off is n b~ / (a~ - n b~) times the mean of S'. The kernel uses beta / (1 - beta) for this factor; a
beta for which both agree loses nothing to the rounding of M.

Sources: PASA (arXiv 2503.01873), section on the optimal accuracy condition, and the authors'
`optimal_para.py` (github.com/chenglong92/PASA at 14f5c6f). The published condition rounds M without
its scale c; the corrected one rounds what is really stored.
"""

from dataclasses import dataclass
from typing import Literal

from accelsim.errors import ConfigError
from accelsim.numerics.formats import Format
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


def solve_pseudo_average(
    start: float, rows: int, scale: float, condition: Condition, fmt: Format = Format.FP16
) -> PseudoAverage:
    """Return the fixed point of a condition that is reached from beta = `start`.

    rows: keys of a tile. scale: c, folded into M before it is rounded to `fmt`. Raises ConfigError
    if the iteration meets a matrix that has no inverse, or does not settle.
    """
    beta = start
    for _ in range(_MOST_STEPS):
        judged = _rounded(beta, rows, 1.0 if condition == "published" else scale, fmt)
        if judged.row_sum <= 0:
            break
        before, beta = beta, _next_beta(judged, condition)
        if not 0 < beta < 1:
            break
        if abs(beta - before) < _TOLERANCE * before:
            return _rounded(beta, rows, scale, fmt)
    raise ConfigError(
        [
            f"beta: found {start}, for which the {condition} condition has no solution with a "
            f"shifting matrix of {rows} keys in {fmt}; allowed: a beta nearer to 0.9375"
        ]
    )


def _next_beta(matrix: PseudoAverage, condition: Condition) -> float:
    """Return the beta whose recovery factor is right for a rounded matrix.

    The published condition asks that mean(S') = (1 - beta) mean(s) for the exact s, the corrected
    one for the s that the matrix really weighs, which may differ in the last place.
    """
    if condition == "published":
        return 1 - matrix.row_sum
    return matrix.needed_recovery / (1 + matrix.needed_recovery)


def _rounded(beta: float, rows: int, scale: float, fmt: Format) -> PseudoAverage:
    share = beta / rows
    diagonal, off_diagonal = round_array([scale * (1 - share), -scale * share], fmt)
    return PseudoAverage(beta, float(diagonal), float(off_diagonal), rows)
