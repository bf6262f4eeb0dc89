"""Linears with shared scales stated in NumPy, step by step as a kernel rounds them."""

import numpy as np

from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.blocks import encode_blocks
from accelsim.numerics.formats import Format
from accelsim.numerics.rounding import round_array


def operands(tensors, activations, weights, rounds_up=False):
    """Return X and W in their formats; of FP32 scales, columns of W share one too."""
    layout = weights.layout
    across = layout.block if layout.scale == Format.FP32 else 1
    up = [rounds_up and fmt.layout.scale == Format.E8M0 for fmt in (activations, weights)]
    x = encode_blocks(tensors.a, activations, axis=1, rounds_up=up[0])
    return x, encode_blocks(tensors.b, weights, axis=0, across=across, rounds_up=up[1])


def blocks_of(x, w):
    """Yield elements and scales of X and W, block by block along k."""
    k = x.elements.shape[1]
    block = min(x.layout.block, w.layout.block)
    columns = np.arange(w.elements.shape[1]) // w.layout.across
    for start in range(0, k, block):
        part = slice(start, min(start + block, k))
        x_scale = x.scales[:, start // x.layout.block, None]
        w_scale = w.scales[start // w.layout.block][columns]
        yield x.elements[:, part], w.elements[part], x_scale, w_scale


def block_sum(left, right):
    """Return the sum of a block in FP32, in the order of k; exact in integers."""
    if left.dtype == np.int32:
        return left @ right
    total = np.zeros((len(left), right.shape[1]), np.float32)
    for step in range(left.shape[1]):
        total = total + left[:, step, None] * right[step]
    return total


def in_cube(tensors, activations, weights, output=Format.BF16, rounds_up=False):
    """Return Y where the cube multiplies each sum by both scales, rounded once."""
    x, w = operands(tensors, activations, weights, rounds_up)
    total = 0
    for left, right, x_scale, w_scale in blocks_of(x, w):
        both = x_scale.astype(np.float64) * w_scale
        total = total + (block_sum(left, right) * both).astype(np.float32)
    return finished(total, x, w, output)


def on_the_way_out(tensors, activations, weights, output=Format.BF16):
    """Return Y where the vector unit multiplies each sum by one scale after the other in FP32."""
    x, w = operands(tensors, activations, weights)
    total = np.float32(0)
    for left, right, x_scale, w_scale in blocks_of(x, w):
        total = total + block_sum(left, right).astype(np.float32) * x_scale * w_scale
    return finished(total, x, w, output)


def finished(total, x, w, output):
    """Return values times what belongs to all of X and W, in the format of Y."""
    has_factor = x.layout.has_tensor_scale or w.layout.has_tensor_scale
    unit = x.layout.unit * w.layout.unit
    if has_factor or unit != 1:
        total = total * np.float32(unit * float(x.tensor_scale * w.tensor_scale))
    return round_array(total, output)


def in_array(tensors, guard_bits, output=Format.BF16, fmt=BlockFormat.MXINT8):
    """Return Y of integers aligned to the largest scales of their row and column."""
    x, w = operands(tensors, fmt, fmt)
    row, column = x.scales.max(1, keepdims=True), w.scales.max(0, keepdims=True)
    total = np.zeros((len(x.elements), w.elements.shape[1]), np.int64)
    for left, right, x_scale, w_scale in blocks_of(x, w):
        shift = np.log2(x_scale / row) + np.log2(w_scale / column) + guard_bits
        exact = (left @ right) * np.exp2(np.maximum(shift, -80.0))
        total += np.floor(exact + 0.5).astype(np.int64)
    unit = x.layout.unit * w.layout.unit * 2.0**-guard_bits
    values = total.astype(np.float32) * (column * unit).astype(np.float32) * row
    return round_array(values, output)


def turned_on_cube(x, block):
    """Return X rotated by products with the matrix of signs, summed in the order of k in FP32."""
    places = np.arange(block)
    parity = np.bitwise_count(places[:, None] & places) % 2
    signs = (1 - 2.0 * parity).astype(np.float32)
    parts = []
    for first in range(0, x.shape[1], block):
        parts.append(block_sum(x[:, first : first + block], signs))
    return np.concatenate(parts, axis=1) * np.float32(1 / np.sqrt(block))
