"""What the hooks of the forward pass have in common: a kernel, and the reports of its runs."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.bench import Bench
from accelsim.numerics.formats import Format
from accelsim.report.report import Report
from accelsim.workload.model.llama import Array
from accelsim.workload.problem import AttentionProblem, GemmProblem
from accelsim.workload.storage import stored_values
from accelsim.workload.tensors import AttentionTensors, GemmTensors


class KernelHook:
    """A kernel in the place of a part of a network; keeps the report of everything it computes."""

    def __init__(self, run: Bench, dtype: Format) -> None:
        self.run = run
        self._dtype = dtype
        self.reports: list[Report] = []
        self.rows: list[int] = []
        """Query rows, or rows of a linear's input, of every report."""
        self.nonfinite_outputs = 0
        """Elements of all outputs that are infinite or NaN."""

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
        self.nonfinite_outputs += int(np.count_nonzero(~np.isfinite(output)))
        return output.astype(np.float32, copy=False)
