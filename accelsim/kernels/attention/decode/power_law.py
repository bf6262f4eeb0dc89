"""The threshold law of SiftAttention: theta(t) = a t^b, fitted online.

The quantile theta of the attention weights of a head falls like a power of the context length t
(Koley et al., SiftAttention, 2025, arXiv 2506.05300). Least squares of z = ln theta over u = ln t
needs five sums: N, sum u, sum z, sum u^2 and sum u z. Where every head is observed at every step,
only those with z differ between heads: two numbers of state a head.
"""

import numpy as np

from accelsim.kernels import language as al

NUM_SUMS = 5
FIT, C_OVER_T = range(2)
"""Rules: both numbers from least squares, or b = -1 and only a from the mean."""

_SMALLEST_SPREAD = 1e-12
"""Variance of u over its mean square from which the steps give a slope: ten times the rounding of
sums over hundreds of steps; 256 steps behind a million-token context have 3e-11."""


@al.jit
def observe(sums, t, theta):
    """Add the quantile `theta` seen at context length t to the sums of a head.

    What has no logarithm is left out: a quantile of zero (the weight underflowed) or NaN.
    """
    if theta > 0 and np.isfinite(theta):
        u, z = np.log(t), np.log(theta)
        sums[0] += 1
        sums[1] += u
        sums[2] += z
        sums[3] += u * u
        sums[4] += u * z


@al.jit
def fitted(sums, rule):
    """Return (ln a, b) of a head; NaN where there is no law.

    There is none without observations, or, under the rule FIT, if the observed context lengths are
    too close together for a slope, or if the threshold would rise with t.
    """
    count, u, z, uu, uz = sums
    if count == 0:
        return np.nan, np.nan
    if rule == C_OVER_T:
        return (z + u) / count, -1.0
    spread = count * uu - u * u
    if not spread > _SMALLEST_SPREAD * count * uu:
        return np.nan, np.nan
    slope = (count * uz - u * z) / spread
    if slope >= 0:
        return np.nan, np.nan
    return (z - slope * u) / count, slope


@al.jit
def threshold(sums, rule, t):
    """Return theta at context length t, and 0 for a head without a law: it keeps every weight."""
    log_a, slope = fitted(sums, rule)
    theta = np.exp(log_a + slope * np.log(t))
    return theta if np.isfinite(theta) else 0.0
