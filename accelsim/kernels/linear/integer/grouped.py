"""What kernels over channel groups share: the calibration, the order of channels, the numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from accelsim.kernels.linear.integer.bounds import largest_sum
from accelsim.kernels.linear.integer.operands import (
    Doubles,
    Order,
    check_activations,
    even_groups,
    grouped_activations,
    grouped_codes,
    grouped_epilogue,
    ordered,
    quantized_weights,
)
from accelsim.kernels.linear.integer.parameters import (
    GroupedParameters,
    group_options,
    input_groups,
)
from accelsim.kernels.linear.integer.scheme import Numbers, Scheme, Work
from accelsim.quantization.channel_groups import ChannelGroups, GroupOptions, Span
from accelsim.quantization.codes import Quantized
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


@dataclass(frozen=True, slots=True)
class Known:
    """What is computed before the run, where numbers are."""

    tensors: GemmTensors
    groups: ChannelGroups
    weights: Quantized


@dataclass(frozen=True, slots=True)
class Grouped:
    """A linear with its input channels in groups."""

    problem: GemmProblem
    parameters: GroupedParameters
    options: GroupOptions
    spans: list[Span]
    known: Known | None

    @classmethod
    def of(
        cls, problem: GemmProblem, parameters: GroupedParameters, tensors: GemmTensors | None
    ) -> "Grouped":
        """Calibrate or load the groups and quantize the weights; raises QuantizationError."""
        if tensors is None:
            options = group_options(parameters)
            starts = options.chunk_starts(problem.m)
            ends = [*starts[1:], problem.m]
            spans = [Span(*each) for each in zip(range(len(starts)), starts, ends, strict=True)]
            return cls(problem, parameters, options, spans, None)
        check_activations(tensors)
        groups = input_groups(parameters, tensors)
        weights = quantized_weights(tensors.b, parameters.weight_bits, parameters.weight_scale)
        known = Known(tensors, groups, weights)
        return cls(problem, parameters, groups.options, list(groups.spans(problem.m)), known)

    @property
    def chosen(self) -> dict[str, int | str | bool]:
        """Values of the parameters that may be left to the kernel or to a calibration."""
        options = self.options
        return {
            "groups": options.groups,
            "chunk_rows": options.chunk_rows,
            "use_bias": options.use_bias,
            "rounding": options.rounding,
            "first_rows": options.first_rows,
        }

    def scheme(self, work: Work) -> Scheme:
        """Return what the frame has to know."""
        return Scheme(self.spans, work, has_order=True, has_bias=self.options.use_bias)

    def order(self, tile_k: int) -> Order:
        """Return the channels by group; equally many in each group where nothing is known."""
        if self.known is None:
            even = even_groups(self.options.groups, self.problem.k)
            return ordered(np.repeat(even, len(self.spans), axis=0), self.options.groups, tile_k)
        return ordered(self.known.groups.group[: len(self.spans)], self.options.groups, tile_k)

    def numbers(self, order: Order) -> Numbers | None:
        """Return what the run starts from; None without numbers."""
        if self.known is None:
            return None
        (x, *_), groups, weights = self.known.tensors, self.known.groups, self.known.weights
        is_made = self.parameters.input == "quantized"
        return Numbers(
            x=x,
            weights=weights.codes,
            epilogue=grouped_epilogue(groups, weights, len(self.spans)),
            activations=grouped_activations(groups, len(self.spans)),
            codes=grouped_codes(x, groups) if is_made else None,
            order=order.channels,
        )

    def largest_sum(self, growth: Callable[[Doubles], Doubles]) -> float:
        """Return a bound on any sum; growth: groups of channels -> factors of their products.

        0 where nothing is known.
        """
        if self.known is None:
            return 0.0
        group = self.known.groups.group[: len(self.spans)].astype(np.float64)
        return largest_sum(growth(group), self.known.weights.codes, self.parameters.activation_bits)

    @property
    def groups_used(self) -> float:
        """Mean over chunks of the groups that have channels."""
        group = self.order(self.problem.k).starts.reshape(len(self.spans), -1)
        return float(np.count_nonzero(np.diff(group), axis=1).mean())
