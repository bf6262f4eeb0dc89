"""Stochastic rounding of FP32 to the floating-point formats of at most 16 bits, compiled.

Random bits are added below the last place of the format, and the sum is truncated. So a number of
the format stays what it is, and any other becomes one of its two neighbors. The mean over all
random bits is the number itself, if there are as many bits as FP32 has below that place. Sources:
the PTX ISA, `cvt.rs`; Croci, Fasi, Higham, Mary and Mikaitis, "Stochastic rounding: implementation,
error analysis and applications", Royal Society Open Science 9, 2022.

With fewer random bits r the probability of the larger neighbor is cut to a multiple of 2^-r, as in
hardware: `cvt.rs` has 8 for FP4, 16 for FP6, FP8 and BF16, 13 for FP16.

What lies beyond the largest number, and NaN, become what they become in `numerics.rounding`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.errors import QuantizationError
from accelsim.numerics.formats import Format
from accelsim.numerics.philox import fill_random
from accelsim.runtime.jit import jit

MOST_RANDOM_BITS = 24
"""As many as FP32 has below the last place of a normal number of any of the formats."""

STOCHASTIC_FORMATS = (
    *(fmt for fmt in Format if fmt.layout.is_narrow_float),
    Format.BF16,
    Format.FP16,
)
_LAYOUTS = [fmt.layout for fmt in Format]
_STEPS = np.array([2.0**each.mantissa_bits for each in _LAYOUTS], np.float32)
"""Numbers of a binade, by the code of a format; the next by the same."""
_SMALLEST_NORMALS = np.array([each.smallest_normal for each in _LAYOUTS], np.float32)
_LARGEST = np.array([each.largest for each in _LAYOUTS], np.float32)
_SATURATES = np.array([each.saturates for each in _LAYOUTS])
_HAVE_NAN = np.array([each.has_nan for each in _LAYOUTS])
_EXPONENT_FIELD = np.uint32(0x7F800000)
_LARGEST_FP32 = np.float32(Format.FP32.layout.largest)
_WORD_BITS = 32


def round_stochastic(
    x: npt.ArrayLike,
    fmt: Format,
    seed: int,
    stream: int = 0,
    random_bits: int = MOST_RANDOM_BITS,
) -> npt.NDArray[np.float32]:
    """Return a float32 copy of `x` (any shape) rounded to `fmt`, up or down at random.

    A seed and a stream, numbers of up to 64 bits, and the place of an element decide alone. Raises
    QuantizationError for a format of integers, of scales or of 32 bits, and for fewer than 1 or
    more than 24 random bits.
    """
    if fmt not in STOCHASTIC_FORMATS:
        allowed = ", ".join(STOCHASTIC_FORMATS)
        raise QuantizationError(f"stochastic rounding: found {fmt}, allowed: {allowed}")
    if not 1 <= random_bits <= MOST_RANDOM_BITS:
        raise QuantizationError(
            f"random bits: found {random_bits}, allowed: 1 to {MOST_RANDOM_BITS}"
        )
    rounded = np.array(x, dtype=np.float32, order="C")
    flat = rounded.reshape(1, -1)
    seeds = np.uint64(seed % 2**64), np.uint64(stream % 2**64)
    round_tile_stochastic(flat, fmt.code, seeds[0], seeds[1], random_bits)
    return rounded


@jit
def round_tile_stochastic(
    tile: Any, fmt_code: int, seed: int, stream: int, random_bits: int
) -> None:
    """Round a float32 tile [rows, cols] in place; element (r, c) has word c of row r of a stream.

    Does nothing where `tile` is None.
    """
    if tile is None:
        return
    rows, cols = tile.shape
    words = np.empty(cols, np.uint32)
    steps, smallest_normal = _STEPS[fmt_code], _SMALLEST_NORMALS[fmt_code]
    largest, saturates, has_nan = _LARGEST[fmt_code], _SATURATES[fmt_code], _HAVE_NAN[fmt_code]
    unused, scale = np.uint32(_WORD_BITS - random_bits), np.float32(2.0**random_bits)
    for row in range(rows):
        fill_random(words, seed, stream, row)
        for col in range(cols):
            value = np.float32(tile[row, col])
            random = np.float32(np.int32(words[col] >> unused))
            half = _half_of_neighbor(value, random, scale, steps, smallest_normal)
            tile[row, col] = _within(value, half, largest, saturates, has_nan)


@jit
def _half_of_neighbor(
    value: np.float32,
    random: np.float32,
    scale: np.float32,
    steps: np.float32,
    smallest_normal: np.float32,
) -> np.float32:
    """Return half of a neighbor of |value|, which may be beyond the largest number of FP32.

    `random` is a whole number below `scale`.
    """
    magnitude = np.float32(min(_LARGEST_FP32, abs(value)))
    binade = np.uint32(magnitude.view(np.uint32) & _EXPONENT_FIELD).view(np.float32)
    step = np.float32(max(binade, smallest_normal) / steps)
    count = np.float32(magnitude / step)
    whole = np.float32(np.floor(count))
    fraction = np.float32(np.floor((count - whole) * scale))
    is_carried = random >= scale - fraction
    return np.float32((whole + np.float32(is_carried)) * np.float32(step * np.float32(0.5)))


@jit
def _within(
    value: np.float32,
    half: np.float32,
    largest: np.float32,
    saturates: np.bool_,
    has_nan: np.bool_,
) -> np.float32:
    beyond = largest if saturates else np.float32(np.inf)
    is_beyond = half > largest * np.float32(0.5) or np.isinf(value)
    magnitude = beyond if is_beyond else np.float32(half * np.float32(2))
    signed = np.copysign(magnitude, value)
    of_nan = value if has_nan else largest
    return of_nan if np.isnan(value) else signed
