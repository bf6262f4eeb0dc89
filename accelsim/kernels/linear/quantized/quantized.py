"""Uniform integer quantization of both operands, with scales per tensor, per row or per channel.

`activation_scale` says what shares a scale in X. `tensor`: everything, the range calibrated before
the run. `dynamic_tensor`: everything, by a pass over X that finds its largest magnitude. `row`:
every row, a token, by its own largest magnitude. With these the scales leave the sum and one
product over all channels is drained once; the epilogue multiplies rows and columns.

`channel`: every input channel, calibrated. Such a scale does not leave the sum, so each channel is
a product of depth 1 that is drained, scaled and added in FP32, as `requantized` does for groups:
what the finest granularity costs an integer array, and a bound on what groups can reach. (Moving
the scales into the weights is another scheme: SmoothQuant.)

Sources: Dettmers et al., LLM.int8(), arXiv 2208.07339, section 2 (per tensor and per row); Yao et
al., ZeroQuant, arXiv 2206.01861, section 4.1 (a scale per token, found in the run).

With `rotation: hadamard`, blocks of channels are rotated first (`linear.rotation`): W before the
run, X by butterflies on the vector unit on its way to codes, log2(block) additions and a product an
element, twice where a row is read twice. Outliers of few channels are spread over their block.

HBM traffic in bytes, with codes of a and w bits, an element of X of x bytes, R row tiles, P panels
of k, and B blocks of the T column tiles: loads m k x, once more if the range is found in the run
and, for `row`, a row does not fit the scratchpad; m k B a / 8, or T instead of B if P > 1; R k n w
/ 8 for the weights; 4 R n for scales; with a range found in the run also 4 m B for the scales of
rows. Stores m k a / 8 for the codes, 4 m for the scales of rows, and Y.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from accelsim.config.spec import Spec
from accelsim.errors import QuantizationError
from accelsim.kernels.integer.chunks import products_of
from accelsim.kernels.integer.code_form import CodeForm
from accelsim.kernels.integer.known import Known
from accelsim.kernels.linear.integer.frame import QuantizedLinear
from accelsim.kernels.linear.integer.operands import (
    check_activations,
    column_scales,
    dynamic_codes,
    quantized_weights,
)
from accelsim.kernels.linear.integer.parameters import (
    CodedInput,
    QuantizedParameters,
    input_peaks,
)
from accelsim.kernels.linear.integer.scheme import Plan, RangeOf, Scheme, Work
from accelsim.kernels.linear.integer.steps import (
    drain,
    multiply_panels,
    num_items,
    place_of,
    tiles_of,
    write_output,
)
from accelsim.kernels.linear.integer.tiles import panel_sizes
from accelsim.kernels.linear.quantized.requantized import requantized
from accelsim.kernels.linear.rotation import RotationParameters, rotated
from accelsim.program import language as al
from accelsim.quantization.channel_groups import Span
from accelsim.quantization.coded_rows import coded_runs
from accelsim.quantization.codes import Scales, Values, encode, reciprocal, scale_of
from accelsim.runtime.jit import jit
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


class UniformParameters(QuantizedParameters):
    """Choices of the kernels with scales that leave the sum."""

    activation_scale: Literal["tensor", "dynamic_tensor", "row", "channel"] = "row"
    """What shares a scale in X: all of it, calibrated or found in the run; a row, found in the run;
    or an input channel, calibrated."""

    @property
    def is_calibrated(self) -> bool:
        """Whether the ranges of X are known before the run."""
        return self.activation_scale in ("tensor", "channel")


class RotatedParameters(RotationParameters, CodedInput, UniformParameters):
    """Choices of the quantized kernel."""

    @property
    def reads_rows(self) -> bool:
        """Whether X is codes of rows that found their scale, as producers make them."""
        return (self.input, self.activation_scale) == ("quantized", "row")

    def read_form(self, problem: GemmProblem) -> CodeForm:
        """Return how X is coded."""
        rotation = self.rotation_of(problem)
        return super().read_form(problem)._replace(rotation=rotation.block if rotation else 0)


@jit
def quantized(p, phase, k):
    """All tiles of Y: all channels in one product, panel by panel."""
    for item in range(num_items(k)):
        al.begin_item(p, phase)
        for number in range(tiles_of(item, k)):
            at = place_of(item, number, k)
            wide = drain(p, at.col_tile, multiply_panels(p, at, k), k)
            write_output(p, wide, at, k)


class Quantized(QuantizedLinear):
    """Quantized linear with scales per tensor, row or channel."""

    name: ClassVar[str] = "quantized"
    summary: ClassVar[str] = "quantized linear, one scale for a tensor, a row or a channel"
    parameters: ClassVar[type[Spec]] = RotatedParameters

    @classmethod
    def plan(
        cls, problem: GemmProblem, parameters: RotatedParameters, tensors: GemmTensors | None
    ) -> Plan:
        """Return how the linear is computed; raises QuantizationError."""
        rotation, peaks = parameters.rotation_of(problem), None
        if rotation is not None and parameters.calibration is not None:
            raise QuantizationError(
                f"{cls.name} on {problem.name}: found a calibration beside rotation = "
                f"{parameters.rotation}, allowed: one of both; a calibration has the ranges of "
                f"channels before they are rotated"
            )
        if tensors is None:
            return uniform_plan(problem, parameters, None, None).of_rotated(rotation, None)
        check_activations(tensors)
        turned = rotated(tensors, rotation)
        if parameters.is_calibrated:
            peaks = input_peaks(parameters, turned)
        return uniform_plan(problem, parameters, turned, peaks).of_rotated(rotation, tensors.a)


_RANGES: Mapping[str, RangeOf] = {
    "tensor": "calibration",
    "dynamic_tensor": "tensor",
    "row": "row",
    "channel": "calibration",
}
"""activation_scale -> where the range of X comes from."""


def uniform_plan(
    problem: GemmProblem,
    parameters: UniformParameters,
    tensors: GemmTensors | None,
    peaks: Values | None,
) -> Plan:
    """Return how a linear is computed; peaks: calibrated magnitude of every channel [k]."""
    is_by_channel = parameters.activation_scale == "channel"
    group, sizes = np.arange(problem.k)[None], panel_sizes(problem, parameters).tolist()
    work = Work(drains=products_of(group, sizes) if is_by_channel else ())
    range_of = _RANGES[parameters.activation_scale]
    scheme = Scheme([Span(0, 0, problem.m)], work, range_of=range_of, run=parameters.run)
    steps = None if peaks is None else _steps(parameters, peaks)
    known = {} if tensors is None else _known(parameters, tensors, steps)
    if not is_by_channel:
        return Plan(problem, scheme, known, quantized)
    factors = np.ones((1, problem.k)) if steps is None else steps
    return Plan(problem, scheme, known, requantized, group, factors)


def _steps(parameters: UniformParameters, peaks: Values) -> Scales | None:
    """Return the step of every channel [1, k] if it is calibrated."""
    if not parameters.is_calibrated:
        return None
    if parameters.activation_scale == "tensor":
        peaks = np.full_like(peaks, peaks.max())
    return scale_of(peaks[None], parameters.activation_bits)


def _known(parameters: UniformParameters, tensors: GemmTensors, steps: Scales | None) -> Known:
    """Return what is known before the run; steps [1, k] leave the sum if they are all equal."""
    x, bits = tensors.a, parameters.activation_bits
    weights = quantized_weights(tensors.b, parameters.weight_bits, parameters.weight_scale)
    step = 1.0 if steps is None or parameters.activation_scale == "channel" else float(steps[0, 0])
    known = {"x": x, "w_codes": weights.codes, "scale": column_scales(weights, step)}
    if steps is not None:
        known["x_reciprocal"] = reciprocal(steps)
    if parameters.input == "quantized" and steps is not None:
        known["x_codes"] = encode(x, steps, bits)
    elif parameters.input == "quantized" and parameters.run:
        codes, scale = coded_runs(x, parameters.run)
        known |= {"x_codes": codes, "x_scale": scale.astype(np.float32)}
    elif parameters.input == "quantized":
        known |= dynamic_codes(x, bits, parameters.activation_scale == "row")
    return known
