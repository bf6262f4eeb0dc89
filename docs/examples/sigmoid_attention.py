"""Sigmoid attention, a whole attention algorithm in one file: weights are no softmax.

Source: Ramapuram et al., "Theory, Analysis, and Best Practices for Sigmoid Self-Attention" (2024,
arXiv 2409.04431), section 2: O = sigmoid(Q K^T / sqrt(d) - log n) V for n keys. Rows need no
maximum and no sum, so the weighted values of all key tiles are added in the accumulator.
"""

from math import log, sqrt
from typing import NamedTuple

import numpy as np

from accelsim import language as al


class Parameters(al.Spec):
    tile_q: al.Size = 64
    """Query rows of a tile, in elements."""
    tile_k: al.Size = 64
    """Key and value rows of a tile, in elements."""


class Layout(NamedTuple):
    """Sizes in elements, tensors in HBM and tiles on chip; `group` query heads share K and V."""

    q_len: int
    kv_len: int
    group: int
    factor: float
    bias: float
    q: al.Tensor
    k: al.Tensor
    v: al.Tensor
    o: al.Tensor
    queries: al.Buffer
    keys: al.Buffer
    values: al.Buffer
    scores: al.Buffer
    weights: al.Buffer
    ones: al.Buffer
    operand: al.Buffer
    output: al.Buffer
    result: al.Buffer


@al.jit
def sigmoid_attention(p, k):
    blocks = -(-k.q_len // k.queries.rows)
    for item in range(k.q.rows // k.q_len * blocks):
        al.begin_item(p, 0)
        head, first = item // blocks, item % blocks * k.queries.rows
        rows = min(k.queries.rows, k.q_len - first)
        queries, output = (
            al.tile(k.queries, item, rows, k.q.cols),
            al.tile(k.output, 0, rows, k.q.cols),
        )
        al.load(p, queries, k.q, head * k.q_len + first, 0)
        for start in range(0, k.kv_len, k.keys.rows):
            turn, cols = start // k.keys.rows, min(k.keys.rows, k.kv_len - start)
            row = head // k.group * k.kv_len + start
            keys, values = (
                al.tile(k.keys, turn, cols, k.k.cols),
                al.tile(k.values, turn, cols, k.v.cols),
            )
            scores, x = al.tile(k.scores, turn, rows, cols), al.tile(k.weights, turn, rows, cols)
            al.load(p, keys, k.k, row, 0)
            al.matmul_transposed(p, scores, queries, keys, False)
            al.move(p, x, scores)
            weigh(p, x, al.tile(k.ones, 0, rows, cols), al.tile(k.operand, turn, rows, cols), k)
            al.load(p, values, k.v, row, 0)
            al.matmul(p, output, al.tile(k.operand, turn, rows, cols), values, start > 0)
        result = al.tile(k.result, item, rows, k.o.cols)
        al.move(p, result, output)
        al.store(p, k.o, head * k.q_len + first, 0, result)


@al.jit_inner
def weigh(p, x, ones, operand, k):
    """operand = 1 / (1 + e^-(x / sqrt(d) + bias)); x is work space."""
    al.scale(p, x, x, -k.factor)
    al.add_scalar(p, x, x, -k.bias)
    al.exp(p, x, x)
    al.add_scalar(p, x, x, 1.0)
    al.fill(p, ones, 1.0)
    al.divide(p, x, ones, x)
    al.convert(p, operand, x)


@al.register
class SigmoidAttention(al.Kernel):
    name = "sigmoid_attention"
    summary = "attention with sigmoid weights: no row maxima, no row sums"
    problem_kind = "attention"
    is_exact = False  # its oracle is the one below, but it is no softmax
    parameters = Parameters

    @classmethod
    def record(cls, problem, machine, parameters, tensors):
        if problem.causal:
            raise al.DoesNotFitError(f"{cls.name} on {problem.name}: has no causal mask")
        build = al.ProgramBuilder(f"{cls.name} on {problem.name}", with_numbers=tensors is not None)
        layout = declare(build, problem, parameters, tensors)
        if error := al.fit_error(build.name, build.buffers, machine):
            raise error
        items = problem.batch * problem.q_heads * -(-problem.q_len // layout.queries.rows)
        return build.record(sigmoid_attention, items, layout), layout.o.data

    @classmethod
    def oracle(cls, problem, tensors):
        q, k, v = (each.astype(np.float64) for each in tensors[:3])
        group = problem.q_heads // problem.kv_heads
        scores = q @ np.repeat(k, group, 0).transpose(0, 2, 1) / sqrt(problem.head_dim)
        weights = 1 / (1 + np.exp(log(problem.kv_len) - scores))
        return (weights @ np.repeat(v, group, 0)).reshape(-1, problem.head_dim)


def declare(build, problem, parameters, tensors):
    """Return the layout: operands in HBM, and buffers for the tiles that were asked for."""
    dim, fmt, fp32 = problem.head_dim, problem.dtype, al.Format.FP32
    rows, cols = min(parameters.tile_q, problem.q_len), min(parameters.tile_k, problem.kv_len)
    heads, kv_heads = problem.batch * problem.q_heads, problem.batch * problem.kv_heads

    def matrix(name, rows, role="input"):
        data = getattr(tensors, name).reshape(-1, dim) if tensors and role == "input" else None
        return build.tensor(name, role, rows, dim, fmt, data)

    return Layout(
        q_len=problem.q_len,
        kv_len=problem.kv_len,
        group=heads // kv_heads,
        factor=1 / sqrt(dim),
        bias=-log(problem.kv_len),
        q=matrix("q", heads * problem.q_len),
        k=matrix("k", kv_heads * problem.kv_len),
        v=matrix("v", kv_heads * problem.kv_len),
        o=build.tensor("o", "output", heads * problem.q_len, dim, problem.output_dtype),
        queries=build.buffer("queries", rows, dim, fmt, slots=2),
        keys=build.buffer("keys", cols, dim, fmt, slots=2),
        values=build.buffer("values", cols, dim, fmt, slots=2),
        scores=build.buffer("scores", rows, cols, fp32, slots=2, memory="accumulator"),
        weights=build.buffer("weights", rows, cols, fp32, slots=2),
        ones=build.buffer("ones", rows, cols, fp32),
        operand=build.buffer("operand", rows, cols, fmt.of_results, slots=2),
        output=build.buffer("output", rows, dim, fp32, memory="accumulator"),
        result=build.buffer("result", rows, dim, problem.output_dtype, slots=2),
    )
