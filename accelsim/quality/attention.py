"""The attention of a model's layers, computed and timed by a kernel."""

import numpy as np

from accelsim.bench import Bench
from accelsim.library.coded import Part, completions
from accelsim.numerics.formats import Format
from accelsim.quality.hook import KernelHook
from accelsim.quality.linear import OF_HEADS
from accelsim.workload.flow import Source
from accelsim.workload.model.llama import Array
from accelsim.workload.problem import AttentionProblem, GemmProblem
from accelsim.workload.tensors import AttentionTensors, Reader


class KernelAttention(KernelHook):
    """An attention hook of the forward pass.

    q [q_heads, q_len, head_dim], k and v [kv_heads, kv_len, head_dim] are rounded to the format of
    the HBM. Queries are the last q_len of kv_len tokens: a whole text, or a decode step over a KV
    cache. Kernels of decode compute it step by step. Where the linear behind it reads codes, it
    stores these.
    """

    def __init__(
        self, run: Bench, dtype: Format, model: str | None = None, linear: Bench | None = None
    ) -> None:
        super().__init__(run, dtype)
        self._model, self._linear = model, linear

    def __call__(self, layer: int, q: Array, k: Array, v: Array) -> Array:
        """Return the attention of one layer."""
        tensors = AttentionTensors(self._stored(q), self._stored(k), self._stored(v))
        if self._model is not None:
            tensors = tensors._replace(reader=Reader(f"layer{layer}.{OF_HEADS}", self._model))
        problem = self._problem(layer, q, k)
        output = self._compute(problem, tensors, q.shape[1], self._beside(problem, q))
        self._check(problem.name, (q, k, v), output)
        return output.reshape(q.shape)

    def _largest_product(self, *inputs: Array) -> float:
        q, k, _v = inputs
        shared = np.repeat(k, len(q) // len(k), axis=0)
        rows, keys = q.shape[1], k.shape[1]
        seen = np.tri(rows, keys, keys - rows, dtype=bool)
        pairs = zip(q, shared, strict=True)
        return max(float(np.abs(own @ other.T)[seen].max()) for own, other in pairs)

    def _beside(self, problem: AttentionProblem, q: Array) -> dict[str, object]:
        """Return what the recipe says besides, for the linear that reads the output.

        Raises WorkloadError for a kernel that cannot store what the linear reads.
        """
        if self._linear is None:
            return {}
        width = q.shape[0] * q.shape[2]
        reader = GemmProblem(
            kind="gemm", name=OF_HEADS, m=q.shape[1], n=width, k=width, dtype=self._dtype
        )
        parts = (
            Part(problem, self.run.recipe_for(problem), {}),
            Part(reader, self._linear.recipe_for(reader), {"a": Source(0, "o", 0, 1, 1)}),
        )
        return completions(parts)[0]

    def _problem(self, layer: int, q: Array, k: Array) -> AttentionProblem:
        q_heads, q_len, head_dim = q.shape
        kv_heads, kv_len, _ = k.shape
        recipe = self.run.recipe
        in_steps = recipe is not None and recipe.algorithm.takes_steps
        return AttentionProblem(
            kind="attention",
            name=f"layer {layer}",
            q_heads=q_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            q_len=1 if in_steps else q_len,
            kv_len=kv_len,
            steps=q_len if in_steps else 1,
            causal=True,
            dtype=self._dtype,
        )
