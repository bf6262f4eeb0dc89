"""Whole cycles of work at a rate, for plain Python and compiled code alike."""

from accelsim import units
from accelsim.runtime.jit import jit, jit_inner

ceil_div = jit_inner(units.ceil_div)

_LONGEST_CYCLES = 2.0**53
"""Longer is not counted: beyond it the conversion to an integer would mean nothing."""


@jit
def ceil_cycles(amount: float, per_cycle: float) -> int:
    """Whole cycles to process `amount` at a rate that need not be a whole number, up to 2^53.

    Compiled code gives the amount as a float, so that there is one version to compile.
    """
    whole = int(min(amount / per_cycle, _LONGEST_CYCLES))
    return whole if whole * per_cycle >= amount else whole + 1
