"""Blocks against the texts that define them, one by one in NumPy, with casts of ml_dtypes."""

import ml_dtypes
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import QuantizationError
from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.blocks import Blocks, decode_blocks, encode_blocks
from accelsim.numerics.rounding import round_array

EXAMPLES = 60 if not numba.config.DISABLE_JIT else 4
MX = {
    BlockFormat.MXFP8_E4M3: (ml_dtypes.float8_e4m3fn, 8, 448.0),
    BlockFormat.MXFP8_E5M2: (ml_dtypes.float8_e5m2, 15, 57344.0),
    BlockFormat.MXFP6_E3M2: (ml_dtypes.float6_e3m2fn, 4, 28.0),
    BlockFormat.MXFP6_E2M3: (ml_dtypes.float6_e2m3fn, 2, 7.5),
    BlockFormat.MXFP4: (ml_dtypes.float4_e2m1fn, 2, 6.0),
    BlockFormat.MXINT8: (None, 0, 127 / 64),
}
"""Element, exponent of its largest power of two, largest number: MX v1.0, sections 5.3 and 6.3."""
SIZES = {fmt: 32 for fmt in MX} | {BlockFormat.NVFP4: 16, BlockFormat.FP8_BLOCK128: 128}
BORDERS = [0.0, -0.0, 1e-45, -1e-45, 2.0**-126, 2.0**-127, 2.0**-118, 3.4028235e38, 1.0, -4.0]
BORDERS += [largest * 2.0**power for _, _, largest in MX.values() for power in (-3, 0, 5)]
NEIGHBORS = [np.nextafter(np.float32(x), np.float32(to)) for x in BORDERS for to in (0, 3e38)]
SPECIAL = st.sampled_from([*map(float, BORDERS), *map(float, NEIGHBORS), np.inf, -np.inf, np.nan])


def blocks_of(shape, axis, size, across):
    """Yield the place of every block, by loops over its corners."""
    height, width = (size, across) if axis == 0 else (across, size)
    for i, top in enumerate(range(0, shape[0], height)):
        for j, left in enumerate(range(0, shape[1], width)):
            yield (i, j), (slice(top, top + height), slice(left, left + width))


def power_of_two(peak, largest_exponent, largest, rounds_up):
    """Section 6.3: the largest power of two <= peak, by the largest power of two of elements."""
    if not np.isfinite(peak):
        return np.nan
    exponent = int(np.frexp(peak)[1]) - 1 - largest_exponent if peak else -127
    exponent = min(max(exponent, -127), 127)
    if rounds_up and peak > largest * 2.0**exponent:
        exponent = min(exponent + 1, 127)
    return float(np.uint8(exponent + 127).view(ml_dtypes.float8_e8m0fnu))


def cast(quotients, dtype, largest):
    """Round quotients to numbers of an element; what lies beyond is clamped, with its sign."""
    clamped = np.clip(quotients, -largest, largest)
    if dtype is None:
        return np.rint(clamped * 64)
    return clamped.astype(dtype).astype(np.float64)


def oracle(values, fmt, axis, across=1, rounds_up=False):
    """Elements, scales and tensor scale, in float64 where the texts do not say FP32."""
    places = list(blocks_of(values.shape, axis, SIZES[fmt], across))
    elements = np.empty(values.shape)
    scales = np.empty(np.array([index for index, _ in places]).max(0) + 1)
    peaks = {index: np.abs(values[place]).max() for index, place in places}
    finite = [peak for peak in peaks.values() if np.isfinite(peak)]
    tensor_scale = np.float32(1)
    smallest = np.finfo(np.float32).tiny
    if fmt == BlockFormat.NVFP4:
        tensor_scale = max(np.float32(max(finite, default=0)) / np.float32(448 * 6), smallest)
    for index, place in places:
        peak, wide = peaks[index], values[place].astype(np.float64)
        if fmt in MX:
            dtype, largest_exponent, largest = MX[fmt]
            scale = power_of_two(float(peak), largest_exponent, largest, rounds_up)
            quotients = wide / scale
        else:
            dtype, largest = ml_dtypes.float8_e4m3fn, np.float32(448)
            scale = max(peak / largest, smallest) if np.isfinite(peak) else np.float32(np.nan)
            if fmt == BlockFormat.NVFP4:
                dtype, largest = ml_dtypes.float4_e2m1fn, np.float32(6)
                scale = np.minimum(peak / largest / tensor_scale, np.float32(448))
                scale = np.float32(ml_dtypes.float8_e4m3fn(scale if np.isfinite(peak) else np.nan))
            step = scale * tensor_scale
            quotients = values[place] / step if step else values[place] * np.float32(0)
        scales[index] = scale
        elements[place] = cast(quotients, dtype, largest)
    return elements, scales, tensor_scale


def assert_as_the_oracle_says(found: Blocks, values, fmt, axis, across=1, rounds_up=False):
    with np.errstate(all="ignore"):
        elements, scales, tensor_scale = oracle(values, fmt, axis, across, rounds_up)
    np.testing.assert_array_equal(found.scales, scales.astype(np.float32))
    assert found.tensor_scale == tensor_scale
    height, width = found.layout.block_shape(found.axis)
    spread = np.repeat(np.repeat(scales, height, 0)[: len(values)], width, 1)[:, : values.shape[1]]
    is_number = np.isfinite(spread)
    np.testing.assert_array_equal(found.elements[is_number], elements[is_number])
    if not fmt.layout.element.is_integer:
        signs = np.signbit(found.elements), np.signbit(elements)
        np.testing.assert_array_equal(signs[0][is_number], signs[1][is_number])
        bits = round_array(found.elements, fmt.layout.element).view(np.uint32)
        np.testing.assert_array_equal(bits, found.elements.view(np.uint32))
    decoded = decode_blocks(found)
    unit = 2.0**-6 if fmt == BlockFormat.MXINT8 else 1.0
    expected = elements * spread * float(tensor_scale) * unit
    np.testing.assert_array_equal(decoded[is_number], expected[is_number])
    assert np.isnan(decoded[~is_number]).all()


def matrix(seed, rows, cols, spread, special=()):
    """Numbers over 2^(+-spread), with a few of any kind among them."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, cols)) * np.exp2(rng.uniform(-spread, spread, (rows, cols)))
    for value in special:
        values[rng.integers(rows), rng.integers(cols)] = value
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


@pytest.mark.parametrize("fmt", BlockFormat)
@settings(max_examples=EXAMPLES)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 150)),
    spread=st.sampled_from([0, 1, 8, 40, 120]),
    special=st.lists(SPECIAL, max_size=6),
    axis=st.integers(0, 1),
    across=st.sampled_from([1, 3]),
)
def test_elements_and_scales(fmt, seed, sizes, spread, special, axis, across):
    rows, cols = sizes if axis == 1 else sizes[::-1]
    values = matrix(seed, rows, cols, spread, special)
    found = encode_blocks(values, fmt, axis, across)
    assert_as_the_oracle_says(found, values, fmt, axis, across)


@pytest.mark.parametrize("fmt", MX)
@settings(max_examples=EXAMPLES // 2)
@given(st.integers(0, 2**32), st.lists(SPECIAL, max_size=6), st.sampled_from([1, 40, 120]))
def test_scales_that_are_rounded_up_clamp_nothing(fmt, seed, special, spread):
    values = matrix(seed, 3, 70, spread, special)
    found = encode_blocks(values, fmt, -1, rounds_up=True)
    assert_as_the_oracle_says(found, values, fmt, 1, rounds_up=True)
    largest = fmt.layout.largest
    with np.errstate(invalid="ignore"):
        steps = np.repeat(found.scales, 32, axis=1)[:, :70].astype(np.float64)
        is_clamped = (np.abs(values) > largest * steps) & np.isfinite(steps)
    assert not is_clamped.any()


@pytest.mark.parametrize("fmt", BlockFormat)
def test_rows_and_columns_are_encoded_alike(fmt):
    values = matrix(3, 70, 40, 4)
    along_rows, along_columns = (
        encode_blocks(values, fmt, 0, across=2),
        encode_blocks(values.T, fmt, 1, across=2),
    )
    np.testing.assert_array_equal(along_rows.elements, along_columns.elements.T)
    np.testing.assert_array_equal(along_rows.scales, along_columns.scales.T)
    for each in (along_rows, along_columns):
        assert each.elements.flags.c_contiguous
        assert each.elements.dtype == (np.int32 if fmt.layout.element.is_integer else np.float32)
        assert each.scales.dtype == np.float32


def test_a_short_block_is_one_that_is_filled_up_with_zeros():
    values = matrix(5, 50, 20, 3)
    padded = np.zeros((64, 20), np.float32)
    padded[:50] = values
    short, whole = (encode_blocks(each, BlockFormat.MXFP4, 0) for each in (values, padded))
    np.testing.assert_array_equal(short.scales, whole.scales)
    np.testing.assert_array_equal(short.elements, whole.elements[:50])


def test_blocks_of_128_x_128():
    values = matrix(6, 140, 130, 5)
    found = encode_blocks(values, BlockFormat.FP8_BLOCK128, 0, across=128)
    assert found.scales.shape == (2, 2)
    assert_as_the_oracle_says(found, values, BlockFormat.FP8_BLOCK128, 0, across=128)


@pytest.mark.parametrize(
    ("peak", "floor", "ceil"),
    # 448 is the largest of E4M3, 2^8 its largest power of two.
    [(256, 1, 1), (448, 1, 1), (np.nextafter(np.float32(448), np.float32(500)), 1, 2), (511, 1, 2)],
)
def test_scales_at_the_border_of_a_power(peak, floor, ceil):
    values = np.full((1, 32), peak, np.float32)
    assert encode_blocks(values, BlockFormat.MXFP8_E4M3, 1).scales == floor
    assert encode_blocks(values, BlockFormat.MXFP8_E4M3, 1, rounds_up=True).scales == ceil


@pytest.mark.parametrize("fmt", BlockFormat)
def test_zeros_and_what_is_not_finite(fmt):
    values = np.zeros((3, 256), np.float32)
    values[1, 3], values[2, 5], values[2, 200] = np.inf, np.nan, 1
    found = encode_blocks(values, fmt, 1)
    decoded = decode_blocks(found)
    assert (decoded[0] == 0).all()
    size = SIZES[fmt]
    assert np.isnan(decoded[1:, :size]).all()
    np.testing.assert_allclose(decoded[2, size:][200 - size], 1, rtol=1e-6)
    assert np.count_nonzero(np.nan_to_num(decoded)) == 1


def test_the_lowest_code_of_mxint8_is_not_used():
    values = np.full((1, 32), -1.999, np.float32)
    assert encode_blocks(values, BlockFormat.MXINT8, 1).elements.min() == -127


def test_an_empty_matrix_has_no_blocks():
    found = encode_blocks(np.zeros((0, 64), np.float32), BlockFormat.NVFP4, 1)
    assert (found.elements.shape, found.scales.shape) == ((0, 64), (0, 4))


@pytest.mark.parametrize("fmt", BlockFormat)
def test_bytes_are_those_of_elements_and_scales(fmt):
    layout = fmt.layout
    size = SIZES[fmt]
    tensor_scale = 4 if fmt == BlockFormat.NVFP4 else 0
    scale_bytes = 4 if fmt == BlockFormat.FP8_BLOCK128 else 1
    elements = 4 * size * 8 * layout.element.bits // 8
    for rows, cols, axis in ((8, 4 * size, 1), (4 * size, 8, 0)):
        expected = elements + 8 * 4 * scale_bytes + tensor_scale
        assert layout.stored_bytes(rows, cols, axis) == expected
        assert layout.stored_bytes(rows, cols, axis) - tensor_scale == rows * cols * layout.bits / 8
    # A column more begins a scale and fills up a byte.
    more = layout.stored_bytes(8, size + 1, 1) - layout.stored_bytes(8, size, 1)
    assert more == 8 * (scale_bytes + 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {"values": [1.0, 2.0]},
            "mxfp4: found an array of shape (2,), allowed: a matrix [rows, columns]",
        ),
        ({"axis": 2}, "mxfp4: axis: found 2, allowed: 0 or 1, the summed one"),
        ({"across": 0}, "mxfp4: across: found 0, allowed: 1 or more"),
        (
            {"fmt": BlockFormat.NVFP4, "rounds_up": True},
            "nvfp4: rounds_up: found scales in fp8_e4m3, allowed: e8m0, "
            "which holds powers of two only",
        ),
    ],
)
def test_mistakes(arguments, expected):
    usual = {"values": np.ones((2, 32)), "fmt": BlockFormat.MXFP4, "axis": 1}
    with pytest.raises(QuantizationError) as raised:
        encode_blocks(**usual | arguments)
    assert str(raised.value) == expected
