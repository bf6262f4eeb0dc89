"""The attention of a model's layers, computed and timed by a kernel."""

import numpy as np

from accelsim.bench import Bench
from accelsim.library.coded import Part, completions
from accelsim.numerics.formats import Format
from accelsim.quality.hook import KernelHook
from accelsim.quality.linear import OF_HEADS
from accelsim.workload.flow import Source
from accelsim.workload.model.forward import causal_attention
from accelsim.workload.model.llama import Array
from accelsim.workload.problem import AttentionProblem, GemmProblem
from accelsim.workload.tensors import AttentionTensors, Reader


class KernelAttention(KernelHook):
    """An attention hook of the forward pass.

    q [q_heads, q_len, head_dim], k and v [kv_heads, kv_len, head_dim] are rounded to the format of
    the HBM. Queries are the last q_len of kv_len tokens: a whole text, or tokens that are decoded
    one after the other over a KV cache, a step each. Kernels of decode compute a whole text in
    steps too. Where the linear behind it reads codes, it stores these.
    """

    def __init__(
        self, run: Bench, dtype: Format, model: str | None = None, linear: Bench | None = None
    ) -> None:
        super().__init__(run, dtype)
        self._model, self._linear = model, linear
        self.layers: list[int] = []
        """The layer of every report."""
        self.squares: list[tuple[float, float]] = []
        """Of every report: summed squares of the output's error against FP32 attention on the same
        Q, K and V, and of the output of that."""

    def __call__(
        self, layer: int, q: Array, k: Array, v: Array, window: int | None = None
    ) -> Array:
        """Return the attention of one layer; a window is part of its problem."""
        tensors = AttentionTensors(self._stored(q), self._stored(k), self._stored(v))
        if self._model is not None:
            tensors = tensors._replace(reader=Reader(f"layer{layer}.{OF_HEADS}", self._model))
        problem = self._problem(layer, q, k, window)
        output = self._compute(problem, tensors, q.shape[1], self._beside(problem, q))
        self._check(problem.name, (q, k, v), output)
        output = output.reshape(q.shape)
        self.layers.append(layer)
        # What is not finite has been counted.
        with np.errstate(over="ignore", invalid="ignore"):
            exact = causal_attention(layer, q, k, v, window)
            self.squares.append(_squares(output, exact))
        return output

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

    def _problem(self, layer: int, q: Array, k: Array, window: int | None) -> AttentionProblem:
        q_heads, q_len, head_dim = q.shape
        kv_heads, kv_len, _ = k.shape
        recipe = self.run.recipe
        in_steps = kv_len > q_len or (recipe is not None and recipe.algorithm.takes_steps)
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
            window=window if window is not None and window < kv_len else None,
            dtype=self._dtype,
        )


def _squares(output: Array, exact: Array) -> tuple[float, float]:
    """Return the summed squares of the error of an output, and of the exact one."""
    error, whole = output.astype(np.float64) - exact, exact.astype(np.float64)
    return float(np.square(error).sum()), float(np.square(whole).sum())
