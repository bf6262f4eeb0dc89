"""Means and quantiles over tokens, and how far they may be off.

Tokens of a window share their past and a window shares its text, so tokens are no independent
draws. What is independent is the unit: the texts where there are several, else the windows of the
text. Only a single window leaves no choice but its tokens. The error that takes every token as
independent is kept beside, since it is what one can compare with other work.

Errors over units are cluster-robust: of the sum of the deviations in each unit, with the factor
n / (n - 1) for few units (Liang and Zeger, Biometrika 73, 1986). The error of a quantile comes from
that of the share below it (Woodruff, Journal of the American Statistical Association 47, 1952).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
"""A value for every token."""


class Estimate(NamedTuple):
    """A mean or a quantile and its standard errors; None: something was not finite."""

    value: float | None
    se: float | None
    """Standard error over units, which are texts, windows or, with one window, tokens."""
    token_se: float | None
    """Standard error with all tokens taken as independent."""

    def errors_times(self, factor: float | None) -> tuple[float | None, float | None]:
        """Return both standard errors times a factor."""
        if factor is None or self.se is None or self.token_se is None:
            return None, None
        return factor * self.se, factor * self.token_se


NOTHING = Estimate(None, None, None)


def mean_over_windows(windows: Sequence[Values]) -> Estimate:
    """Return the mean over all tokens of windows, which may differ in length."""
    values = np.concatenate(windows)
    if not np.isfinite(values).all():
        return NOTHING
    mean = float(values.mean())
    return Estimate(mean, *_errors(windows, mean))


def quantile_over_windows(windows: Sequence[Values], share: float) -> Estimate:
    """Return the value that `share` of all tokens do not exceed."""
    values = np.concatenate(windows)
    if not np.isfinite(values).all():
        return NOTHING
    quantile = float(np.quantile(values, share))
    below = [(window <= quantile).astype(np.float64) for window in windows]
    share_errors = _errors(below, float(np.mean(values <= quantile)))
    return Estimate(quantile, *(_across(values, share, error) for error in share_errors))


def mean_over_texts(texts: Sequence[Estimate]) -> Estimate:
    """Return the mean over texts of as many tokens each; a single text stays what it is."""
    if len(texts) == 1:
        return texts[0]
    if any(None in text for text in texts):
        return NOTHING
    means, _, token_errors = (np.array(column, np.float64) for column in zip(*texts, strict=True))
    count = len(texts)
    return Estimate(
        float(means.mean()),
        float(means.std(ddof=1) / np.sqrt(count)),
        float(np.sqrt(np.square(token_errors).sum()) / count),
    )


def _errors(windows: Sequence[Values], mean: float) -> tuple[float, float]:
    """Return the standard errors of the mean over tokens: over windows, and by token."""
    deviations = [window - mean for window in windows]
    by_token = _clustered(np.concatenate(deviations), 1)
    if len(windows) == 1:
        return by_token, by_token
    tokens = sum(map(len, windows))
    sums = np.array([each.sum() for each in deviations])
    return _clustered(sums, tokens / len(windows)), by_token


def _clustered(sums: Values, tokens_per_unit: float) -> float:
    """Return the standard error of a mean, given the sum of deviations of every unit."""
    units = len(sums)
    variance = np.square(sums).sum() / (units - 1) / units
    return float(np.sqrt(variance) / tokens_per_unit)


def _across(values: Values, share: float, share_se: float) -> float:
    """Return half the way between the quantiles one standard error of the share apart."""
    around = np.clip((share - share_se, share + share_se), 0, 1)
    low, high = np.quantile(values, around)
    return float(high - low) / 2
