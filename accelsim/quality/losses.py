"""What losses of tokens say of a text, and of several texts together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]

_LARGEST_EXPONENT = float(np.log(np.finfo(np.float64).max))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Tokens that were predicted with kernels and in FP32.

    NLL is the mean negative log likelihood of a token, in nats; perplexity is exp(NLL). What is
    not a finite number is None: both and their change when the loss of a token is infinite or NaN.
    """

    tokens: int
    """Tokens that were read, and predictions that were made."""
    nll: float | None
    fp32_nll: float | None
    """NLL of the same network in FP32."""
    nll_change: float | None
    """Mean over tokens of the loss with the kernels minus the loss in FP32."""
    nll_change_se: float | None
    """Standard error of that mean, the tokens taken as independent."""
    nonfinite_losses: int
    """Tokens whose loss with the kernels is infinite or NaN."""

    @classmethod
    def of(cls, losses: Losses, fp32_losses: Losses, **others: object) -> Self:
        """Return what losses say, in nats [tokens], with kernels and in FP32."""
        changes = losses - fp32_losses
        return cls(
            tokens=len(losses),
            nll=_mean(losses),
            fp32_nll=_mean(fp32_losses),
            nll_change=_mean(changes),
            nll_change_se=_standard_error(changes),
            nonfinite_losses=int(np.count_nonzero(~np.isfinite(losses))),
            **others,
        )

    @classmethod
    def together(cls, parts: "Sequence[Quality]", **others: object) -> Self:
        """Return the mean over parts of equally many tokens, which are independent."""
        count = len(parts)
        squares = _sum([_squared(part.nll_change_se) for part in parts])
        return cls(
            tokens=sum(part.tokens for part in parts),
            nll=_over(_sum([part.nll for part in parts]), count),
            fp32_nll=_over(_sum([part.fp32_nll for part in parts]), count),
            nll_change=_over(_sum([part.nll_change for part in parts]), count),
            nll_change_se=None if squares is None else squares**0.5 / count,
            nonfinite_losses=sum(part.nonfinite_losses for part in parts),
            **others,
        )

    @property
    def perplexity(self) -> float | None:
        """Perplexity with the kernels; of several texts the geometric mean."""
        return _exp(self.nll)

    @property
    def fp32_perplexity(self) -> float | None:
        """Perplexity in FP32."""
        return _exp(self.fp32_nll)

    @property
    def perplexity_change(self) -> float | None:
        """Relative change of the perplexity, 0.01 being one percent worse."""
        ratio = _exp(self.nll_change)
        return None if ratio is None else ratio - 1

    @property
    def perplexity_change_se(self) -> float | None:
        """Standard error of that change, to first order."""
        ratio = _exp(self.nll_change)
        if ratio is None or self.nll_change_se is None:
            return None
        return ratio * self.nll_change_se


MEASURED = (
    "tokens",
    "nll",
    "fp32_nll",
    "nll_change",
    "nll_change_se",
    "nonfinite_losses",
    "perplexity",
    "fp32_perplexity",
    "perplexity_change",
    "perplexity_change_se",
)
"""Fields and properties of a quality, as its dictionary has them."""


def measured(quality: Quality) -> dict[str, float | None]:
    """Return the numbers of a quality as plain data."""
    return {name: getattr(quality, name) for name in MEASURED}


def spread(parts: Sequence[Quality]) -> float | None:
    """Return the standard deviation of the change of the perplexity over texts; None of one."""
    changes = [part.perplexity_change for part in parts]
    if len(changes) < 2 or None in changes:
        return None
    return float(np.std(np.array(changes, float), ddof=1))


def _mean(losses: Losses) -> float | None:
    return float(losses.mean()) if np.isfinite(losses).all() else None


def _standard_error(changes: Losses) -> float | None:
    """Return the standard error of the mean, or None where there is no mean."""
    if not np.isfinite(changes).all():
        return None
    return float(changes.std(ddof=1) / np.sqrt(len(changes)))


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _over(value: float | None, count: int) -> float | None:
    return None if value is None else value / count


def _squared(value: float | None) -> float | None:
    return None if value is None else value * value


def _exp(nll: float | None) -> float | None:
    return None if nll is None or nll > _LARGEST_EXPONENT else float(np.exp(nll))
