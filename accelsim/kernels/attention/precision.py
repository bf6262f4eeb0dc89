"""The format of every step of attention, by what is asked of its precision."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from accelsim.errors import WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.integer.code_form import CodeForm
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
    """Q in HBM, in which the cube multiplies queries and keys."""
    scores: Format
    """Scores as they leave the cube."""
    vector: Format
    """Vector path: scaling, exponentials, row statistics, running output."""
    weights: Format
    """Softmax weights as operand of the second product."""
    kv: Format
    """K and V in HBM."""
    widens_kv: bool = False
    """Whether the vector unit converts K and V before the cube multiplies them."""
    coded: CodeForm | None = None
    """How the output is coded, if it is."""
    values_in_keys: bool = False
    """Whether rows of V are parts of those of K, which are read once for both."""
    has_sink_logits: bool = False
    """Whether the softmax has a logit of each head without a key, in FP32."""

    @property
    def output(self) -> Format:
        """The output in HBM."""
        return self.stored.of_results if self.coded is None else self.coded.format

    @property
    def output_operand(self) -> Format:
        """Format in which the cube multiplies weights and values."""
        return common_format(self.weights, self.kv)

    @property
    def keys(self) -> Format:
        """Keys as operand of the first product."""
        return self.stored if self.widens_kv else self.kv

    @property
    def values(self) -> Format:
        """Values as operand of the second product."""
        return self.output_operand if self.widens_kv else self.kv


def formats_of(
    problem: AttentionProblem,
    machine: MachineSpec,
    precision: Precision | None,
    coded: CodeForm | None = None,
) -> StepFormats:
    """Return the formats that a precision stands for, with K and V in the format of a problem.

    A cube that mixes formats and takes operands of that one widens them on their way in; else the
    vector unit does, before the product. Keys over a scale can be larger than keys, so that scores
    are FP32 then, unless a precision is asked for.
    """
    if problem.kv_scales != "one":
        precision = precision or "fp32_scores"
    formats, kv = step_formats(problem.dtype, precision, coded=coded), problem.kv_format
    if kv != problem.dtype:
        widens = not machine.takes_beside(kv, problem.dtype)
        formats = replace(formats, kv=kv, widens_kv=widens)
    if problem.sink_logits:
        formats = replace(formats, has_sink_logits=True)
    if problem.values_in_keys:
        formats = replace(formats, values_in_keys=True)
        if formats.keys != formats.values:
            raise WorkloadError(
                f"workload {problem.name}: values_in_keys: the matrix unit takes keys in "
                f"{formats.keys} and values in {formats.values}, allowed: one format for both; "
                f"choose another precision or kv_dtype"
            )
    return formats


def step_formats(
    stored: Format,
    precision: Precision | None,
    of_fp16: Precision = "fp16_fp32",
    coded: CodeForm | None = None,
) -> StepFormats:
    """Return the formats that a precision stands for.

    K and V are stored as Q is. Without a precision, no step has a smaller range than Q: `of_fp16`
    for FP16, and fp32_scores for all others. Sources: Dao, "FlashAttention-2" (2023), for BF16;
    FP8 is as in Shah et al., "FlashAttention-3" (2024), but for the weights, which are BF16 here
    and FP8 there. coded: how the output is stored as codes.
    """
    fp32, fp16 = Format.FP32, Format.FP16
    match precision or (of_fp16 if stored == fp16 else "fp32_scores"):
        case "fp32":
            return StepFormats(stored, fp32, fp32, fp32, stored, coded=coded)
        case "fp32_scores":
            return StepFormats(stored, fp32, fp32, stored.of_results, stored, coded=coded)
        case "fp16_fp32":
            weights = stored if stored == Format.BF16 else fp16
            return StepFormats(stored, fp16, fp32, weights, stored, coded=coded)
        case "fp16":
            return StepFormats(stored, fp16, fp16, fp16, stored, coded=coded)


def score_factor(problem: AttentionProblem, fmt: Format, k_scale: float = 1.0) -> float:
    """Return k_scale / sqrt(head_dim) as the scalar operand of a product in `fmt`.

    Raises WorkloadError where the format has no number for it.
    """
    factor = k_scale / np.sqrt(problem.head_dim)
    rounded = float(round_array(factor, fmt))
    if rounded == 0:
        raise WorkloadError(
            f"workload {problem.name}: 1/sqrt(head_dim) times the scale of K is {factor:.3g}, "
            f"which is 0 in {fmt}; allowed: a precision with a vector path in fp32, "
            f"scale_at = scores, or kv_scales = one"
        )
    return rounded
