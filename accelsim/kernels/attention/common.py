"""What attention kernels share: operands in HBM, the formats of every step, and the oracle."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from accelsim.kernels.base import Array
from accelsim.numerics.formats import Format, common_format
from accelsim.numerics.rounding import round_array
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Tensor
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

_ORACLE_ROWS = 1024
"""Query rows that the oracle computes at once, which bounds its memory."""

Precision = Literal["fp32", "fp32_scores", "fp16_fp32", "fp16"]
"""fp32: every step in FP32. fp32_scores: scores and vector path in FP32, weights in the format of
the output, as in FlashAttention-2. fp16_fp32: scores leave the cube in FP16, the vector path is
FP32. fp16: everything in FP16, except that the cube accumulates in FP32."""


class FormatCodes(NamedTuple):
    """Codes of the formats of `StepFormats`, for jitted code."""

    stored: int
    scores: int
    vector: int
    weights: int
    output: int
    output_operand: int


@dataclass(frozen=True, slots=True)
class StepFormats:
    """Format of every step of attention."""

    stored: Format
    """Q, K and V in HBM."""
    scores: Format
    """Scores as they leave the cube."""
    vector: Format
    """Vector path: scaling, exponentials, row statistics, running output."""
    weights: Format
    """Softmax weights as operand of the second product."""

    @property
    def output(self) -> Format:
        """The output in HBM."""
        return self.stored.of_results

    @property
    def output_operand(self) -> Format:
        """Format in which the cube multiplies weights and values."""
        return common_format(self.weights, self.stored)

    @property
    def codes(self) -> FormatCodes:
        """The same formats as jitted code knows them."""
        own = (self.stored, self.scores, self.vector, self.weights)
        return FormatCodes(*(fmt.code for fmt in (*own, self.output, self.output_operand)))


def step_formats(
    stored: Format, precision: Precision | None, of_fp16: Precision = "fp16_fp32"
) -> StepFormats:
    """Return the formats that a precision stands for.

    Without one, no step has a smaller range than Q, K and V: `of_fp16` for FP16, and fp32_scores
    for all others. Sources: Dao, "FlashAttention-2" (2023), for BF16; FP8 is as in Shah et al.,
    "FlashAttention-3" (2024), but for the weights, which are BF16 here and FP8 there.
    """
    match precision or (of_fp16 if stored == Format.FP16 else "fp32_scores"):
        case "fp32":
            return StepFormats(stored, Format.FP32, Format.FP32, Format.FP32)
        case "fp32_scores":
            return StepFormats(stored, Format.FP32, Format.FP32, stored.of_results)
        case "fp16_fp32":
            weights = stored if stored == Format.BF16 else Format.FP16
            return StepFormats(stored, Format.FP16, Format.FP32, weights)
        case "fp16":
            return StepFormats(stored, Format.FP16, Format.FP16, Format.FP16)


def score_factor(problem: AttentionProblem, fmt: Format) -> float:
    """Return 1 / sqrt(head_dim) as the scalar operand of a product in `fmt`."""
    return float(round_array(1 / np.sqrt(problem.head_dim), fmt))


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
    q_rows = problem.batch * problem.q_heads * problem.q_len // q_rows_in_one
    kv_rows, q_cols = problem.batch * problem.kv_heads * problem.kv_len, dim * q_rows_in_one

    def matrix(name: str, cols: int) -> Array | None:
        return None if tensors is None else getattr(tensors, name).reshape(-1, cols)

    return Operands(
        builder.tensor("q", "input", q_rows, q_cols, fmt, matrix("q", q_cols)),
        builder.tensor("k", "input", kv_rows, dim, fmt, matrix("k", dim)),
        builder.tensor("v", "input", kv_rows, dim, fmt, matrix("v", dim)),
        builder.tensor("o", "output", q_rows, q_cols, problem.output_dtype),
    )


def softmax_attention(problem: AttentionProblem, tensors: AttentionTensors) -> Array:
    """Return softmax(Q K^T / sqrt(d)) V in float64, [batch * q_heads * q_len, head_dim]."""
    output = np.empty(tensors.q.shape, np.float64)
    for head, queries in enumerate(tensors.q.astype(np.float64)):
        kv_head = head * problem.kv_heads // problem.q_heads
        keys, values = (x[kv_head].astype(np.float64) for x in (tensors.k, tensors.v))
        for start in range(0, problem.q_len, _ORACLE_ROWS):
            rows = np.arange(start, min(start + _ORACLE_ROWS, problem.q_len))
            is_masked = _hidden_keys(problem, rows)
            # Infinite and NaN inputs are the user's to see, not ours to warn about.
            with np.errstate(invalid="ignore", over="ignore"):
                scores = queries[rows] @ keys.T / np.sqrt(problem.head_dim)
                scores = np.where(is_masked, -np.inf, scores)
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                output[head, rows] = weights @ values / weights.sum(axis=1, keepdims=True)
    return output.reshape(-1, problem.head_dim)


def _hidden_keys(problem: AttentionProblem, rows: Array) -> Array | np.bool_:
    """Where the causal mask hides a key from a query row, [rows, kv_len]."""
    if not problem.causal:
        return np.False_
    return np.arange(problem.kv_len) > rows[:, None] + problem.kv_len - problem.q_len
