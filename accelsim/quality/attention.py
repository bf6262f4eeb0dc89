"""The attention of a model's layers, computed and timed by a kernel."""

from collections.abc import Callable

import numpy as np

from accelsim.numerics.formats import Format
from accelsim.report.report import Report
from accelsim.simulation import KernelRun
from accelsim.workload.model.llama import Array
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.storage import stored_values
from accelsim.workload.tensors import AttentionTensors


class KernelAttention:
    """An attention hook of the forward pass that keeps the report of every layer it computes.

    q [q_heads, q_len, head_dim], k and v [kv_heads, kv_len, head_dim] are rounded to `dtype`, as
    the HBM holds them. Queries are the last q_len of kv_len tokens: a whole text, or a decode step
    over a KV cache.
    """

    def __init__(self, run: KernelRun, dtype: Format, advance: Callable[[], None]) -> None:
        self._run = run
        self._dtype = dtype
        self._advance = advance
        self.reports: list[Report] = []
        self.query_rows: list[int] = []
        """Query rows of every report."""
        self.nonfinite_outputs = 0
        """Elements of all outputs that are infinite or NaN."""

    def __call__(self, layer: int, q: Array, k: Array, v: Array) -> Array:
        """Return the attention of one layer."""
        report, output = self._run.execute(self._problem(layer, q, k), self._stored(q, k, v))
        if output is None:
            raise ValueError(f"kernel {self._run.kernel.name} returned no output for its tensors")
        self.reports.append(report)
        self.query_rows.append(q.shape[1])
        self.nonfinite_outputs += int(np.count_nonzero(~np.isfinite(output)))
        self._advance()
        return output.reshape(q.shape).astype(np.float32, copy=False)

    def _problem(self, layer: int, q: Array, k: Array) -> AttentionProblem:
        q_heads, q_len, head_dim = q.shape
        kv_heads, kv_len, _ = k.shape
        return AttentionProblem(
            kind="attention",
            name=f"layer {layer}",
            q_heads=q_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            q_len=q_len,
            kv_len=kv_len,
            causal=True,
            dtype=self._dtype,
        )

    def _stored(self, *operands: Array) -> AttentionTensors:
        return AttentionTensors(
            *(np.ascontiguousarray(stored_values(each, self._dtype)) for each in operands)
        )
