"""Q, K, V and the output in HBM."""

from math import prod
from typing import NamedTuple

from accelsim.kernels.base import Array
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Tensor
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


class Operands(NamedTuple):
    """Q, K, V and the output, each a matrix of all heads one after the other."""

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor


def declare_operands(
    builder: ProgramBuilder,
    problem: AttentionProblem,
    tensors: AttentionTensors | None,
    q_rows_in_one: int = 1,
) -> Operands:
    """Place the operands of a problem in HBM.

    q_rows_in_one: rows of a query head that are one row of Q and of the output.
    """
    dim, fmt = problem.head_dim, problem.dtype
    q_elements, kv_elements = (prod(problem.input_shapes[name]) for name in ("q", "k"))
    q_cols, kv_rows = dim * q_rows_in_one, kv_elements // dim
    q_rows = q_elements // q_cols

    def matrix(name: str, cols: int) -> Array | None:
        return None if tensors is None else getattr(tensors, name).reshape(-1, cols)

    return Operands(
        builder.tensor("q", "input", q_rows, q_cols, fmt, matrix("q", q_cols)),
        builder.tensor("k", "input", kv_rows, dim, fmt, matrix("k", dim)),
        builder.tensor("v", "input", kv_rows, dim, fmt, matrix("v", dim)),
        builder.tensor("o", "output", q_rows, q_cols, problem.output_dtype),
    )
