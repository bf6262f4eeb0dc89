"""The linears of a model's layers, computed and timed by a kernel."""

import numpy as np

from accelsim.bench import Bench
from accelsim.kernels.linear.integer.parameters import CodedInput, QuantizedParameters
from accelsim.numerics.formats import Format
from accelsim.quality.hook import KernelHook
from accelsim.workload.model.llama import Array
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors

OF_HEADS = "o"
"""The linear that reads attention, of which one work item has a head of a row."""


class KernelLinear(KernelHook):
    """A hook of the forward pass for all linears of the layers; the output projection is not one.

    Input and weights are rounded to the format of the HBM. Input that its producer has coded is
    not: it is coded as the vector unit has it. Kernels learn which linear of which model it is, for
    what they know of it from a calibration.
    """

    def __init__(self, run: Bench, dtype: Format, model: str, head_dim: int = 0) -> None:
        super().__init__(run, dtype)
        self._model, self._head_dim = model, head_dim
        self._parameters = run.recipe and run.recipe.parameters()

    def __call__(self, layer: int, name: str, x: Array, weight: Array) -> Array:
        """Return x [tokens, in] times weight^T, of weight [out, in]."""
        tokens, features = x.shape
        linear, own = f"layer{layer}.{name}", self._parameters
        problem = GemmProblem(
            kind="gemm", name=linear, m=tokens, n=len(weight), k=features, dtype=self._dtype
        )
        is_coded = isinstance(own, QuantizedParameters) and own.input == "quantized"
        stored = x if is_coded else self._stored(x)
        tensors = GemmTensors(stored, self._stored(weight.T), linear, self._model)
        run = self._head_dim if name == OF_HEADS else 0
        beside = {}
        if isinstance(own, CodedInput) and own.reads_rows:
            beside = own.completed(problem, run)
        output = self._compute(problem, tensors, tokens, beside)
        self._check(linear, (x, weight), output)
        return output

    def _largest_product(self, *inputs: Array) -> float:
        x, weight = inputs
        return float(np.abs(x @ weight.T).max())
