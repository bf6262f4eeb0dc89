"""A kernel written outside accelsim: C = max(A B, 0), a product with its activation fused."""

from typing import NamedTuple

import numpy as np

from accelsim import language as al


class Parameters(al.Spec):
    tile: al.Size = 64
    """Rows, columns and depth of a tile, in elements."""


class Layout(NamedTuple):
    """Tensors in HBM and tiles on chip; tiles have `size` rows and columns."""

    a: al.Tensor
    b: al.Tensor
    c: al.Tensor
    left: al.Buffer
    right: al.Buffer
    acc: al.Buffer
    result: al.Buffer
    zero: al.Buffer
    size: int


@al.jit
def gemm_relu(p, k):
    tiles_n = -(-k.c.cols // k.size)
    for item in range(-(-k.c.rows // k.size) * tiles_n):
        al.begin_item(p, 0)
        row, col = item // tiles_n * k.size, item % tiles_n * k.size
        rows, cols = min(k.size, k.c.rows - row), min(k.size, k.c.cols - col)
        acc, result = al.tile(k.acc, item, rows, cols), al.tile(k.result, item, rows, cols)
        for start in range(0, k.a.cols, k.size):
            depth, turn = min(k.size, k.a.cols - start), start // k.size
            left, right = al.tile(k.left, turn, rows, depth), al.tile(k.right, turn, depth, cols)
            al.load(p, left, k.a, row, start)
            al.load(p, right, k.b, start, col)
            al.matmul(p, acc, left, right, start > 0)
        zero = al.tile(k.zero, 0, rows, cols)
        al.move(p, result, acc)
        al.fill(p, zero, 0.0)
        al.maximum(p, result, result, zero)
        al.store(p, k.c, row, col, result)


@al.register
class GemmRelu(al.Kernel):
    name = "gemm_relu"
    summary = "matrix product followed by max(x, 0) before the result leaves the chip"
    problem_kind = "gemm"
    parameters = Parameters

    @classmethod
    def record(cls, problem, machine, parameters, tensors):
        m, n, k, fmt, size = problem.m, problem.n, problem.k, problem.dtype, parameters.tile
        build = al.ProgramBuilder(f"gemm_relu on {problem.name}", with_numbers=tensors is not None)
        a = build.tensor("a", "input", m, k, fmt, tensors and tensors.a)
        b = build.tensor("b", "input", k, n, fmt, tensors and tensors.b)
        c = build.tensor("c", "output", m, n, fmt)
        buffers = [build.buffer(name, size, size, fmt, slots=2) for name in "ab"]
        buffers.append(build.buffer("acc", size, size, al.Format.FP32, memory="accumulator"))
        buffers += [build.buffer("c", size, size, fmt, slots=2), build.buffer("0", size, size, fmt)]
        if error := al.fit_error(build.name, build.buffers, machine):
            raise error
        items = -(-m // size) * -(-n // size)
        program = build.record(gemm_relu, items, Layout(a, b, c, *buffers, size))
        return program, c.data

    @classmethod
    def oracle(cls, problem, tensors):
        return np.maximum(tensors.a.astype(np.float64) @ tensors.b.astype(np.float64), 0)
