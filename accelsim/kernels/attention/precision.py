"""The format of every step of attention, by what is asked of its precision."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from accelsim.numerics.formats import Format, common_format
from accelsim.numerics.rounding import round_array
from accelsim.workload.problem import AttentionProblem

Precision = Literal["fp32", "fp32_scores", "fp16_fp32", "fp16"]
"""fp32: every step in FP32. fp32_scores: scores and vector path in FP32, weights in the format of
the output, as in FlashAttention-2. fp16_fp32: scores leave the cube in FP16, the vector path is
FP32. fp16: everything in FP16, except that the cube accumulates in FP32."""


@dataclass(frozen=True, slots=True)
class StepFormats:
    """Format of every step of attention."""

    stored: Format
    """Q, K and V in HBM."""
    scores: Format
    """Scores as they leave the cube."""
    vector: Format
    """Vector path: scaling, exponentials, row statistics, running output."""
    weights: Format
    """Softmax weights as operand of the second product."""

    @property
    def output(self) -> Format:
        """The output in HBM."""
        return self.stored.of_results

    @property
    def output_operand(self) -> Format:
        """Format in which the cube multiplies weights and values."""
        return common_format(self.weights, self.stored)


def step_formats(
    stored: Format, precision: Precision | None, of_fp16: Precision = "fp16_fp32"
) -> StepFormats:
    """Return the formats that a precision stands for.

    Without one, no step has a smaller range than Q, K and V: `of_fp16` for FP16, and fp32_scores
    for all others. Sources: Dao, "FlashAttention-2" (2023), for BF16; FP8 is as in Shah et al.,
    "FlashAttention-3" (2024), but for the weights, which are BF16 here and FP8 there.
    """
    match precision or (of_fp16 if stored == Format.FP16 else "fp32_scores"):
        case "fp32":
            return StepFormats(stored, Format.FP32, Format.FP32, Format.FP32)
        case "fp32_scores":
            return StepFormats(stored, Format.FP32, Format.FP32, stored.of_results)
        case "fp16_fp32":
            weights = stored if stored == Format.BF16 else Format.FP16
            return StepFormats(stored, Format.FP16, Format.FP32, weights)
        case "fp16":
            return StepFormats(stored, Format.FP16, Format.FP16, Format.FP16)


def score_factor(problem: AttentionProblem, fmt: Format) -> float:
    """Return 1 / sqrt(head_dim) as the scalar operand of a product in `fmt`."""
    return float(round_array(1 / np.sqrt(problem.head_dim), fmt))
