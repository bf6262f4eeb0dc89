"""Rounding against NumPy's float16 and ml_dtypes, bit for bit.

This and other modules run a second time without compilation, on fewer values (see the last test).
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numba
import numpy as np
import pytest

from accelsim.numerics import rounding
from accelsim.numerics.formats import Format

COMPILED = not numba.config.DISABLE_JIT
RANDOM_VALUES = 2_000_000 if COMPILED else 2_000
EVERY = 1 if COMPILED else 97

UNCOMPILED = ("rounding", "blocks", "stochastic")
"""Modules of this folder whose tests run without compilation too."""

DTYPES = {
    Format.FP16: np.float16,
    Format.BF16: ml_dtypes.bfloat16,
    Format.FP8_E4M3: ml_dtypes.float8_e4m3fn,
    Format.FP8_E5M2: ml_dtypes.float8_e5m2,
    Format.FP6_E3M2: ml_dtypes.float6_e3m2fn,
    Format.FP6_E2M3: ml_dtypes.float6_e2m3fn,
    Format.FP4_E2M1: ml_dtypes.float4_e2m1fn,
}
LARGEST = {
    Format.FP8_E4M3: 448,
    Format.FP8_E5M2: 57344,
    Format.FP6_E3M2: 28,
    Format.FP6_E2M3: 7.5,
    Format.FP4_E2M1: 6,
}
"""What saturates, and at what number: `cvt` to these formats in the PTX ISA has `.satfinite`."""
WITHOUT_NAN = {Format.FP6_E3M2, Format.FP6_E2M3, Format.FP4_E2M1}
"""NaN becomes the largest number, as in the PTX ISA; ml_dtypes makes it a zero."""
RANGES = {Format.INT32: (-(2**31), 2**31 - 128), Format.INT8: (-128, 127), Format.INT4: (-8, 7)}
SCALARS: dict[Format, Callable[[np.float32], np.float32]] = {
    fmt: getattr(rounding, f"to_{fmt.value}") for fmt in [*DTYPES, *RANGES, Format.E8M0]
}


def oracle(values: np.ndarray, fmt: Format) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        if fmt in LARGEST:
            values = np.clip(values, -LARGEST[fmt], LARGEST[fmt])
        if fmt == Format.E8M0:
            return nearest_power(values)
        if fmt in DTYPES:
            rounded = values.astype(DTYPES[fmt]).astype(np.float32)
            is_largest = np.isnan(values) & (fmt in WITHOUT_NAN)
            return np.where(is_largest, np.float32(LARGEST.get(fmt, 0)), rounded)
        low, high = RANGES[fmt]
        rounded = np.clip(np.rint(values.astype(np.float64)), low, high)
        return np.nan_to_num(rounded, nan=0.0).astype(np.float32) + np.float32(0)


def nearest_power(values: np.ndarray) -> np.ndarray:
    """Nearest power of two from 2^-127 to 2^127, ties up; NaN below zero."""
    wide = np.clip(np.where(values < 0, np.nan, values).astype(np.float64), 2.0**-127, 2.0**127)
    mantissa, exponent = np.frexp(wide)
    powers = np.ldexp(1.0, exponent - 1 + (mantissa >= 0.75))
    return np.where(np.isnan(wide), wide, powers).astype(np.float32)


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    """NaN equals NaN, whatever its payload and sign; everything else to the last bit."""
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found[~nan].view(np.uint32), expected[~nan].view(np.uint32))


def values_of(fmt: Format) -> np.ndarray:
    """Every value of a floating format, as FP32."""
    bits = np.uint16 if fmt.bits == 16 else np.uint8
    step = EVERY if fmt.bits == 16 else 1
    patterns = np.arange(2**fmt.bits, dtype=np.uint32)[::step].astype(bits)
    return patterns.view(DTYPES[fmt]).astype(np.float32)


def near_ties(values: np.ndarray) -> np.ndarray:
    """Midpoints between neighboring values, and the FP32 numbers on both sides of each."""
    finite = np.unique(values[np.isfinite(values)]).astype(np.float64)
    step = finite[-1] - finite[-2]
    beyond = np.array([finite[0] - step / 2, finite[-1] + step / 2])
    middles = np.concatenate([(finite[:-1] + finite[1:]) / 2, beyond])
    with np.errstate(over="ignore"):
        ties = middles.astype(np.float32)
    return np.concatenate([ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)])


def random_patterns() -> np.ndarray:
    """FP32 numbers of every exponent: subnormals, infinities and NaN among them."""
    rng = np.random.default_rng(seed=1)
    return rng.integers(0, 2**32, RANDOM_VALUES, dtype=np.uint64).astype(np.uint32).view(np.float32)


SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38, -3.4e38], np.float32)


@pytest.mark.parametrize("fmt", DTYPES)
def test_every_value_of_a_format_is_kept(fmt: Format) -> None:
    values = values_of(fmt)
    # E5M2 has patterns of infinity, which conversions to it do not give.
    expected = oracle(values, fmt) if fmt in LARGEST else values
    assert_same_bits(rounding.round_array(values, fmt), expected)
    np.testing.assert_array_equal(expected[np.isfinite(values)], values[np.isfinite(values)])


@pytest.mark.parametrize("fmt", DTYPES)
def test_both_sides_of_every_midpoint(fmt: Format) -> None:
    inputs = near_ties(values_of(fmt))
    assert_same_bits(rounding.round_array(inputs, fmt), oracle(inputs, fmt))


@pytest.mark.parametrize("fmt", SCALARS)
@pytest.mark.parametrize("inputs", [random_patterns(), SPECIAL], ids=["random", "special"])
def test_inputs_of_every_exponent(fmt: Format, inputs: np.ndarray) -> None:
    assert_same_bits(rounding.round_array(inputs, fmt), oracle(inputs, fmt))


def test_powers_of_two_are_those_of_another_implementation() -> None:
    powers = np.arange(2**8 - 1, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu)
    values = powers.astype(np.float32)
    assert_same_bits(rounding.round_array(values, Format.E8M0), values)
    inputs = np.concatenate([near_ties(values), np.abs(random_patterns())])
    # It makes NaN of zero and of what is too large, and rounds up right above the smallest power.
    is_common = (inputs >= 2.0**-126) & (inputs < 1.5 * 2.0**127)
    expected = inputs[is_common].astype(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    assert_same_bits(rounding.round_array(inputs[is_common], Format.E8M0), expected)


def test_scales_saturate_and_have_no_sign() -> None:
    inputs = np.array([0, -0.0, 1e-45, 1.49 * 2.0**-127, 1.5 * 2.0**-127, 3e38, np.inf, -1, np.nan])
    found = rounding.round_array(inputs, Format.E8M0)
    expected = [2.0**-127] * 4 + [2.0**-126, 2.0**127, 2.0**127, np.nan, np.nan]
    assert_same_bits(found, np.float32(expected))


def test_nan_becomes_the_largest_number_where_there_is_none() -> None:
    nan = np.array([np.nan, -np.nan], np.float32)
    for fmt in WITHOUT_NAN:
        assert rounding.round_array(nan, fmt).tolist() == [fmt.layout.largest] * 2


@pytest.mark.parametrize("fmt", DTYPES)
def test_the_table_says_what_the_formats_are(fmt: Format) -> None:
    info = ml_dtypes.finfo(DTYPES[fmt])
    layout = fmt.layout
    assert (layout.bits, layout.mantissa_bits) == (info.bits, info.nmant)
    assert layout.largest == float(info.max)
    assert layout.smallest_normal == float(info.smallest_normal)
    assert layout.has_nan == (fmt not in WITHOUT_NAN)
    assert layout.saturates == (fmt in LARGEST)


@pytest.mark.parametrize("fmt", RANGES)
def test_integers_near_ties_and_ends(fmt: Format) -> None:
    low, high = (float(end) for end in RANGES[fmt])
    halves = np.arange(-300, 300, 0.5, dtype=np.float32)
    inputs = np.concatenate([halves, np.array([low, high, 2 * low, 2 * high], np.float32)])
    inputs = np.concatenate([inputs, np.nextafter(inputs, np.inf), np.nextafter(inputs, -np.inf)])
    assert_same_bits(rounding.round_array(inputs, fmt), oracle(inputs, fmt))


@pytest.mark.parametrize("fmt", SCALARS)
def test_the_scalar_form_agrees_with_the_array_form(fmt: Format) -> None:
    inputs = np.concatenate([SPECIAL, random_patterns()[:200], np.float32([464, 61440, 65520])])
    one_by_one = np.array([SCALARS[fmt](x) for x in inputs], np.float32)
    assert_same_bits(one_by_one, rounding.round_array(inputs, fmt))


@pytest.mark.parametrize(
    ("fmt", "largest", "first_beyond", "beyond"),
    [
        (Format.FP16, 65504, 65520, np.inf),
        (Format.FP8_E5M2, 57344, 61440, 57344),
        (Format.FP8_E5M2, 57344, np.inf, 57344),
        (Format.FP8_E4M3, 448, 465, 448),
        (Format.FP8_E4M3, 448, np.inf, 448),
        (Format.FP6_E3M2, 28, np.inf, 28),
        (Format.FP6_E2M3, 7.5, 7.75, 7.5),
        (Format.FP4_E2M1, 6, 1e9, 6),
        (Format.INT8, 127, 1e9, 127),
        (Format.INT4, 7, 1e9, 7),
    ],
)
def test_overflow_starts_where_the_format_says(
    fmt: Format, largest: float, first_beyond: float, beyond: float
) -> None:
    last_within = np.nextafter(np.float32(first_beyond), np.float32(0))
    if not fmt.is_integer:
        assert SCALARS[fmt](last_within) == largest
    np.testing.assert_equal(SCALARS[fmt](np.float32(first_beyond)), np.float32(beyond))


@pytest.mark.parametrize("fmt", Format)
def test_round_tile_touches_only_the_given_rows_and_columns(fmt: Format) -> None:
    rng = np.random.default_rng(seed=2)
    whole = (10 * rng.standard_normal((9, 24))).astype(np.float32)
    for view in (whole.copy(), whole.copy()[1:8, 2:20], whole.copy()[::2, ::3], whole.copy().T):
        before = view.copy()
        rounding.round_tile(view, 3, 5, fmt.code)
        expected = before.copy()
        expected[:3, :5] = rounding.round_array(before[:3, :5], fmt)
        assert_same_bits(view, expected)


def test_fp32_keeps_every_bit() -> None:
    inputs = random_patterns()[:1000]
    assert_same_bits(rounding.round_array(inputs, Format.FP32), inputs)


def test_round_tile_ignores_an_absent_tile() -> None:
    assert rounding.round_tile(None, 3, 5, Format.FP16.code) is None


def test_round_array_leaves_its_input_alone_and_keeps_the_shape() -> None:
    values = np.full((2, 3, 4), 0.1)
    rounded = rounding.round_array(values, Format.FP16)
    assert rounded.shape == (2, 3, 4)
    assert (values == 0.1).all()
    assert (rounded == np.float32(np.float16(0.1))).all()


@pytest.mark.skipif(not COMPILED, reason="this is the uncompiled run")
def test_the_same_bits_without_compilation() -> None:
    modules = [Path(__file__).with_name(f"test_{name}.py") for name in UNCOMPILED]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, modules)]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
