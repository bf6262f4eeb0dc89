"""How many rows each expert of a layer gets in a step: the load that tokens put on experts.

Chances are those with which a token picks an expert; picks of a token are different experts, so
chances add up to the picks of a token. Which expert has how many rows changes no time, so rows
are in falling order.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from accelsim.errors import WorkloadError

Rows = tuple[int, ...]
Chances = npt.NDArray[np.float64]

_HIGHEST_CHANCE = 0.95
"""Of the first expert of Zipf: every token would pick it otherwise, where few are picked of few."""
_TRIED, _MOST_CHOICES = 32, 1 << 22
"""Draws for each one that is taken, and choices in all of them, beyond which they are fewer."""
_BLOCKS = (16, 32, 64, 128, 256)
"""Rows of blocks that products of experts are cut into, by which draws are told apart."""


class ExpertLoad(ABC):
    """How tokens choose among experts.

    Contract: a frozen value, which is a part of what a step is.
    """

    @abstractmethod
    def loads(self, tokens: int, experts: int, top_k: int, draws: int) -> tuple[Rows, ...]:
        """Return at most `draws` loads that stand for equal shares of the layers of a step.

        Each has the rows of all experts, tokens x top_k in all. Raises WorkloadError.
        """


@dataclass(frozen=True, slots=True)
class Balanced(ExpertLoad):
    """Experts take turns: loads differ by one row at most."""

    used: int | None = None
    """Experts that take turns, the others get nothing; None: all."""

    def loads(self, tokens: int, experts: int, top_k: int, draws: int) -> tuple[Rows, ...]:
        """Return the one load there is."""
        used = experts if self.used is None else self.used
        if not top_k <= used <= experts:
            raise WorkloadError(
                f"experts: found spread_{used}, allowed: {top_k} to {experts}, as a token picks "
                f"{top_k} of {experts}"
            )
        rows = np.zeros(experts, np.int64)
        rows[:used] = tokens * top_k // used
        rows[: tokens * top_k % used] += 1
        return (_in_falling_order(rows),)


@dataclass(frozen=True, slots=True)
class Drawn(ExpertLoad):
    """Each token draws its experts, in every layer anew.

    The draws of a step depend on the seed and on its number of tokens, so all steps of a generation
    have the same ones.
    """

    seed: int = 0

    @abstractmethod
    def chances(self, experts: int, top_k: int) -> Chances:
        """Return the chance of each expert [experts], at most 1, `top_k` in all."""

    def loads(self, tokens: int, experts: int, top_k: int, draws: int) -> tuple[Rows, ...]:
        """Return draws that stand for all: those in the middle of equal shares of many.

        They are put in order by the row blocks they make, in which times are about linear.
        """
        return _drawn_loads(self, tokens, experts, top_k, draws)


@dataclass(frozen=True, slots=True)
class Uniform(Drawn):
    """All experts have the same chance."""

    def chances(self, experts: int, top_k: int) -> Chances:
        """Return equal chances."""
        return np.full(experts, top_k / experts)


UNIFORM = Uniform()


@dataclass(frozen=True, slots=True)
class Zipf(Drawn):
    """The r-th expert has a chance proportional to 1 / r, and none of more than 0.95."""

    def chances(self, experts: int, top_k: int) -> Chances:
        """Return chances that fall, or equal ones where the highest chance is too low for them."""
        if top_k >= _HIGHEST_CHANCE * experts:
            return np.full(experts, top_k / experts)
        return _capped(1 / np.arange(1, experts + 1), top_k, _HIGHEST_CHANCE)


@dataclass(frozen=True, slots=True)
class Histogram(Drawn):
    """Chances are shares of rows that somebody counted."""

    counts: tuple[float, ...] = ()
    """Rows of each expert, of any number of tokens."""

    def chances(self, experts: int, top_k: int) -> Chances:
        """Return chances as counted, none of more than 1."""
        _check_number(len(self.counts), experts)
        counts = np.array(self.counts)
        if np.count_nonzero(counts) < top_k:
            raise WorkloadError(
                f"experts: found rows of {np.count_nonzero(counts)} experts in the histogram, "
                f"allowed: of {top_k} at least, which a token picks"
            )
        return _capped(counts, top_k, 1.0)


@dataclass(frozen=True, slots=True)
class Counted(ExpertLoad):
    """A mean over layers of rows by rank, which is rounded up and down in equal measure."""

    counts: tuple[float, ...]
    """Rows of each expert, tokens x top_k in all."""

    def loads(self, tokens: int, experts: int, top_k: int, draws: int) -> tuple[Rows, ...]:
        """Return loads whose mean is near the counts: 0.3 rows are one row in 3 of 10 loads."""
        _check_number(len(self.counts), experts)
        sums = np.cumsum(self.counts) * (tokens * top_k / sum(self.counts))
        sums[-1] = tokens * top_k
        offsets = (np.arange(draws) + 0.5) / draws
        found = [np.diff(np.floor(sums + offset), prepend=0) for offset in offsets]
        return tuple(_in_falling_order(rows.astype(np.int64)) for rows in found)


def _check_number(found: int, experts: int) -> None:
    if found != experts:
        raise WorkloadError(
            f"experts: found a histogram of {found} experts, allowed: {experts}, as the model has"
        )


def _capped(weights: Chances, total: float, most: float) -> Chances:
    """Return numbers proportional to weights, but at most `most`, that add up to a total."""
    low, high = 0.0, most / weights[weights > 0].min()
    for _ in range(200):
        middle = (low + high) / 2
        is_low = np.minimum(most, middle * weights).sum() < total
        low, high = (middle, high) if is_low else (low, middle)
    found: Chances = np.minimum(most, high * weights)
    return found


@lru_cache(256)
def _drawn_loads(
    load: Drawn, tokens: int, experts: int, top_k: int, draws: int
) -> tuple[Rows, ...]:
    chances = load.chances(experts, top_k)
    rng = np.random.default_rng([load.seed, tokens, experts, top_k])
    each = max(1, min(_TRIED, _MOST_CHOICES // (tokens * top_k * draws)))
    tried = [_drawn(chances, tokens, top_k, rng) for _ in range(each * draws)]
    return _representative(tried, draws)


def _drawn(
    chances: Chances, tokens: int, top_k: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return rows of experts where each token draws by systematic sampling (Madow, 1949).

    Of experts side by side, each as wide as its chance, a token takes those below points that are
    1 apart: `top_k` different ones, each with its chance.
    """
    order = rng.permutation(len(chances))
    ends = np.cumsum(chances[order])
    points = rng.random(tokens)[:, None] + np.arange(top_k)
    places = np.minimum(np.searchsorted(ends, points, side="right"), len(ends) - 1)
    return np.bincount(order[places.ravel()], minlength=len(chances)).astype(np.int64)


def _representative(tried: list[npt.NDArray[np.int64]], draws: int) -> tuple[Rows, ...]:
    blocks = np.array([sum((-(-rows // size)).sum() for size in _BLOCKS) for rows in tried])
    order = np.argsort(blocks, kind="stable")
    share = len(tried) // draws
    return tuple(_in_falling_order(tried[order[i * share + share // 2]]) for i in range(draws))


def _in_falling_order(rows: npt.NDArray[np.int64]) -> Rows:
    return tuple(int(each) for each in np.sort(rows)[::-1])
