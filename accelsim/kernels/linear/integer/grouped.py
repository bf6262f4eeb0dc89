"""What kernels over channel groups share: calibration, order of channels, numbers, recording."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array
from accelsim.kernels.integer.chunks import even_groups, ordered, spans_of
from accelsim.kernels.linear.integer.bounds import with_statistics
from accelsim.kernels.linear.integer.frame import Frame
from accelsim.kernels.linear.integer.operands import (
    check_activations,
    grouped_activations,
    grouped_codes,
    grouped_epilogue,
    quantized_weights,
)
from accelsim.kernels.linear.integer.parameters import (
    GroupedParameters,
    group_options,
    input_groups,
)
from accelsim.kernels.linear.integer.scheme import Numbers, Product, Scheme, Work
from accelsim.program.program import Program
from accelsim.quantization.channel_groups import ChannelGroups, GroupOptions, Span
from accelsim.quantization.codes import Quantized
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


class Known(NamedTuple):
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
            spans = spans_of(options.chunk_starts(problem.m), problem.m)
            return cls(problem, parameters, options, spans, None)
        check_activations(tensors)
        groups = input_groups(parameters, tensors)
        weights = quantized_weights(tensors.b, parameters.weight_bits, parameters.weight_scale)
        known = Known(tensors, groups, weights)
        return cls(problem, parameters, groups.options, list(groups.spans(problem.m)), known)

    def record(
        self, kernel: str, machine: MachineSpec, product: Callable[..., None], work: Work
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, Y [m, n]; warns of sums that may not fit."""
        scheme = Scheme(self.spans, work, has_order=True, has_bias=self.options.use_bias)
        frame = Frame.prepare(kernel, self.problem, machine, self.parameters, scheme)
        # The scale of the output is that of the last group.
        worth = 2.0 ** np.arange(self.options.groups)[::-1]
        factors = np.tile(worth, (len(self.spans), 1))
        growth = None if work.drains else worth[self._group]
        order = ordered(self._group, self.options.groups, frame.tiles.k)
        program, y = frame.record(self._numbers, Product(product, order, factors, growth))
        used = np.mean([len(np.unique(own)) for own in self._group])
        program = with_statistics(program, groups_used=float(used))
        return program.with_parameters(**self._chosen), y

    @property
    def _chosen(self) -> dict[str, int | str | bool]:
        """Values of the parameters that may be left to the kernel or to a calibration."""
        options = self.options
        return {
            "groups": options.groups,
            "chunk_rows": options.chunk_rows,
            "use_bias": options.use_bias,
            "rounding": options.rounding,
            "first_rows": options.first_rows,
        }

    @property
    def _group(self) -> NDArray[Any]:
        """Group of every channel [chunks, k]; equally many in each where nothing is known."""
        if self.known is None:
            return even_groups(self.options.groups, self.problem.k, len(self.spans))
        return self.known.groups.group[: len(self.spans)]

    @property
    def _numbers(self) -> Numbers | None:
        """What the run starts from; None without numbers."""
        if self.known is None:
            return None
        (x, *_), groups, weights = self.known
        is_made = self.parameters.input == "quantized"
        return Numbers(
            x=x,
            weights=weights.codes,
            epilogue=grouped_epilogue(groups, weights, len(self.spans)),
            activations=grouped_activations(groups, len(self.spans)),
            codes=grouped_codes(x, groups) if is_made else None,
        )
