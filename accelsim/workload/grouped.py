"""Products of experts: each has rows of its own and a weight matrix of its own."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from accelsim.config.spec import MAX_SIZE, Size, SizeOrZero
from accelsim.numerics.formats import Format
from accelsim.workload.base import FloatFormat, Shapes, TensorProblem
from accelsim.workload.sources import VectorSource


class GroupedGemmProblem(TensorProblem):
    """C_e = A_e B_e for every expert e: its rows of A [rows, k], one matrix B_e [k, n] each."""

    kind: Literal["grouped_gemm"]
    """What is asked."""
    rows: Annotated[tuple[SizeOrZero, ...], Field(min_length=1)]
    """Rows of each expert, which follow each other in A and C; 0 for an expert without tokens."""
    n: Size
    """Columns of every B and of C; output features."""
    k: Size
    """Columns of A and rows of every B; input features."""
    dtype: FloatFormat = Format.FP16
    """Number format of A and B in HBM, and of C, which is BF16 for FP8."""
    tensors: VectorSource | None = None
    """Where the values come from; absent: cost only, no accuracy."""

    @field_validator("rows")
    @classmethod
    def _there_are_rows(cls, rows: tuple[int, ...]) -> tuple[int, ...]:
        if not 0 < sum(rows) <= MAX_SIZE:
            raise ValueError(f"found {sum(rows)} rows in all, allowed: 1 to {MAX_SIZE}")
        return rows

    @property
    def m(self) -> int:
        """Rows of all experts."""
        return sum(self.rows)

    @property
    def used(self) -> tuple[int, ...]:
        """Experts that have rows; only their weights are needed."""
        return tuple(expert for expert, rows in enumerate(self.rows) if rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all products."""
        return self.m * self.n * self.k

    @property
    def input_shapes(self) -> Shapes:
        """Shapes of a and b; b has the matrix of every expert, with rows or without."""
        return {"a": (self.m, self.k), "b": (len(self.rows), self.k, self.n)}

    @property
    def output_shapes(self) -> Shapes:
        """Shape of the product c."""
        return {"c": (self.m, self.n)}

    @property
    def tensor_bytes(self) -> dict[str, int]:
        """Bytes of every input and output; of b those of experts with rows."""
        sizes = super().tensor_bytes
        return sizes | {"b": sizes["b"] // len(self.rows) * len(self.used)}
