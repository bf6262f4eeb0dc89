"""A kernel written outside accelsim: C = max(A B, 0), a product with its activation fused."""

import numpy as np

from accelsim import language as al


class Parameters(al.Spec):
    tile: al.Size = 64
    """Rows, columns and depth of a tile, in elements."""


@al.jit
def gemm_relu(p, m, n, k, size, fmt, a, b, c, a_tiles, b_tiles, acc_tiles, c_tiles, zeros):
    tiles_n = -(-n // size)
    for item in range(-(-m // size) * tiles_n):
        al.begin_item(p, 0)
        row, col = item // tiles_n * size, item % tiles_n * size
        rows, cols = min(size, m - row), min(size, n - col)
        acc, result, zero = al.tile(acc_tiles, item), al.tile(c_tiles, item), al.tile(zeros, 0)
        for step in range(-(-k // size)):
            depth = min(size, k - step * size)
            left, right = al.tile(a_tiles, step), al.tile(b_tiles, step)
            al.load(p, left, a, row, step * size, rows, depth)
            al.load(p, right, b, step * size, col, depth, cols)
            al.matmul(p, acc, left, right, rows, cols, depth, fmt, al.FP32, step > 0)
        al.move(p, result, acc, rows, cols, al.FP32, fmt)
        al.fill(p, zero, 0.0, rows, cols, fmt)
        al.maximum(p, result, result, zero, rows, cols, fmt)
        al.store(p, c, row, col, result, rows, cols)


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
        program = build.record(gemm_relu, items, m, n, k, size, fmt.code, a, b, c, *buffers)
        return program, c.data

    @classmethod
    def oracle(cls, problem, tensors):
        return np.maximum(tensors.a.astype(np.float64) @ tensors.b.astype(np.float64), 0)
