"""How large the sums of a product can get, said before the run, and how large they got."""

import warnings
from dataclasses import replace
from math import log2

import numpy as np

from accelsim.errors import AccumulatorWarning
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.linear.integer.frame import Frame
from accelsim.kernels.linear.integer.operands import Doubles, row_products
from accelsim.numerics.formats import Format
from accelsim.program.program import Program
from accelsim.quantization.codes import Codes

Peak = np.ndarray[tuple[int], np.dtype[np.int64]]


def largest_sum(factors: Doubles, weights: Codes, activation_bits: int) -> float:
    """Return the largest magnitude that any sum can have on its way.

    factors [chunks, k]: by how much the product of a channel has grown at the end. The weights are
    known, so only the codes of X are taken at their worst: max_j sum_c f_c |w_cj| 2^(bits - 1).
    """
    return float(row_products(factors, np.abs(weights)).max()) * 2 ** (activation_bits - 1)


def warn_of_overflow(frame: Frame, largest: float, remedy: str) -> None:
    """Warn if a sum of a linear can exceed what an accumulator of the machine holds."""
    warn_of_sums(frame.name, frame.machine, frame.parameters.formats, largest, remedy)


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


def with_sums(program: Program, largest: float, peak: Peak, **statistics: float) -> Program:
    """Return the program with what its sums were, as logarithms to base 2, and with `statistics`.

    Without numbers there are no sums to tell of.
    """
    if not largest:
        return replace(program, selection=statistics)
    selection = {
        "accumulator_overflows": float(program.overflows),
        "accumulator_bound_bits": log2(max(largest, 1)),
        "accumulator_used_bits": log2(max(int(peak[0]), 1)),
    }
    return replace(program, selection=selection | statistics)
