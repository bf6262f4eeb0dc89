"""What is computed before the run: codes and scales of weights and activations."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.integer.known import Known
from accelsim.quantization.codes import Codes, Quantized, Values, check_finite
from accelsim.quantization.schemes import per_column, per_row, per_tensor
from accelsim.runtime.jit import jit
from accelsim.workload.tensors import GemmTensors

Doubles = NDArray[np.float64]
T = TypeVar("T", bound=np.generic)


def quantized_weights(w: Values, bits: int, shared_by: str) -> Quantized:
    """Return the codes of w [k, n] with a scale for each column, or for all of it."""
    check_finite(w, "weights")
    return per_column(w, bits) if shared_by == "column" else per_tensor(w, bits)


def check_activations(tensors: GemmTensors) -> None:
    """Raise QuantizationError for activations that are not finite."""
    check_finite(tensors.a, "activations")


def dynamic_codes(x: Values, bits: int, is_by_row: bool) -> Known:
    """Return X [m, k] as its producer stores it: codes, and a scale for each row [m, 1]."""
    codes, scale = per_row(x, bits) if is_by_row else per_tensor(x, bits)
    rows = np.repeat(scale, len(x) // len(scale), axis=0)
    return {"x_codes": codes, "x_scale": rows.astype(np.float32)}


def column_scales(w: Quantized, steps: Doubles | float) -> Values:
    """Return what turns sums into values [chunks, n]; steps: those of X [chunks, 1], or one."""
    scale = (steps * w.scale).astype(np.float32)
    return np.ascontiguousarray(np.broadcast_to(scale, (len(scale), w.codes.shape[1])))


def largest_sum(growth: Doubles, weights: Codes, activation_bits: int) -> float:
    """Return the largest magnitude that any sum can have on its way.

    growth [chunks, k]: by how much the product of a channel has grown at the end. The weights are
    known, so only the codes of X are taken at their worst: max_j sum_c f_c |w_cj| 2^(bits - 1).
    """
    return float(row_products(growth, np.abs(weights)).max()) * 2 ** (activation_bits - 1)


@jit
def row_products(rows: Doubles, codes: Codes) -> Doubles:
    """Return rows [r, k] times codes [k, n] in float64, summed in the order of k."""
    products = np.zeros((rows.shape[0], codes.shape[1]))
    for row in range(rows.shape[0]):
        for channel in range(codes.shape[0]):
            left = rows[row, channel]
            for col in range(codes.shape[1]):
                products[row, col] += left * codes[channel, col]
    return products


def column_tiles(codes: NDArray[T], tile_n: int) -> NDArray[T]:
    """Return codes [k, n] as they lie in HBM: column tile after column tile, the last one padded.

    [tiles x k, tile_n], so that a panel of a tile is one run of bytes.
    """
    k, n = codes.shape
    tiles = -(-n // tile_n)
    padded = np.pad(codes, ((0, 0), (0, tiles * tile_n - n)))
    by_tile = padded.reshape(k, tiles, tile_n).transpose(1, 0, 2)
    return np.ascontiguousarray(by_tile.reshape(tiles * k, tile_n))
