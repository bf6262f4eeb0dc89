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
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.blocks import block_at
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
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import Program
from accelsim.program.recording import Buffer, Tensor
from accelsim.quantization.codes import check_finite
from accelsim.quantization.schemes import WEIGHT_GROUP, per_row_group
from accelsim.runtime.jit import jit, jit_inner
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


class _Operands(NamedTuple):
    """Matrices in HBM; `codes` [k, n] and `scales` [groups, n] stand for B."""

    a: Tensor
    codes: Tensor
    scales: Tensor
    c: Tensor


class Layout(NamedTuple):
    """Sizes in elements, matrices in HBM and tiles on chip."""

    m: int
    n: int
    depth: int
    tiles: Tiles
    group_rows: int
    hbm: _Operands
    a: Buffer
    codes: Buffer
    scales: Buffer
    weights: Buffer
    acc: Buffer
    c: Buffer


@jit
def weight_only(p, k):
    """All tiles of C, row by row."""
    tiles_n = -(-k.n // k.tiles.n)
    for item in range(-(-k.m // k.tiles.m) * tiles_n):
        al.begin_item(p, 0)
        row, col = item // tiles_n * k.tiles.m, item % tiles_n * k.tiles.n
        at = block_at(k.hbm.c, row, col, k.tiles.m, k.tiles.n)
        acc, c = al.tile(k.acc, item, at.rows, at.cols), al.tile(k.c, item, at.rows, at.cols)
        for step in range(-(-k.depth // k.tiles.k)):
            start = step * k.tiles.k
            depth = min(k.tiles.k, k.depth - start)
            a, weights = (
                al.tile(k.a, step, at.rows, depth),
                al.tile(k.weights, step, depth, at.cols),
            )
            al.load(p, a, k.hbm.a, at.row, start)
            _dequantize(p, weights, step, at, k)
            al.matmul(p, acc, a, weights, step > 0)
        al.move(p, c, acc)
        al.store(p, k.hbm.c, at.row, at.col, c)


@jit_inner
def _dequantize(p, weights, step, at, k):
    """Load the codes of a step along k and multiply them by the scales that rows share."""
    start, depth, size = step * k.tiles.k, weights.rows, k.group_rows
    first, last = start // size, (start + depth - 1) // size
    codes = al.tile(k.codes, step, depth, at.cols)
    scales = al.tile(k.scales, step, last - first + 1, at.cols)
    al.load(p, codes, k.hbm.codes, start, at.col)
    al.load(p, scales, k.hbm.scales, first, at.col)
    al.convert(p, weights, codes)
    for group in range(first, last + 1):
        begin = max(group * size - start, 0)
        end = min((group + 1) * size - start, depth)
        part = al.rows_from(weights, begin, end - begin)
        al.multiply_row(p, part, part, al.rows_from(scales, group - first, 1))


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
        layout = Layout(
            m=problem.m,
            n=problem.n,
            depth=problem.k,
            tiles=tiles,
            group_rows=parameters.group_rows,
            hbm=hbm,
            **{size.name: builder.buffer(**size._asdict()) for size in sizes},
        )
        items = ceil_div(problem.m, tiles.m) * ceil_div(problem.n, tiles.n)
        program = builder.record(weight_only, items, layout)
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
    """Return the buffers of a tiling."""
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
