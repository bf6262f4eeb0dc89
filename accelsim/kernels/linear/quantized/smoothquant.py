"""SmoothQuant: outliers moved from the activations into the weights, then uniform integers.

Channel j of X is divided by s_j = max|X_j|^strength / max|W_j|^(1 - strength) and row j of W is
multiplied by it before the run, which leaves the product as it is. What is left of the outliers is
quantized as `quantized` does it. The division is part of what produced X: of the weights of a norm
or of the linear before. So X arrives divided, rounded to its format, and nothing but the numbers
differs from `quantized`: neither time nor traffic.

Source: Xiao et al., "SmoothQuant", arXiv 2211.10438, equation 4; its settings O1, O2 and O3 are the
activation scales `row`, `dynamic_tensor` and `tensor`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from accelsim.config.spec import Spec
from accelsim.kernels.linear.integer.frame import QuantizedLinear
from accelsim.kernels.linear.integer.operands import check_activations
from accelsim.kernels.linear.integer.parameters import input_peaks
from accelsim.kernels.linear.integer.scheme import Plan
from accelsim.kernels.linear.quantized.quantized import UniformParameters, uniform_plan
from accelsim.numerics.rounding import round_array
from accelsim.quantization.codes import check_finite
from accelsim.quantization.schemes import MIGRATION_STRENGTH, migration_factors
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


class SmoothQuantParameters(UniformParameters):
    """Choices of the smoothquant kernel."""

    activation_scale: Literal["tensor", "dynamic_tensor", "row"] = "row"
    """What shares a scale in X: all of it, calibrated or found in the run; or a row, found in the
    run."""
    strength: Annotated[float, Field(ge=0, le=1)] = MIGRATION_STRENGTH
    """How much of the range of a channel goes to the weights: 0 none, 1 all."""


class SmoothQuant(QuantizedLinear):
    """Quantized linear whose outliers were moved into the weights."""

    name: ClassVar[str] = "smoothquant"
    summary: ClassVar[str] = "quantized linear, outliers moved into the weights before the run"
    parameters: ClassVar[type[Spec]] = SmoothQuantParameters

    @classmethod
    def plan(
        cls, problem: GemmProblem, parameters: SmoothQuantParameters, tensors: GemmTensors | None
    ) -> Plan:
        """Return how the linear is computed; raises QuantizationError."""
        if tensors is None:
            return uniform_plan(problem, parameters, None, None)
        check_activations(tensors)
        check_finite(tensors.b, "weights")
        peaks = input_peaks(parameters, tensors)
        factors = migration_factors(peaks, tensors.b, parameters.strength)
        migrated = tensors._replace(
            a=round_array(tensors.a / factors, problem.dtype), b=tensors.b * factors[:, None]
        )
        return uniform_plan(problem, parameters, migrated, peaks / factors)
