"""What the predictions for a text say of the kernels, and those for several texts together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from accelsim.quality.acceptance import accepted_shares, mean_shares
from accelsim.quality.estimate import (
    Estimate,
    mean_over_texts,
    mean_over_windows,
    quantile_over_windows,
)
from accelsim.quality.predictions import Predictions

_LARGEST_EXPONENT = float(np.log(np.finfo(np.float64).max))
TAIL = 0.99
"""Share of the tokens whose KL divergence is not above `kl_p99`."""


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
    nll_change: Estimate
    """Mean over tokens of the loss with the kernels minus the loss in FP32."""
    greedy_agreement: Estimate
    """Share of the tokens where the most likely next token is that of FP32."""
    kl: Estimate
    """Mean KL divergence of the next token's distribution from that of FP32, in nats."""
    kl_p99: Estimate
    """The divergence that 99 % of the tokens do not exceed; of several texts the mean of theirs."""
    acceptance: Estimate
    """Mean probability that FP32 accepts a token drawn with the kernels, as a draft of it."""
    accepted_shares: tuple[float, ...]
    """Share of such drafts whose first 1, 2, ... tokens are accepted."""
    greedy_accepted_shares: tuple[float, ...]
    """The same where both take their most likely token."""
    se_unit: str
    """What standard errors take as independent: texts, windows or tokens."""
    se_units: int
    """How many of them there are."""
    nonfinite_losses: int
    """Tokens whose loss with the kernels is infinite or NaN."""

    @classmethod
    def of(cls, windows: Sequence[Predictions], **others: object) -> Self:
        """Return what the windows of one text say."""
        losses = [each.losses for each in windows]
        fp32_losses = [each.fp32_losses for each in windows]
        kl = [each.kl for each in windows]
        tokens = sum(map(len, losses))
        single = len(windows) == 1
        return cls(
            tokens=tokens,
            nll=mean_over_windows(losses).value,
            fp32_nll=mean_over_windows(fp32_losses).value,
            nll_change=mean_over_windows([each.changes for each in windows]),
            greedy_agreement=mean_over_windows([each.agrees for each in windows]),
            kl=mean_over_windows(kl),
            kl_p99=quantile_over_windows(kl, TAIL),
            acceptance=mean_over_windows([each.overlap for each in windows]),
            accepted_shares=accepted_shares([each.overlap for each in windows]),
            greedy_accepted_shares=accepted_shares([each.agrees for each in windows]),
            se_unit="tokens" if single else "windows",
            se_units=tokens if single else len(windows),
            nonfinite_losses=sum(int(np.count_nonzero(~np.isfinite(each))) for each in losses),
            **others,
        )

    @classmethod
    def together(cls, parts: "Sequence[Quality]", **others: object) -> Self:
        """Return the mean over texts of equally many tokens; texts are what is independent."""
        several = len(parts) > 1
        return cls(
            tokens=sum(part.tokens for part in parts),
            nll=_mean([part.nll for part in parts]),
            fp32_nll=_mean([part.fp32_nll for part in parts]),
            nll_change=mean_over_texts([part.nll_change for part in parts]),
            greedy_agreement=mean_over_texts([part.greedy_agreement for part in parts]),
            kl=mean_over_texts([part.kl for part in parts]),
            kl_p99=mean_over_texts([part.kl_p99 for part in parts]),
            acceptance=mean_over_texts([part.acceptance for part in parts]),
            accepted_shares=mean_shares([part.accepted_shares for part in parts]),
            greedy_accepted_shares=mean_shares([part.greedy_accepted_shares for part in parts]),
            se_unit="texts" if several else parts[0].se_unit,
            se_units=len(parts) if several else parts[0].se_units,
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
    def perplexity_change(self) -> Estimate:
        """Relative change of the perplexity, 0.01 being one percent worse.

        Its errors are to first order.
        """
        ratio = _exp(self.nll_change.value)
        change = None if ratio is None else ratio - 1
        return Estimate(change, *self.nll_change.errors_times(ratio))


ESTIMATES = ("nll_change", "perplexity_change", "greedy_agreement", "kl", "kl_p99", "acceptance")
"""Fields and properties of a quality that have standard errors."""
SHARES = ("accepted_shares", "greedy_accepted_shares")
"""Fields of a quality that have a number for each length of a draft."""
_PLAIN = ("tokens", "nll", "fp32_nll", "perplexity", "fp32_perplexity", "nonfinite_losses")


def measured(quality: Quality) -> dict[str, Any]:
    """Return the numbers of a quality as plain data, standard errors as `<name>_se`."""
    plain = {name: getattr(quality, name) for name in (*_PLAIN, "se_unit", "se_units")}
    plain |= {name: list(getattr(quality, name)) for name in SHARES}
    return plain | dict(_flat(quality))


def _flat(quality: Quality) -> Iterator[tuple[str, float | None]]:
    for name in ESTIMATES:
        estimate: Estimate = getattr(quality, name)
        yield name, estimate.value
        yield f"{name}_se", estimate.se
        yield f"{name}_token_se", estimate.token_se


def spread(parts: Sequence[Quality]) -> float | None:
    """Return the standard deviation of the change of the perplexity over texts; None of one."""
    changes = [part.perplexity_change.value for part in parts]
    if len(changes) < 2 or None in changes:
        return None
    return float(np.std(np.array(changes, float), ddof=1))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _exp(nll: float | None) -> float | None:
    return None if nll is None or nll > _LARGEST_EXPONENT else float(np.exp(nll))
