"""Measured operations as problems: shapes of reference files to what a user would ask."""

from collections.abc import Sequence
from typing import Literal, TypeVar

from accelsim.validation.reference import Row
from accelsim.workload.problem import AttentionProblem, GemmProblem, VectorProblem

_FORMATS = {"bf16": "bf16", "fp16": "fp16", "fp8": "fp8_e4m3", "int8": "int8"}

Dtype = Literal["bf16", "fp8", "int8"]
R = TypeVar("R", bound=Row)


def with_its_shape(row: R, kind: str, columns: Sequence[str]) -> R:
    """Return a row that has all columns of its kind; raises ValueError."""
    for column in columns:
        if getattr(row, column) is None:
            raise ValueError(f"found no {column}, which a row of kind {kind} needs")
    return row


def gemm(dtype: Dtype | Literal["fp16"], m: int, n: int, k: int) -> GemmProblem:
    """Return out[m, n] = x[m, k] w[k, n]; fp8 gives bf16, int8 gives int32."""
    fields = {"kind": "gemm", "name": "product", "m": m, "n": n, "k": k, "dtype": _FORMATS[dtype]}
    return GemmProblem.model_validate(fields)


def attention(
    batch: int, heads: int, kv_heads: int, q_len: int, kv_len: int, head_dim: int, causal: bool
) -> AttentionProblem:
    """Return attention in bf16."""
    return AttentionProblem.model_validate(
        {
            "kind": "attention",
            "name": "attention",
            "batch": batch,
            "q_heads": heads,
            "kv_heads": kv_heads,
            "q_len": q_len,
            "kv_len": kv_len,
            "head_dim": head_dim,
            "causal": causal,
            "dtype": "bf16",
        }
    )


def vector(function: str, rows: int, cols: int) -> VectorProblem:
    """Return a function of a bf16 matrix."""
    return VectorProblem.model_validate(
        {
            "kind": "vector",
            "name": function,
            "function": function,
            "rows": rows,
            "cols": cols,
            "dtype": "bf16",
        }
    )
