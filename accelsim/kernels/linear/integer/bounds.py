"""How large the sums of a product can get, and how large they got."""

from dataclasses import replace
from math import log2

import numpy as np

from accelsim.kernels.linear.integer.operands import Doubles, row_products
from accelsim.program.program import Program
from accelsim.quantization.codes import Codes

Peak = np.ndarray[tuple[int], np.dtype[np.int64]]
"""The largest magnitude so far, alone in an array."""


def largest_sum(growth: Doubles, weights: Codes, activation_bits: int) -> float:
    """Return the largest magnitude that any sum can have on its way.

    growth [chunks, k]: by how much the product of a channel has grown at the end. The weights are
    known, so only the codes of X are taken at their worst: max_j sum_c f_c |w_cj| 2^(bits - 1).
    """
    return float(row_products(growth, np.abs(weights)).max()) * 2 ** (activation_bits - 1)


def with_sums(program: Program, largest: float, peak: Peak) -> Program:
    """Return the program with what its sums could be and were, as logarithms to base 2."""
    return with_statistics(
        program,
        accumulator_overflows=float(program.overflows),
        accumulator_bound_bits=log2(max(largest, 1)),
        accumulator_used_bits=log2(max(int(peak[0]), 1)),
    )


def with_statistics(program: Program, **statistics: float) -> Program:
    """Return the program with more to tell of it."""
    return replace(program, selection={**program.selection, **statistics})
