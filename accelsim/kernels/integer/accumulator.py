"""What an accumulator of the integer array holds, and a warning of sums that it may not hold."""

import warnings
from math import log2

from accelsim.errors import AccumulatorWarning, DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.numerics.formats import Format
from accelsim.numerics.integer import Accumulator

_CUBE_BITS = Format.INT32.bits


def accumulator_of(name: str, machine: MachineSpec) -> Accumulator:
    """Return what an accumulator holds; raises DoesNotFitError without an integer array."""
    array = machine.int_mac_for(name)
    return Accumulator(array.accumulator_bits, array.overflow == "saturate")


def warn_of_sums(
    name: str, machine: MachineSpec, formats: tuple[Format, Format], largest: float, remedy: str
) -> None:
    """Warn if a sum of products of these formats can exceed what an accumulator holds."""
    limit_bits = machine.int_mac_for(name).accumulator_bits - 1
    if largest >= 2**limit_bits:
        a, w = formats
        warnings.warn(
            f"{name}: sums of {a} x {w} products can reach 2^{log2(largest):.1f}, an "
            f"accumulator of machine {machine.name} holds less than 2^{limit_bits}; "
            f"{remedy}, or int_mac.overflow: saturate would help",
            AccumulatorWarning,
            stacklevel=3,
        )


def check_cube_sums(name: str, depth: int, fmt: Format) -> None:
    """Refuse integer sums over `depth` products that some input could push out of 32 bits.

    Those are what a cube accumulates integers in, and it counts nothing.
    """
    worst = depth * 4 ** (fmt.bits - 1)
    if worst >= 2 ** (_CUBE_BITS - 1):
        raise DoesNotFitError(
            f"{name}: sums over k = {depth} products of {fmt} can reach {worst}, more than a "
            f"{_CUBE_BITS}-bit accumulator holds"
        )
