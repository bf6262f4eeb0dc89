"""Tile sizes of a linear with shared scales: what fits, and of that what should take least time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.linear.estimate.choice import rival_tilings
from accelsim.kernels.linear.estimate.products import Step, Work
from accelsim.kernels.linear.mx.encoding import Encoding
from accelsim.kernels.linear.mx.parameters import MxParameters
from accelsim.kernels.linear.mx.plan import Plan, plan_of
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
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem

_FP32, _INT32 = Format.FP32, Format.INT32


def product_buffers(plan: Plan, parameters: MxParameters, tiles: Tiles) -> list[BufferSize]:
    """Return the buffers of the products: operands and results double-buffered."""
    (m, n, k), x, w = tiles[:3], plan.x, plan.w
    sums = _INT32 if plan.on_array else _FP32
    own = [
        BufferSize("x", m, k, x.element, 2),
        BufferSize("x_scales", m, ceil_div(k, x.block), x.scale, 2),
        BufferSize("w", k, n, w.element, 2),
        BufferSize("w_scales", ceil_div(k, w.block), ceil_div(n, w.across), w.scale, 2),
        BufferSize("acc", m, n, sums, tiles.acc_slots, "accumulator"),
        BufferSize("y", m, n, parameters.output_format, 2),
    ]
    if plan.on_array:
        own.append(BufferSize("sums", m, n, _INT32, 2))
    if plan.on_array or not plan.in_unit or has_factor(plan):
        own.append(BufferSize("wide", m, n, _FP32, 2))
    if not plan.in_unit:
        own.append(BufferSize("total", m, n, _FP32))
    if plan.is_relative:
        own.append(BufferSize("row_tile", m, 1, _FP32, 2))
        own.append(BufferSize("column_tile", 1, n, _FP32, 2))
    return own


def has_factor(plan: Plan) -> bool:
    """Return whether all values are multiplied by one number at the end."""
    has_tensor_scale = plan.x.has_tensor_scale or plan.w.has_tensor_scale
    return has_tensor_scale or (not plan.is_relative and plan.x.unit * plan.w.unit != 1)


@remembered
def rival_tiles(
    problem: GemmProblem, machine: MachineSpec, parameters: MxParameters
) -> Sequence[Choice]:
    """Return the tilings that may be the fastest, of those asked for that fit, best guess first."""
    plan = plan_of(problem, machine, parameters)
    _check_asked(plan, problem, parameters)
    beside: list[BufferSize] = []
    if parameters.input == "float":
        beside = Encoding.of(machine, plan, problem).buffers()

    def buffers(tiles: Tiles) -> list[BufferSize]:
        return [*beside, *product_buffers(plan, parameters, tiles)]

    tiles = _whole_blocks(plan, problem, candidates(problem, parameters.tile))
    tiles = fitting(plan.name, machine, with_two_accumulators(tiles, machine), buffers)
    work = Work(problem, machine, lambda each: _step(plan, machine, each), _output_bits(parameters))
    return rival_tilings(work, tiles)


def _output_bits(parameters: MxParameters) -> int:
    return Format(parameters.output_format).bits


def _check_asked(plan: Plan, problem: GemmProblem, parameters: MxParameters) -> None:
    """Refuse tiles that begin in the middle of a block, or of a byte."""
    tile_k, tile_n, across = parameters.tile_k, parameters.tile_n, plan.w.across
    if tile_k is not None and tile_k < problem.k and tile_k % plan.whole:
        raise DoesNotFitError(
            f"{plan.name}: found tile_k = {tile_k}, but {plan.whole} elements along k share a "
            f"scale in {plan.blocks}; allowed: multiples of {plan.whole}"
        )
    if tile_n is not None and tile_n < problem.n and tile_n % across and across % tile_n:
        raise DoesNotFitError(
            f"{plan.name}: found tile_n = {tile_n}, but {across} columns of {plan.weights} share a "
            f"scale; allowed: divisors and multiples of {across}"
        )
    check_packing(plan.name, {"tile_k": (tile_k, problem.k, plan.x.element.bits)})


def _whole_blocks(plan: Plan, problem: GemmProblem, tiles: Tiles) -> Tiles:
    """Return the tilings that begin with blocks; a depth that does not is cut to whole ones."""
    whole, across = plan.whole, plan.w.across
    depth = np.minimum(np.maximum(tiles.k // whole * whole, whole), problem.k)
    tiles = tiles._replace(k=np.where(tiles.k >= problem.k, problem.k, depth))
    side = np.where(tiles.n >= across, tiles.n // across * across, tiles.n)
    side = np.where((side < across) & (across % side != 0), across, side)
    tiles = tiles._replace(n=np.where(tiles.n >= problem.n, problem.n, side))
    sizes = np.unique(np.stack([tiles.m, tiles.n, tiles.k]), axis=1)[:, ::-1]
    return Tiles(sizes[0], sizes[1], sizes[2], 1)


def _step(plan: Plan, machine: MachineSpec, tiles: Tiles) -> Step:
    """Return what one step along k asks of the multiplying unit, the vector unit and the loads."""
    costs, x, w = OpCosts(machine), plan.x, plan.w
    bits = (x.element.bits, w.element.bits)
    blocks = np.ceil(tiles.k / plan.block)
    product = _product_cycles(plan, costs, tiles, blocks, bits)
    scaling: Any = 0.0 * product
    if not plan.in_unit:
        one = costs.vector("multiply", _FP32, tiles.m, tiles.n, 2 * _FP32.bits)
        added = costs.vector("add", _FP32, tiles.m, tiles.n, 3 * _FP32.bits)
        converted = costs.vector("convert", _FP32, tiles.m, tiles.n, 2 * _FP32.bits)
        scaling = blocks * (2 * one + added + (converted if plan.on_array else 0))
        moved = blocks * costs.move(tiles.m, tiles.n, _FP32)
        scaling = np.maximum(scaling, moved)
    depths = machine.vector.pipeline_depth_cycles if not plan.in_unit else 0
    return Step(
        compute_cycles=np.maximum(product, scaling),
        latency_cycles=np.minimum(product, scaling) + depths,
        operand_bytes=(
            tiles.m * tiles.k * x.bits / BITS_PER_BYTE,
            tiles.k * tiles.n * w.bits / BITS_PER_BYTE,
        ),
    )


def _product_cycles(
    plan: Plan, costs: OpCosts, tiles: Tiles, blocks: Any, bits: tuple[int, int]
) -> Any:
    if plan.on_array:
        if plan.in_unit:
            return costs.int_product(tiles.m, tiles.n, tiles.k, blocks, bits)
        return blocks * costs.int_product(tiles.m, tiles.n, tiles.k / blocks, 0, bits)
    if plan.in_unit:
        return costs.scaled_product(tiles.m, tiles.n, tiles.k, (plan.x.element, plan.w.element))
    depth = tiles.k / blocks
    return blocks * costs.product(tiles.m, tiles.n, depth, plan.product_format, bits)
