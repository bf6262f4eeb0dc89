"""What the hooks of the forward pass have in common: a kernel, and the reports of its runs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.bench import Bench
from accelsim.numerics.formats import Format
from accelsim.report.report import Report
from accelsim.workload.model.llama import Array
from accelsim.workload.problem import AttentionProblem, GemmProblem
from accelsim.workload.storage import stored_values
from accelsim.workload.tensors import AttentionTensors, GemmTensors


class Overflow(NamedTuple):
    """Where outputs of a kernel are not finite first."""

    place: str
    """The layer, or the linear."""
    largest_product: float
    """Largest magnitude there of a query times a key that it sees, not scaled; or of an input of a
    linear times its weights."""


class KernelHook(ABC):
    """A kernel in the place of a part of a network; keeps the report of everything it computes."""

    def __init__(self, run: Bench, dtype: Format) -> None:
        self.run = run
        self._dtype = dtype
        self.reports: list[Report] = []
        self.rows: list[int] = []
        """Query rows, or rows of a linear's input, of every report."""
        self.nonfinite_outputs = 0
        """Elements of all outputs that are infinite or NaN."""
        self.overflow: Overflow | None = None
        """Where that began: the first output that is not finite though all inputs are."""

    def _stored(self, values: Array) -> NDArray[Any]:
        """Return values as the HBM holds them."""
        return np.ascontiguousarray(stored_values(values, self._dtype))

    def _compute(
        self,
        problem: AttentionProblem | GemmProblem,
        tensors: AttentionTensors | GemmTensors,
        rows: int,
        beside: Mapping[str, Any] = MappingProxyType({}),
    ) -> Array:
        """Return the output of the kernel; beside: what its recipe says besides."""
        report, output = replace(self.run, beside=beside).execute(problem, tensors)
        if output is None:
            raise ValueError(f"kernel {report.kernel} returned no output for its tensors")
        self.reports.append(report)
        self.rows.append(rows)
        return output.astype(np.float32, copy=False)

    def _check(self, place: str, inputs: Sequence[Array], output: Array) -> None:
        """Count what is not finite in an output, and keep where it began."""
        nonfinite = int(np.count_nonzero(~np.isfinite(output)))
        self.nonfinite_outputs += nonfinite
        if nonfinite and self.overflow is None and all(np.isfinite(x).all() for x in inputs):
            self.overflow = Overflow(place, self._largest_product(*inputs))

    @abstractmethod
    def _largest_product(self, *inputs: Array) -> float:
        """Return the largest magnitude of the products that the kernel begins with, in FP32."""
