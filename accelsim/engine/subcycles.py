"""Fractions of a cycle as whole subcycles: rounding never accumulates over a stream."""

import numpy as np

from accelsim.runtime.jit import jit

SUBCYCLES = 1024
"""Subcycles per cycle."""
_RATE_BITS = 20


def service_rate(bytes_per_cycle: float) -> int:
    """Return the subcycles that 2^20 bytes take at this rate, rounded up: never above the rate."""
    return int(np.ceil(SUBCYCLES * 2**_RATE_BITS / bytes_per_cycle))


@jit
def service_subcycles(num_bytes, subcycles_per_mebibyte):
    """Subcycles to transfer `num_bytes`, rounded up."""
    return (num_bytes * subcycles_per_mebibyte + (1 << _RATE_BITS) - 1) >> _RATE_BITS
