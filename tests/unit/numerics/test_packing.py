"""Bytes of formats against the views of ml_dtypes and NumPy."""

import ml_dtypes
import numpy as np
import pytest

from accelsim.errors import QuantizationError
from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.blocks import encode_blocks
from accelsim.numerics.formats import Format
from accelsim.numerics.packing import pack, unpack

DTYPES = {
    Format.FP32: np.float32,
    Format.BF16: ml_dtypes.bfloat16,
    Format.FP16: np.float16,
    Format.FP8_E4M3: ml_dtypes.float8_e4m3fn,
    Format.FP8_E5M2: ml_dtypes.float8_e5m2,
    Format.INT32: np.int32,
    Format.INT8: np.int8,
    Format.INT4: ml_dtypes.int4,
    Format.FP6_E3M2: ml_dtypes.float6_e3m2fn,
    Format.FP6_E2M3: ml_dtypes.float6_e2m3fn,
    Format.FP4_E2M1: ml_dtypes.float4_e2m1fn,
    Format.E8M0: ml_dtypes.float8_e8m0fnu,
}


def numbers_of(fmt):
    """Numbers of a format in an array of its type: all, or random ones where they are many."""
    if fmt.bits <= 8:
        codes = np.arange(2**fmt.bits).astype(np.uint8)
        if fmt == Format.INT4:
            return np.arange(-8, 8).astype(ml_dtypes.int4)
    else:
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 2**fmt.bits, 4096).astype(np.uint16 if fmt.bits == 16 else "u4")
    numbers = codes.view(DTYPES[fmt])
    return numbers if fmt.is_integer else numbers[np.isfinite(numbers.astype(np.float32))]


@pytest.mark.parametrize("fmt", [fmt for fmt in Format if fmt.bits >= 8])
def test_whole_bytes_are_those_of_the_type(fmt):
    numbers = numbers_of(fmt)[None]
    values = numbers.astype(np.int32 if fmt.is_integer else np.float32)
    packed = pack(values, fmt)
    np.testing.assert_array_equal(packed, numbers.view(np.uint8))
    found = unpack(packed, fmt, values.shape[1])
    np.testing.assert_array_equal(found.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize("fmt", [fmt for fmt in Format if fmt.bits < 8])
@pytest.mark.parametrize("cols", [8, 5, 1])
def test_parts_of_bytes_are_filled_from_the_lowest_bit(fmt, cols):
    numbers = np.random.default_rng(1).choice(numbers_of(fmt), (16, cols))
    values = numbers.astype(np.int32 if fmt.is_integer else np.float32)
    packed = pack(values, fmt)
    codes = numbers.view(np.uint8) & (2**fmt.bits - 1)
    for row, found in zip(codes.tolist(), packed.tolist(), strict=True):
        whole = sum(code << (fmt.bits * place) for place, code in enumerate(row))
        assert bytes(found) == whole.to_bytes(fmt.row_bytes(cols), "little")
    unpacked = unpack(packed, fmt, cols)
    np.testing.assert_array_equal(unpacked, values)
    if not fmt.is_integer:
        np.testing.assert_array_equal(np.signbit(unpacked), np.signbit(values))


def test_two_nibbles_and_four_sixths():
    assert pack([[0.5, -6.0]], Format.FP4_E2M1).tolist() == [[0xF1]]
    # 1, 2, 4, 28 have the codes 12, 16, 20, 31: 011111 010100 010000 001100 from the highest bit.
    found = pack([[1.0, 2.0, 4.0, 28.0]], Format.FP6_E3M2).tolist()
    assert found == [[0b00_001100, 0b0100_0100, 0b011111_01]]


def test_nan_and_infinity():
    for fmt in (Format.FP8_E4M3, Format.E8M0, Format.BF16, Format.FP16, Format.FP32):
        assert np.isnan(unpack(pack([[np.nan]], fmt), fmt, 1)).all()
        as_type = pack([[np.nan]], fmt).view(DTYPES[fmt])
        assert np.isnan(as_type.astype(np.float32)).all()
    for fmt in (Format.FP8_E5M2, Format.BF16, Format.FP16, Format.FP32):
        assert unpack(pack([[-np.inf]], fmt), fmt, 1) == -np.inf
        assert pack([[-np.inf]], fmt).view(DTYPES[fmt]).astype(np.float32) == -np.inf


@pytest.mark.parametrize("fmt", BlockFormat)
def test_a_matrix_takes_the_bytes_that_the_table_says(fmt):
    layout = fmt.layout
    values = np.random.default_rng(2).standard_normal((48, 130)).astype(np.float32)
    for axis in (0, 1):
        blocks = encode_blocks(values, fmt, axis)
        size = pack(blocks.elements, layout.element).size + pack(blocks.scales, layout.scale).size
        tensor_scale = 4 if layout.has_tensor_scale else 0
        assert size + tensor_scale == layout.stored_bytes(48, 130, axis)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            lambda: pack([[0.5, 0.3]], Format.FP4_E2M1),
            "fp4_e2m1: found 0.3, allowed: numbers of the format; round to it first",
        ),
        (
            lambda: pack([[8]], Format.INT4),
            "int4: found 8, allowed: numbers of the format; round to it first",
        ),
        (
            lambda: pack([[0.0]], Format.E8M0),
            "e8m0: found 0, allowed: numbers of the format; round to it first",
        ),
        (
            lambda: pack([[np.nan]], Format.FP6_E3M2),
            "fp6_e3m2: found nan, allowed: numbers of the format; round to it first",
        ),
        (
            lambda: unpack(np.zeros((1, 3), np.uint8), Format.FP6_E2M3, 5),
            "fp6_e2m3: found rows of 3 bytes, allowed: 4 for 5 elements",
        ),
    ],
)
def test_mistakes(call, expected):
    with pytest.raises(QuantizationError) as raised:
        call()
    assert str(raised.value) == expected
