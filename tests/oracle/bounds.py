"""How far a kernel may be from its oracle: bounds that follow from the formats alone.

Standard model of rounding: fl(x) = x (1 + e) with |e| <= u, plus an absolute error of at most
half the smallest subnormal. A chain of n roundings with unit roundoffs u_i stays within a relative
error of exp(sum u_i / (1 - u_i)) - 1 (Higham, "Accuracy and Stability of Numerical Algorithms",
2002, lemma 3.1). The bounds count roundings; nothing in them is fitted.
"""

from dataclasses import dataclass
from math import ceil, log2

import numpy as np

from accelsim.numerics.formats import Format

_SIGNIFICANT_BITS = {
    Format.FP32: 24,
    Format.BF16: 8,
    Format.FP16: 11,
    Format.FP8_E4M3: 4,
    Format.FP8_E5M2: 3,
}
_SMALLEST_SUBNORMAL_LOG2 = {
    Format.FP32: -149,
    Format.BF16: -133,
    Format.FP16: -24,
    Format.FP8_E4M3: -9,
    Format.FP8_E5M2: -16,
}
EXP_ROUNDOFF = 2.0**-23
"""Relative error of the FP32 exponential: one unit in the last place."""


def roundoff(fmt: Format) -> float:
    """Largest relative error of one rounding to nearest, as an exponent of a chain."""
    unit = 2.0 ** -_SIGNIFICANT_BITS[fmt]
    return unit / (1 - unit)


def underflow(fmt: Format) -> float:
    """Largest absolute error of rounding a number below the normal ones."""
    return 2.0 ** (_SMALLEST_SUBNORMAL_LOG2[fmt] - 1)


def gemm_bound(a, b, operand: Format, output: Format):
    """Error of every element of C = A B, [m, n]: k products and sums in FP32, then the output."""
    steps = (a.shape[1] + 1) * roundoff(Format.FP32)
    magnitude = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    sums = magnitude * np.expm1(steps + roundoff(output))
    lost = (a.shape[1] + 1) * underflow(Format.FP32)
    return sums + underflow(output) + lost


@dataclass(frozen=True)
class AttentionSteps:
    """The formats and the lengths of the sums of one attention run."""

    stored: Format
    scores: Format
    vector: Format
    weights: Format
    output: Format
    kv_len: int
    tile_k: int
    scale_query: bool = False

    @property
    def tiles_k(self) -> int:
        """Key tiles of the longest row."""
        return ceil(self.kv_len / self.tile_k)


def _score_error(q, k, steps: AttentionSteps) -> tuple[float, float]:
    """Largest absolute error of a scaled score, and the largest scaled score."""
    dim = q.shape[-1]
    lengths = np.abs(q).max() * np.abs(k).max() * dim  # bounds the sum of |q_i k_i|
    largest = float(lengths) / np.sqrt(dim)
    chain = (dim + 1) * roundoff(Format.FP32) + roundoff(steps.scores) + roundoff(Format.FP32)
    # The scalar 1/sqrt(d) is rounded once and its product once, in the format of the scaling.
    chain += 2 * roundoff(steps.stored if steps.scale_query else steps.vector)
    lost = dim * underflow(steps.stored) * float(np.abs(k).max()) if steps.scale_query else 0.0
    lost += 2 * underflow(steps.scores) + underflow(steps.vector)
    return largest * np.expm1(chain) + lost, largest * np.exp(chain) + lost


def flash_bound(q, k, v, steps: AttentionSteps) -> float:
    """Error of any output element of online softmax.

    A weight e^(s - max) carries the error of its score, that of the difference (once for the
    weight, and over all rescalings at most as much again), and one exponential. Each key tile
    rescales the running sums: exponential, product and addition, three roundings for the output
    and three for the row sum. Errors of numerator and denominator add up.
    """
    score, largest = _score_error(q, k, steps)
    u = roundoff(steps.vector)
    differences = 2 * u * (2 * largest)
    halvings = ceil(log2(steps.tile_k)) if steps.tile_k > 1 else 0
    one_weight = score + differences + u + EXP_ROUNDOFF
    rescaling = steps.tiles_k * (3 * u + EXP_ROUNDOFF)
    numerator = one_weight + rescaling + roundoff(steps.weights) + u
    numerator += (steps.tile_k + 1) * roundoff(Format.FP32)
    denominator = one_weight + rescaling + halvings * u
    chain = numerator + denominator + u + roundoff(steps.output)
    # The row sum is at least 1 up to rounding, since the largest weight is 1.
    lost_weights = steps.kv_len * (underflow(steps.weights) + 2 * underflow(steps.vector))
    lost_outputs = (3 * steps.tiles_k + 1) * underflow(steps.vector) + underflow(steps.output)
    largest_value = float(np.abs(v).max())
    return largest_value * (np.expm1(chain) + 2 * lost_weights) + 2 * lost_outputs


def dense_bound(q, k, v, steps: AttentionSteps) -> float:
    """Error of any output element of softmax over whole rows.

    Score, difference, exponential, the row sum by halving, a division and the rounding of the
    weight; then the sum over all values in FP32.
    """
    score, largest = _score_error(q, k, steps)
    u = roundoff(steps.vector)
    one_weight = score + u * (2 * largest) + u + EXP_ROUNDOFF
    halvings = ceil(log2(steps.kv_len)) if steps.kv_len > 1 else 0
    chain = 2 * one_weight + halvings * u + u + roundoff(steps.weights)
    chain += (steps.kv_len + 1) * roundoff(Format.FP32) + roundoff(steps.output)
    lost_weights = steps.kv_len * (underflow(steps.weights) + 3 * underflow(steps.vector))
    largest_value = float(np.abs(v).max())
    return largest_value * (np.expm1(chain) + 2 * lost_weights) + 2 * underflow(steps.output)
