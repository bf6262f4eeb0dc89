"""The attention of a model's layers, computed and timed by a kernel."""

from accelsim.quality.hook import KernelHook
from accelsim.workload.model.llama import Array
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


class KernelAttention(KernelHook):
    """An attention hook of the forward pass.

    q [q_heads, q_len, head_dim], k and v [kv_heads, kv_len, head_dim] are rounded to the format of
    the HBM. Queries are the last q_len of kv_len tokens: a whole text, or a decode step over a KV
    cache. Kernels of decode compute it step by step.
    """

    def __call__(self, layer: int, q: Array, k: Array, v: Array) -> Array:
        """Return the attention of one layer."""
        tensors = AttentionTensors(self._stored(q), self._stored(k), self._stored(v))
        return self._compute(self._problem(layer, q, k), tensors, q.shape[1]).reshape(q.shape)

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
