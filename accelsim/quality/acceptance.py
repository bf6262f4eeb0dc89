"""How many tokens of a draft its target accepts, of a draft that is the target with kernels in it.

A token x that a draft draws from q is accepted with probability min(1, p(x) / q(x)), p being the
distribution of the target (Leviathan et al., arXiv 2211.17192). Over q that is sum min(p, q). A
draft begins at any token of a text, and goes along the text: the first i of its tokens are accepted
with the product of i neighbours. So what a hard sentence does to a whole draft is kept, which a
mean rate raised to a power would lose.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from accelsim.quality.estimate import Values

LONGEST = 8
"""Tokens of the longest draft that is told."""


def accepted_shares(windows: Sequence[Values]) -> tuple[float, ...]:
    """Return the share of drafts whose first 1, 2, ... tokens are accepted.

    windows: the probability that a draft of one token is accepted, for every token of a window.
    Drafts do not cross windows. Shares end where the shortest window does, or at `LONGEST`.
    """
    longest = min(LONGEST, *map(len, windows))
    runs = np.concatenate([sliding_window_view(each, longest) for each in windows])
    return tuple(np.cumprod(runs, axis=1).mean(axis=0).tolist())


def mean_shares(texts: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Return the mean over texts of as many drafts each."""
    return tuple(float(np.mean(column)) for column in zip(*texts, strict=False))
