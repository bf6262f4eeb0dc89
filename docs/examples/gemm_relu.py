"""A kernel written outside accelsim: C = max(A B, 0), a product with its activation fused."""

import numpy as np

from accelsim.config.spec import Size, Spec
from accelsim.jit import jit
from accelsim.kernels.base import Kernel
from accelsim.kernels.registry import register
from accelsim.kernels.tiling import fit_error
from accelsim.numerics.formats import FP32, Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import begin_item, fill, load, matmul, maximum, move, store, tile


class Parameters(Spec):
    tile: Size = 64
    """Rows, columns and depth of a tile, in elements."""


@jit
def gemm_relu(p, m, n, k, size, fmt, a, b, c, a_tiles, b_tiles, acc_tiles, c_tiles, zeros):
    tiles_n = -(-n // size)
    for item in range(-(-m // size) * tiles_n):
        begin_item(p, 0)
        row, col = item // tiles_n * size, item % tiles_n * size
        rows, cols = min(size, m - row), min(size, n - col)
        acc, result, zero = tile(acc_tiles, item), tile(c_tiles, item), tile(zeros, 0)
        for step in range(-(-k // size)):
            depth = min(size, k - step * size)
            left, right = tile(a_tiles, step), tile(b_tiles, step)
            load(p, left, a, row, step * size, rows, depth)
            load(p, right, b, step * size, col, depth, cols)
            matmul(p, acc, left, right, rows, cols, depth, fmt, FP32, step > 0)
        move(p, result, acc, rows, cols, FP32, fmt)
        fill(p, zero, 0.0, rows, cols, fmt)
        maximum(p, result, result, zero, rows, cols, fmt)
        store(p, c, row, col, result, rows, cols)


@register
class GemmRelu(Kernel):
    name = "gemm_relu"
    summary = "matrix product followed by max(x, 0) before the result leaves the chip"
    problem_kind = "gemm"
    parameters = Parameters

    @classmethod
    def record(cls, problem, machine, parameters, tensors):
        m, n, k, fmt, size = problem.m, problem.n, problem.k, problem.dtype, parameters.tile
        build = ProgramBuilder(f"gemm_relu on {problem.name}", with_numbers=tensors is not None)
        a = build.tensor("a", "input", m, k, fmt, tensors and tensors.a)
        b = build.tensor("b", "input", k, n, fmt, tensors and tensors.b)
        c = build.tensor("c", "output", m, n, fmt)
        buffers = [build.buffer(name, size, size, fmt, slots=2) for name in "ab"]
        buffers.append(build.buffer("acc", size, size, Format.FP32, memory="accumulator"))
        buffers += [build.buffer("c", size, size, fmt, slots=2), build.buffer("0", size, size, fmt)]
        if error := fit_error(build.name, build.buffers, machine):
            raise error
        items = -(-m // size) * -(-n // size)
        program = build.record(gemm_relu, items, m, n, k, size, fmt.code, a, b, c, *buffers)
        return program, c.data

    @classmethod
    def oracle(cls, problem, tensors):
        return np.maximum(tensors.a.astype(np.float64) @ tensors.b.astype(np.float64), 0)
