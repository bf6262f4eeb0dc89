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

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.blocks import block_at
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.linear.estimate.choice import rival_tilings
from accelsim.kernels.linear.estimate.products import Step, Work
from accelsim.kernels.linear.product import ProductKernel, TileParameters, Workspace
from accelsim.kernels.linear.tiles import (
    BufferSize,
    Choice,
    Tiles,
    candidates,
    check_packing,
    declare,
    fitting,
    with_two_accumulators,
)
from accelsim.quantization.codes import check_finite
from accelsim.quantization.schemes import WEIGHT_GROUP, per_row_group

_FORMATS = (al.Format.FP32, al.Format.BF16, al.Format.FP16)


class WeightOnlyParameters(TileParameters):
    """Choices of the weight_only kernel."""

    bits: Literal[4, 8] = 4
    """Bits of a weight."""
    group_rows: al.Size = WEIGHT_GROUP
    """Rows of B, input features, that share a scale in every column."""


class _Operands(NamedTuple):
    """Matrices in HBM; `codes` [k, n] and `scales` [groups, n] stand for B."""

    a: al.Tensor
    codes: al.Tensor
    scales: al.Tensor
    c: al.Tensor


class Layout(NamedTuple):
    """Sizes in elements, matrices in HBM and tiles on chip."""

    m: int
    n: int
    depth: int
    tiles: Tiles
    group_rows: int
    hbm: _Operands
    a: al.Buffer
    codes: al.Buffer
    scales: al.Buffer
    weights: al.Buffer
    acc: al.Buffer
    c: al.Buffer


@al.jit
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


@al.jit_inner
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


_Workspace = Workspace[al.GemmProblem, WeightOnlyParameters]


class WeightOnly(ProductKernel):
    """Matrix product with weights dequantized on the chip; B is quantized before the run."""

    name = "weight_only"
    summary = "matrix product; INT4 or INT8 weights, dequantized by the vector unit"
    is_exact = False
    leaves_open = "tile_m", "tile_n", "tile_k"
    parameters = WeightOnlyParameters

    @classmethod
    def stored_dtypes(
        cls, problem: al.GemmProblem, parameters: WeightOnlyParameters
    ) -> dict[str, al.Format]:
        """Return the format of the weights."""
        return {"b": al.Format(f"int{parameters.bits}")}

    @classmethod
    def check(cls, problem: al.GemmProblem) -> None:
        """Refuse formats that the vector unit does not convert integers to."""
        if problem.dtype not in _FORMATS:
            raise al.WorkloadError(
                f"weight_only on {problem.name}: found dtype = {problem.dtype}, "
                f"allowed: {', '.join(_FORMATS)}"
            )

    @classmethod
    @remembered
    def choices(
        cls, problem: al.GemmProblem, machine: al.MachineSpec, parameters: WeightOnlyParameters
    ) -> Sequence[Choice]:
        """Return the tilings that may be the fastest; raises DoesNotFitError."""
        name = f"weight_only on {problem.name}"
        check_packing(name, {"tile_n": (parameters.tile_n, problem.n, parameters.bits)})
        machine.cube_for(name)

        def step(tiles: Tiles) -> Step:
            return _step(problem, machine, parameters, tiles)

        tiles = with_two_accumulators(candidates(problem, parameters.tile), machine)
        tiles = fitting(name, machine, tiles, lambda each: _buffers(each, problem, parameters))
        work = Work(problem, machine, step, problem.dtype.bits)
        return rival_tilings(work, tiles)

    @classmethod
    def loop(cls, at: _Workspace) -> tuple[Any, int, Layout]:
        """Place A, the quantized B and C, and declare the tiles."""
        problem, tiles = at.problem, at.tiles
        layout = Layout(
            m=problem.m,
            n=problem.n,
            depth=problem.k,
            tiles=tiles,
            group_rows=at.parameters.group_rows,
            hbm=_operands_of(at),
            **declare(at.builder, _buffers(tiles, problem, at.parameters)),
        )
        items = al.ceil_div(problem.m, tiles.m) * al.ceil_div(problem.n, tiles.n)
        return weight_only, items, layout


def _operands_of(at: _Workspace) -> _Operands:
    bits, rows, dtype = at.parameters.bits, at.parameters.group_rows, at.problem.dtype
    codes = scales = None
    if at.tensors is not None:
        check_finite(at.tensors.b, f"{at.builder.name}: weights")
        weights = per_row_group(at.tensors.b, bits, rows, dtype)
        codes, scales = weights.codes, weights.scale[::rows].astype(np.float32)
    m, n, k, tensor = at.problem.m, at.problem.n, at.problem.k, at.builder.tensor
    return _Operands(
        tensor("a", "input", m, k, dtype, at.tensors and at.tensors.a),
        tensor("codes", "input", k, n, al.Format(f"int{bits}"), codes),
        tensor("scales", "input", al.ceil_div(k, rows), n, dtype, scales),
        tensor("c", "output", m, n, dtype),
    )


def _buffers(
    tiles: Tiles, problem: al.GemmProblem, parameters: WeightOnlyParameters
) -> list[BufferSize]:
    """Return the buffers of a tiling."""
    dtype, codes = problem.dtype, al.Format(f"int{parameters.bits}")
    scale_rows = _groups_of_step(tiles.k, problem, parameters)
    return [
        BufferSize("a", tiles.m, tiles.k, dtype, 2),
        BufferSize("codes", tiles.k, tiles.n, codes, 2),
        BufferSize("scales", scale_rows, tiles.n, dtype, 2),
        BufferSize("weights", tiles.k, tiles.n, dtype, 2),
        BufferSize("acc", tiles.m, tiles.n, al.Format.FP32, tiles.acc_slots, "accumulator"),
        BufferSize("c", tiles.m, tiles.n, dtype, 2),
    ]


def _groups_of_step(depth: Any, problem: al.GemmProblem, parameters: WeightOnlyParameters) -> Any:
    """Return the most groups of rows that the rows of one step of this depth belong to."""
    if np.ndim(depth):
        found, places = np.unique(depth, return_inverse=True)
        each = [_groups_of_step(int(one), problem, parameters) for one in found]
        return np.array(each)[places].reshape(np.shape(depth))
    size = parameters.group_rows
    starts = range(0, problem.k, depth)
    return max((min(at + depth, problem.k) - 1) // size - at // size + 1 for at in starts)


def _step(
    problem: al.GemmProblem, machine: al.MachineSpec, parameters: WeightOnlyParameters, tiles: Tiles
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
            tiles.m * tiles.k * fmt.bits / al.BITS_PER_BYTE,
            tiles.k * tiles.n * parameters.bits / al.BITS_PER_BYTE,
            groups * tiles.n * fmt.bits / al.BITS_PER_BYTE,
        ),
    )
