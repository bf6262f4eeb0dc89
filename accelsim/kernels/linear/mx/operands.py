"""What is known before a run of a linear with shared scales: W encoded, and X where it is too."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels import language as al
from accelsim.kernels.integer.known import Known
from accelsim.kernels.linear.mx.plan import Plan
from accelsim.numerics.blocks import encode_blocks, tensor_scale_of
from accelsim.numerics.formats import SMALLEST_POWER

Scales = NDArray[np.float32]


class Relative(NamedTuple):
    """Powers of two over the largest of their row or column, which is a number beside them."""

    scales: Scales
    largest: Scales


def relative(scales: Scales, axis: int) -> Relative:
    """Return scales over the largest along an axis, none below the smallest power of E8M0."""
    largest = scales.max(axis, keepdims=True)
    over = np.maximum(scales.astype(np.float64) / largest, SMALLEST_POWER)
    return Relative(over.astype(np.float32), largest)


def known_of(plan: Plan, tensors: al.GemmTensors, is_made: bool) -> Known:
    """Return what is known before the run; is_made: the producer of X has encoded it.

    x_tensor_scale, the number that all scales of X are relative to, comes from a calibration, here
    of X itself, as `input_scale` of published NVFP4 models does.
    """
    x, across = tensors.a, plan.w.across
    w = encode_blocks(tensors.b, plan.weights, 0, across, plan.rounds_up_in(plan.w))
    x_tensor_scale = tensor_scale_of(np.abs(x), plan.x)
    known: dict[str, Any] = {
        "w_elements": w.elements,
        "w_scales": w.scales,
        "tensor_scales": float(w.tensor_scale * x_tensor_scale),
        "x_tensor_scale": float(x_tensor_scale),
    }
    if plan.is_relative:
        known["w_scales"], known["w_largest"] = relative(w.scales, axis=0)
    if is_made:
        blocks = encode_blocks(x, plan.activations, 1, rounds_up=plan.rounds_up_in(plan.x))
        known["x_elements"], known["x_scales"] = blocks.elements, blocks.scales
        if plan.is_relative:
            known["x_scales"], known["x_largest"] = relative(blocks.scales, axis=1)
    return known


def scale_tiles(scales: Scales, n: int, tile_n: int, across: int) -> Scales:
    """Return the scales of W [blocks, n / across] as they lie in HBM, tile after tile.

    [tiles x blocks, scales of a tile]. Tiles narrower than what shares a scale lie inside of it.
    """
    first = np.arange(0, n, tile_n) // across
    columns = first[:, None] + np.arange(al.ceil_div(tile_n, across))
    by_tile = scales[:, np.minimum(columns, scales.shape[1] - 1)].transpose(1, 0, 2)
    return np.ascontiguousarray(by_tile.reshape(-1, columns.shape[1]))


def most_guard_bits(plan: Plan, k: int, accumulator_bits: int) -> int:
    """Return how many guard bits no sum over k products can fill an accumulator with.

    Every product is at most the product of the largest elements, and every sum of a block is
    rounded by at most half a unit.
    """
    largest = _largest_product(plan) * k
    rounding = al.ceil_div(k, plan.block)
    limit = (1 << (accumulator_bits - 1)) - 1 - rounding
    guard_bits = 0
    while largest << (guard_bits + 1) <= limit:
        guard_bits += 1
    while guard_bits <= 0 and (largest >> -guard_bits) > limit:
        guard_bits -= 1
    return guard_bits


def largest_sum(plan: Plan, k: int, guard_bits: int) -> float:
    """Return the largest magnitude of a sum in the array: over all k if it aligns blocks."""
    if not plan.is_relative:
        return float(_largest_product(plan) * plan.block)
    return _largest_product(plan) * k * 2.0**guard_bits + al.ceil_div(k, plan.block)


def _largest_product(plan: Plan) -> int:
    return int(plan.x.element.layout.largest) * int(plan.w.element.layout.largest)
