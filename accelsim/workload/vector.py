"""A function of the rows or the elements of a matrix, which the vector unit computes alone."""

from typing import Literal

from accelsim.config.spec import PositiveValue, Size
from accelsim.numerics.formats import Format
from accelsim.workload.base import FloatFormat, Shapes, TensorProblem
from accelsim.workload.sources import VectorSource


class VectorProblem(TensorProblem):
    """A function of each row, or of each element, of a matrix [rows, cols]."""

    kind: Literal["vector"]
    """What is asked."""
    function: Literal["copy", "softmax", "rmsnorm", "layernorm", "gelu", "silu_mul"]
    """softmax and norms work along rows, norms without learned weights; gelu is its tanh form;
    silu_mul is silu(x) y, the activation of a gated feed-forward."""
    rows: Size
    """Rows of the matrix; tokens."""
    cols: Size
    """Columns of the matrix; features."""
    epsilon: PositiveValue = 1e-5
    """What norms add to the mean square before its root."""
    dtype: FloatFormat = Format.FP16
    """Number format of inputs and output in HBM."""
    tensors: VectorSource | None = None
    """Where the values come from; absent: cost only, no accuracy."""

    @property
    def output_dtype(self) -> Format:
        """Number format of the result in HBM."""
        return self.dtype

    @property
    def macs(self) -> int:
        """The matrix unit has nothing to do."""
        return 0

    @property
    def input_shapes(self) -> Shapes:
        """Shapes of x and, for silu_mul, y."""
        names = ("x", "y") if self.function == "silu_mul" else ("x",)
        return dict.fromkeys(names, (self.rows, self.cols))

    @property
    def output_shapes(self) -> Shapes:
        """Shape of the result."""
        return {"result": (self.rows, self.cols)}
