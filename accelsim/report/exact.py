"""Numbers that add exactly: fractions whose denominators are powers of two."""

from fractions import Fraction

_GRAINS = 2**200
"""Grains in one; a quotient is rounded to whole grains."""


def quotient(dividend: float, divisor: float) -> Fraction:
    """Return `dividend / divisor` to 2^-200, a power of two below the line however many add up.

    Raises ZeroDivisionError.
    """
    return Fraction(round(Fraction(dividend) / Fraction(divisor) * _GRAINS), _GRAINS)


def ratio(dividend: Fraction | int, divisor: Fraction | int) -> float:
    """Return `dividend / divisor`, rounded once; 0 where there is nothing to divide by."""
    return float(Fraction(dividend) / divisor) if divisor else 0.0
