"""From what runs took to what the items that were left out take, and how far that may be off.

What a run takes is proportional to its ops where all items are alike. Where they are not, an item
takes something besides, whatever its ops: so y / ops = a + b items / ops, a straight line, which is
fitted to the runs (least squares). Where all runs have as many ops an item, b is left out.

Source: Cochran, "Sampling Techniques" (1977), chapter 7 (regression estimators); the interval is
that of a prediction, with Student's t.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Amounts = npt.NDArray[np.float64]

_UNEQUAL = 0.02
"""Spread of items / ops, as a share of the mean, from which on a line is fitted."""
# Student's t for 95 % on both sides, by degrees of freedom from 1 on (NIST/SEMATECH e-Handbook of
# Statistical Methods, 1.3.6.7.2).
_T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Size(NamedTuple):
    """Items and their ops; arrays where it is of several runs."""

    items: Amounts
    ops: Amounts


class Estimate(NamedTuple):
    """What is left out takes, and half of the interval that has it in 95 of 100 cases."""

    amounts: Amounts
    """[quantity]"""
    margins: Amounts
    """[quantity]"""


def student_t(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t."""
    return _T_95[min(freedom, len(_T_95)) - 1]


def estimate(taken: Amounts, runs: Size, left_out: Size) -> Estimate:
    """Return what items that were left out take; taken: [run, quantity] of the runs."""
    rates = taken / runs.ops[:, None]
    shapes = runs.items / runs.ops
    shape = float(left_out.items / left_out.ops) if left_out.ops > 0 else 0.0
    spread = shapes - shapes.mean()
    squares = float(spread @ spread)
    count = len(rates)
    mean = rates.mean(axis=0)
    if np.ptp(shapes) > _UNEQUAL * shapes.mean() and count > 2:
        slopes = spread @ rates / squares
        distance = shape - shapes.mean()
        freedom, leverage = count - 2, 1 / count + distance**2 / squares
    else:
        slopes, distance = np.zeros(rates.shape[1]), 0.0
        freedom, leverage = count - 1, 1 / count
    residuals = rates - mean - spread[:, None] * slopes
    deviation = np.sqrt((residuals**2).sum(axis=0) / freedom)
    # The items left out are as many runs, each of which is off by as much as one that was seen.
    leverage += float(runs.ops.mean() / left_out.ops) if left_out.ops > 0 else 0.0
    amounts = (mean + distance * slopes) * left_out.ops
    return Estimate(amounts, student_t(freedom) * deviation * sqrt(leverage) * left_out.ops)
