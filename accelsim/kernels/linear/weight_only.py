"""Matrix product with weights of few bits, which the vector unit dequantizes on the chip.

B lies in HBM as integers, with a scale in the format of A for `group_rows` rows of a column. Each
tile of it is converted and multiplied by its scales, and the cube multiplies as in `gemm`. So the
HBM moves a quarter of the weights, and the vector unit works once for every tile of rows of A.

Sources: Frantar et al., "GPTQ", 2022, arXiv 2210.17323; Lin et al., "AWQ", 2023, arXiv 2306.00978,
whose kernels dequantize in front of the product too. Neither's choice of codes is here: codes are
the nearest ones, symmetric around 0.

HBM reads with tiles of t_m x t_n, groups of g rows, b bits and w bytes of an element of A:
ceil(n / t_n) m k w + ceil(m / t_m) (k n b / 8 + scales) bytes, where scales = ceil(k / g) n w if
steps along k begin where groups do; writes: C.
"""

from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from accelsim.config.spec import Size, Spec
from accelsim.errors import WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.linear.choice import choose
from accelsim.kernels.linear.estimate import Step, Work
from accelsim.kernels.linear.tiles import (
    BufferSize,
    Choice,
    Tiles,
    candidates,
    check_packing,
    fitting,
    with_two_accumulators,
)
from accelsim.numerics.formats import FP32, Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import (
    begin_item,
    convert,
    load,
    matmul,
    move,
    rows_from,
    store,
    tile,
)
from accelsim.program.old.quantizing import multiply_row
from accelsim.program.program import Program
from accelsim.quantization.codes import check_finite
from accelsim.quantization.schemes import WEIGHT_GROUP, per_row_group
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors

_FORMATS = (Format.FP32, Format.BF16, Format.FP16)


class WeightOnlyParameters(Spec):
    """Choices of the weight_only kernel."""

    bits: Literal[4, 8] = 4
    """Bits of a weight."""
    group_rows: Size = WEIGHT_GROUP
    """Rows of B, input features, that share a scale in every column."""
    tile_m: Size | None = None
    """Rows of a tile of A and C, in elements; absent: chosen."""
    tile_n: Size | None = None
    """Columns of a tile of B and C, in elements; absent: chosen."""
    tile_k: Size | None = None
    """Depth of one step, in elements; absent: chosen."""


class _Shape(NamedTuple):
    """Sizes in elements."""

    m: int
    n: int
    k: int
    tile_m: int
    tile_n: int
    tile_k: int
    group_rows: int


class _Operands(NamedTuple):
    """Matrices in HBM; `codes` [k, n] and `scales` [groups, n] stand for B."""

    a: Any
    codes: Any
    scales: Any
    c: Any


class _Buffers(NamedTuple):
    """On-chip tiles."""

    a: Any
    codes: Any
    scales: Any
    weights: Any
    acc: Any
    c: Any


@jit
def weight_only(p, shape, fmt, hbm, b):
    """All tiles of C, row by row."""
    tiles_m, tiles_n = -(-shape.m // shape.tile_m), -(-shape.n // shape.tile_n)
    for item in range(tiles_m * tiles_n):
        begin_item(p, 0)
        row, col = item // tiles_n * shape.tile_m, item % tiles_n * shape.tile_n
        rows, cols = min(shape.tile_m, shape.m - row), min(shape.tile_n, shape.n - col)
        acc, result = tile(b.acc, item), tile(b.c, item)
        for step in range(-(-shape.k // shape.tile_k)):
            start = step * shape.tile_k
            depth = min(shape.tile_k, shape.k - start)
            left, weights = tile(b.a, step), tile(b.weights, step)
            load(p, left, hbm.a, row, start, rows, depth)
            _dequantize(p, weights, step, start, depth, col, cols, shape, fmt, hbm, b)
            matmul(p, acc, left, weights, rows, cols, depth, fmt, FP32, step > 0)
        move(p, result, acc, rows, cols, FP32, fmt)
        store(p, hbm.c, row, col, result, rows, cols)


@jit_inner
def _dequantize(p, weights, step, start, depth, col, cols, shape, fmt, hbm, b):
    """Load `depth` rows of codes from row `start` on and multiply them by the scales they share."""
    codes, scales, size = tile(b.codes, step), tile(b.scales, step), shape.group_rows
    first, last = start // size, (start + depth - 1) // size
    load(p, codes, hbm.codes, start, col, depth, cols)
    load(p, scales, hbm.scales, first, col, last - first + 1, cols)
    convert(p, weights, codes, depth, cols, fmt, fmt)
    for group in range(first, last + 1):
        begin = max(group * size - start, 0)
        rows = min((group + 1) * size - start, depth) - begin
        part = rows_from(weights, begin)
        multiply_row(p, part, part, rows_from(scales, group - first), rows, cols, fmt)


class WeightOnly(Kernel):
    """Matrix product with weights dequantized on the chip."""

    name: ClassVar[str] = "weight_only"
    summary: ClassVar[str] = "matrix product; INT4 or INT8 weights, dequantized by the vector unit"
    problem_kind: ClassVar[str] = "gemm"
    is_exact: ClassVar[bool] = False
    parameters: ClassVar[type[Spec]] = WeightOnlyParameters

    @classmethod
    def record(
        cls,
        problem: GemmProblem,
        machine: MachineSpec,
        parameters: WeightOnlyParameters,
        tensors: GemmTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, C [m, n]; B is quantized before the run."""
        name = f"weight_only on {problem.name}"
        if problem.dtype not in _FORMATS:
            raise WorkloadError(
                f"{name}: found dtype = {problem.dtype}, allowed: {', '.join(_FORMATS)}"
            )
        tiles = _choose_tiles(problem, machine, parameters).tiles
        builder = ProgramBuilder(name, with_numbers=tensors is not None)
        hbm = _declare_operands(builder, problem, parameters, tensors)
        sizes = _buffers(tiles, problem, parameters)
        buffers = _Buffers(*(builder.buffer(**size._asdict()) for size in sizes))
        shape = _Shape(
            problem.m, problem.n, problem.k, tiles.m, tiles.n, tiles.k, parameters.group_rows
        )
        items = ceil_div(problem.m, tiles.m) * ceil_div(problem.n, tiles.n)
        program = builder.record(weight_only, items, shape, problem.dtype.code, hbm, buffers)
        chosen = {"tile_m": tiles.m, "tile_n": tiles.n, "tile_k": tiles.k}
        return program.with_parameters(**chosen), hbm.c.data

    @classmethod
    def estimated_cycles(
        cls, problem: GemmProblem, machine: MachineSpec, parameters: WeightOnlyParameters
    ) -> float:
        """Return the time that the chosen tiles should take; raises DoesNotFitError."""
        return _choose_tiles(problem, machine, parameters).cycles

    @classmethod
    def oracle(cls, problem: GemmProblem, tensors: GemmTensors) -> Array:
        """Return A B in float64, B as it was before its quantization."""
        return tensors.a.astype(np.float64) @ tensors.b.astype(np.float64)


def _declare_operands(
    builder: ProgramBuilder,
    problem: GemmProblem,
    parameters: WeightOnlyParameters,
    tensors: GemmTensors | None,
) -> _Operands:
    """Place A, the quantized B and C in HBM."""
    codes = scales = None
    if tensors is not None:
        check_finite(tensors.b, f"{builder.name}: weights")
        weights = per_row_group(tensors.b, parameters.bits, parameters.group_rows, problem.dtype)
        codes = weights.codes
        scales = weights.scale[:: parameters.group_rows].astype(np.float32)
    m, n, k, dtype = problem.m, problem.n, problem.k, problem.dtype
    groups = ceil_div(k, parameters.group_rows)
    return _Operands(
        builder.tensor("a", "input", m, k, dtype, tensors and tensors.a),
        builder.tensor("codes", "input", k, n, Format(f"int{parameters.bits}"), codes),
        builder.tensor("scales", "input", groups, n, dtype, scales),
        builder.tensor("c", "output", m, n, dtype),
    )


def _buffers(
    tiles: Tiles, problem: GemmProblem, parameters: WeightOnlyParameters
) -> list[BufferSize]:
    """Return the buffers of a tiling, in the order of `_Buffers`."""
    dtype, codes = problem.dtype, Format(f"int{parameters.bits}")
    scale_rows = _groups_of_step(tiles.k, problem, parameters)
    return [
        BufferSize("a", tiles.m, tiles.k, dtype, 2),
        BufferSize("codes", tiles.k, tiles.n, codes, 2),
        BufferSize("scales", scale_rows, tiles.n, dtype, 2),
        BufferSize("weights", tiles.k, tiles.n, dtype, 2),
        BufferSize("acc", tiles.m, tiles.n, Format.FP32, tiles.acc_slots, "accumulator"),
        BufferSize("c", tiles.m, tiles.n, dtype, 2),
    ]


def _groups_of_step(depth: Any, problem: GemmProblem, parameters: WeightOnlyParameters) -> Any:
    """Return the most groups of rows that the rows of one step of this depth belong to."""
    if np.ndim(depth):
        found, places = np.unique(depth, return_inverse=True)
        each = [_groups_of_step(int(one), problem, parameters) for one in found]
        return np.array(each)[places].reshape(np.shape(depth))
    size = parameters.group_rows
    starts = range(0, problem.k, depth)
    return max((min(at + depth, problem.k) - 1) // size - at // size + 1 for at in starts)


@remembered
def _choose_tiles(
    problem: GemmProblem, machine: MachineSpec, parameters: WeightOnlyParameters
) -> Choice:
    """Return the tiling of the lowest estimated cost among those asked for that fit."""
    name = f"weight_only on {problem.name}"
    check_packing(name, {"tile_n": (parameters.tile_n, problem.n, parameters.bits)})
    machine.cube_for(name)

    def step(tiles: Tiles) -> Step:
        return _step(problem, machine, parameters, tiles)

    asked = (parameters.tile_m, parameters.tile_n, parameters.tile_k)
    tiles = with_two_accumulators(candidates(problem, asked), machine)
    tiles = fitting(name, machine, tiles, lambda each: _buffers(each, problem, parameters))
    work = Work(problem, machine, step, problem.dtype.bits)
    return choose(work, tiles, can_reorder=False)


def _step(
    problem: GemmProblem, machine: MachineSpec, parameters: WeightOnlyParameters, tiles: Tiles
) -> Step:
    """Return what one step along k asks of the cube, the vector unit and the load queue."""
    costs, fmt = OpCosts(machine), problem.dtype
    groups = _groups_of_step(tiles.k, problem, parameters)
    product = costs.product(tiles.m, tiles.n, tiles.k, fmt, (fmt.bits, fmt.bits))
    dequantize = costs.vector("convert", fmt, tiles.k, tiles.n, parameters.bits + fmt.bits)
    group_rows = tiles.k / groups
    dequantize = dequantize + groups * costs.vector(
        "multiply", fmt, group_rows, tiles.n, 2 * fmt.bits
    )
    cube = machine.cube_for(f"weight_only on {problem.name}")
    depths = machine.vector.pipeline_depth_cycles + cube.latency_cycles
    return Step(
        compute_cycles=np.maximum(product, dequantize),
        latency_cycles=np.minimum(product, dequantize) + depths,
        operand_bytes=(
            tiles.m * tiles.k * fmt.bits / BITS_PER_BYTE,
            tiles.k * tiles.n * parameters.bits / BITS_PER_BYTE,
            groups * tiles.n * fmt.bits / BITS_PER_BYTE,
        ),
    )
