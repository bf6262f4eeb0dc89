"""The linears of a model's layers, computed and timed by a kernel."""

from accelsim.bench import Bench
from accelsim.numerics.formats import Format
from accelsim.quality.hook import KernelHook
from accelsim.workload.model.llama import Array
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


class KernelLinear(KernelHook):
    """A hook of the forward pass for all linears of the layers; the output projection is not one.

    Input and weights are rounded to the format of the HBM. Kernels learn which linear of which
    model it is, for what they know of it from a calibration.
    """

    def __init__(self, run: Bench, dtype: Format, model: str) -> None:
        super().__init__(run, dtype)
        self._model = model

    def __call__(self, layer: int, name: str, x: Array, weight: Array) -> Array:
        """Return x [tokens, in] times weight^T, of weight [out, in]."""
        tokens, features = x.shape
        linear = f"layer{layer}.{name}"
        problem = GemmProblem(
            kind="gemm", name=linear, m=tokens, n=len(weight), k=features, dtype=self._dtype
        )
        tensors = GemmTensors(self._stored(x), self._stored(weight.T), linear, self._model)
        return self._compute(problem, tensors, tokens)
