"""Stochastic rounding: neighbors alone, the value as the mean, and the same bits from a seed."""

import ml_dtypes
import numba
import numpy as np
import pytest

from accelsim.errors import QuantizationError
from accelsim.numerics.formats import Format
from accelsim.numerics.philox import fill_random, philox
from accelsim.numerics.rounding import round_array
from accelsim.numerics.stochastic import round_stochastic, round_tile_stochastic

DRAWS = 100_000 if not numba.config.DISABLE_JIT else 200
DTYPES = {
    Format.FP8_E4M3: ml_dtypes.float8_e4m3fn,
    Format.FP8_E5M2: ml_dtypes.float8_e5m2,
    Format.FP6_E3M2: ml_dtypes.float6_e3m2fn,
    Format.FP6_E2M3: ml_dtypes.float6_e2m3fn,
    Format.FP4_E2M1: ml_dtypes.float4_e2m1fn,
    Format.BF16: ml_dtypes.bfloat16,
    Format.FP16: np.float16,
}


def values_of(fmt):
    """Every finite number of a format, ascending."""
    bits = np.uint16 if fmt.bits == 16 else np.uint8
    values = np.arange(2**fmt.bits, dtype=np.uint32).astype(bits).view(DTYPES[fmt])
    values = values.astype(np.float32)
    return np.unique(values[np.isfinite(values)])


def neighbors(x, fmt):
    """The largest number of a format that is not above x, and the smallest not below."""
    values = values_of(fmt)
    below = values[np.searchsorted(values, x, "right") - 1]
    return below, values[np.searchsorted(values, x, "left")]


def within(fmt, count):
    rng = np.random.default_rng(4)
    exponents = rng.uniform(-8, 2, count) - 6 * (fmt.bits > 8)
    values = rng.choice([-1, 1], count) * np.exp2(exponents)
    return values.astype(np.float32)


def test_words_are_those_of_the_authors():
    """The known answers of Random123 1.09 (`kat_vectors`): zeros, ones, digits of pi."""
    answers = {
        (0,) * 6: (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        (2**32 - 1,) * 6: (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0): (
            *(0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    }
    for words, answer in answers.items():
        wide = tuple(map(np.uint64, words))
        assert philox(wide[:4], wide[4:]) == answer


def test_words_depend_on_seed_stream_row_and_place():
    seed, stream = (7 << 32) | 5, (3 << 32) | 2
    for size in (1, 4, 11):
        words = np.empty(size, np.uint32)
        fill_random(words, np.uint64(seed), np.uint64(stream), 9)
        for i in range(size):
            counter = tuple(map(np.uint64, (i // 4, 9, 2, 3)))
            assert words[i] == philox(counter, (np.uint64(5), np.uint64(7)))[i % 4]


@pytest.mark.parametrize("fmt", DTYPES)
def test_numbers_of_the_format_are_kept(fmt):
    values = values_of(fmt)[:: 97 if numba.config.DISABLE_JIT else 1]
    for seed in range(3):
        np.testing.assert_array_equal(round_stochastic(values, fmt, seed), values)


@pytest.mark.parametrize("fmt", DTYPES)
def test_any_other_becomes_one_of_its_neighbors(fmt):
    values = within(fmt, 2_000 if not numba.config.DISABLE_JIT else 200)
    below, above = neighbors(values, fmt)
    found = round_stochastic(values, fmt, seed=1)
    assert ((found == below) | (found == above)).all()
    is_between = below < above
    # Each of them comes up, and zeros keep the sign of the value.
    assert (found == below)[is_between].any()
    assert (found == above)[is_between].any()
    np.testing.assert_array_equal(np.signbit(found), np.signbit(values))


@pytest.mark.parametrize("fmt", DTYPES)
@pytest.mark.parametrize("random_bits", [24, 8, 3])
def test_the_mean_is_the_value(fmt, random_bits):
    """Within 5 standard errors of `DRAWS` draws; fewer bits cut the probability to 2^-bits."""
    for value in within(fmt, 4):
        below, above = (float(each) for each in neighbors(abs(value), fmt))
        share = (abs(float(value)) - below) / (above - below)
        share = np.floor(share * 2**random_bits) / 2**random_bits
        error = (above - below) * np.sqrt(share * (1 - share) / DRAWS)
        draws = np.full((1, DRAWS), value)
        found = round_stochastic(draws, fmt, seed=2, random_bits=random_bits)
        mean = below + share * (above - below)
        assert abs(np.abs(found.astype(np.float64)).mean() - mean) <= 5 * error


@pytest.mark.parametrize("fmt", DTYPES)
def test_what_is_beyond_becomes_what_it_does_elsewhere(fmt):
    largest = fmt.layout.largest
    beyond = np.array([np.inf, -np.inf, np.nan, 4 * largest if fmt.bits < 16 else np.inf])
    beyond = beyond.astype(np.float32)
    np.testing.assert_array_equal(round_stochastic(beyond, fmt, 1), round_array(beyond, fmt))


def test_numbers_above_the_largest_of_fp16_become_it_or_infinity():
    found = round_stochastic(np.full(DRAWS, 65512, np.float32), Format.FP16, 1)
    assert set(found) == {np.float32(65504), np.float32(np.inf)}
    share = np.isinf(found).mean()  # 65512 is a quarter of the way to 65536
    assert abs(share - 0.25) <= 5 * np.sqrt(0.25 * 0.75 / DRAWS)
    assert np.isinf(round_stochastic([65536.0, 1e38], Format.FP16, 1)).all()
    top = np.full(DRAWS, Format.FP32.layout.largest, np.float32)
    assert set(round_stochastic(top, Format.BF16, 1)) <= {
        np.float32(np.inf),
        np.float32(Format.BF16.layout.largest),
    }


def test_a_seed_and_a_stream_decide():
    values = np.random.default_rng(0).standard_normal((20, 50)).astype(np.float32)
    fmt = Format.FP4_E2M1
    first = round_stochastic(values, fmt, seed=5)
    np.testing.assert_array_equal(round_stochastic(values, fmt, seed=5), first)
    for other in (
        round_stochastic(values, fmt, seed=6),
        round_stochastic(values, fmt, seed=5, stream=1),
    ):
        assert 0.1 < (other != first).mean() < 0.5


def test_rows_of_a_tile_do_not_depend_on_each_other():
    tile = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    part = tile[:3, :20].copy()
    for each in (tile, part):
        code = Format.FP8_E4M3.code
        round_tile_stochastic(each, code, np.uint64(1), np.uint64(2), 24)
    np.testing.assert_array_equal(tile[:3, :20], part)
    assert round_tile_stochastic(None, Format.BF16.code, np.uint64(1), np.uint64(2), 24) is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {"fmt": Format.INT8},
            "stochastic rounding: found int8, allowed: fp8_e4m3, fp8_e5m2, fp6_e3m2, fp6_e2m3, "
            "fp4_e2m1, bf16, fp16",
        ),
        ({"random_bits": 25}, "random bits: found 25, allowed: 1 to 24"),
    ],
)
def test_mistakes(arguments, expected):
    with pytest.raises(QuantizationError) as raised:
        round_stochastic(**{"x": [1.0], "fmt": Format.BF16, "seed": 0} | arguments)
    assert str(raised.value) == expected
