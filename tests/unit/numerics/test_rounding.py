"""Rounding against NumPy's float16 and ml_dtypes, bit for bit.

The module runs a second time without compilation, on fewer values (see the last test).
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

DTYPES = {
    Format.FP16: np.float16,
    Format.BF16: ml_dtypes.bfloat16,
    Format.FP8_E4M3: ml_dtypes.float8_e4m3fn,
    Format.FP8_E5M2: ml_dtypes.float8_e5m2,
}
LARGEST = {Format.FP8_E4M3: 448, Format.FP8_E5M2: 57344}
"""What saturates, and at what number: `cvt` to these formats in the PTX ISA has `.satfinite`."""
RANGES = {Format.INT32: (-(2**31), 2**31 - 128), Format.INT8: (-128, 127), Format.INT4: (-8, 7)}
SCALARS: dict[Format, Callable[[np.float32], np.float32]] = {
    fmt: getattr(rounding, f"to_{fmt.value}") for fmt in [*DTYPES, *RANGES]
}


def oracle(values: np.ndarray, fmt: Format) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        if fmt in LARGEST:
            values = np.clip(values, -LARGEST[fmt], LARGEST[fmt])
        if fmt in DTYPES:
            return values.astype(DTYPES[fmt]).astype(np.float32)
        low, high = RANGES[fmt]
        rounded = np.clip(np.rint(values.astype(np.float64)), low, high)
        return np.nan_to_num(rounded, nan=0.0).astype(np.float32) + np.float32(0)


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    """NaN equals NaN, whatever its payload and sign; everything else to the last bit."""
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found[~nan].view(np.uint32), expected[~nan].view(np.uint32))


def values_of(fmt: Format) -> np.ndarray:
    """Every value of a floating format, as FP32."""
    bits = np.uint16 if fmt.bits == 16 else np.uint8
    patterns = np.arange(2**fmt.bits, dtype=np.uint32)[::EVERY].astype(bits)
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
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(Path(__file__))]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
