"""Products of operands with shared scales, against plain NumPy and Python's own integers."""

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accelsim.numerics.block_products import (
    Runs,
    aligned_multiply_accumulate,
    scaled_multiply_accumulate,
)
from accelsim.numerics.formats import Format
from accelsim.numerics.integer import Accumulator
from accelsim.numerics.rounding import round_array
from accelsim.runtime.jit import jit

FORMATS = (Format.FP8_E4M3, Format.FP8_E5M2, Format.FP6_E3M2, Format.FP4_E2M1)


@jit
def scaled(acc, a, b, scales_a, scales_b, runs, accumulate):
    """Sums of scaled blocks."""
    scaled_multiply_accumulate(acc, a, b, scales_a, scales_b, runs, accumulate)


@jit
def aligned(acc, a, b, scales_a, scales_b, runs, guard_bits, accumulator, accumulate):
    """Sums of aligned blocks, and how many did not fit."""
    given = (acc, a, b, scales_a, scales_b, runs)
    return aligned_multiply_accumulate(*given, guard_bits, accumulator, accumulate)


runs_of = st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([4, 8]), st.sampled_from([1, 3]))
sizes = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 20))


def shapes(size, runs):
    m, n, k = size
    return (m, -(-k // runs.of_a)), (-(-k // runs.of_b), -(-n // runs.across))


def statement(a, b, scales_a, scales_b, runs, before):
    """Return the scaled product in NumPy: block sums in FP32 in the order of k, scaled once."""
    acc, n = before.copy(), b.shape[1]
    block = min(runs.of_a, runs.of_b)
    for start in range(0, a.shape[1], block):
        sums = np.zeros(acc.shape, np.float32)
        for step in range(start, min(start + block, a.shape[1])):
            sums = sums + a[:, step, None] * b[step]
        left = scales_a[:, start // runs.of_a].astype(np.float64)
        right = scales_b[start // runs.of_b].astype(np.float64)
        both = left[:, None] * np.repeat(right, runs.across)[:n]
        acc = acc + (sums * both).astype(np.float32)
    return acc


@given(
    sizes,
    runs_of,
    st.booleans(),
    st.sampled_from(FORMATS),
    st.sampled_from(FORMATS),
    st.sampled_from([Format.E8M0, Format.FP8_E4M3, Format.FP32]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_scaled_products_are_the_statement(
    size, runs, swapped, of_a, of_b, scale, accumulate, seed
):
    rng = np.random.default_rng(seed)
    runs = Runs(runs[1], runs[0], runs[2]) if swapped else Runs(*runs)
    a, b = (
        round_array(rng.standard_normal(shape), fmt)
        for shape, fmt in (((size[0], size[2]), of_a), ((size[2], size[1]), of_b))
    )
    scales = [np.exp2(rng.integers(-9, 9, shape)) for shape in shapes(size, runs)]
    if scale != Format.E8M0:
        scales = [each * rng.uniform(1, 2, each.shape) for each in scales]
    scales = [round_array(each, scale) for each in scales]
    before = rng.standard_normal((size[0], size[1])).astype(np.float32)
    acc = before.copy()
    scaled(acc, a, b, *scales, runs, accumulate)
    start = before if accumulate else np.zeros_like(before)
    np.testing.assert_array_equal(acc, statement(a, b, *scales, runs, start))


@given(
    sizes,
    runs_of,
    st.integers(-4, 8),
    st.sampled_from([(32, False), (12, False), (12, True)]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_aligned_products_are_rounded_fractions(size, runs, guard_bits, holds, accumulate, seed):
    rng = np.random.default_rng(seed)
    runs, (m, n, k) = Runs(*runs), size
    a, b = (rng.integers(-127, 128, shape).astype(np.int32) for shape in ((m, k), (k, n)))
    exponents = [rng.integers(-20, 1, shape) for shape in shapes(size, runs)]
    scales = [np.exp2(each).astype(np.float32) for each in exponents]
    before = rng.integers(-100, 100, (m, n)).astype(np.int32)
    acc = before.copy()
    overflows = aligned(acc, a, b, *scales, runs, guard_bits, Accumulator(*holds), accumulate)
    limit, block, expected_overflows = 2 ** (holds[0] - 1), min(runs[:2]), 0
    for i in range(m):
        for j in range(n):
            total = int(before[i, j]) if accumulate else 0
            for start in range(0, k, block):
                part = slice(start, start + block)
                exponent = int(exponents[0][i, start // runs.of_a]) + guard_bits
                exponent += int(exponents[1][start // runs.of_b, j // runs.across])
                sums = Fraction(int(a[i, part] @ b[part, j])) * Fraction(2) ** exponent
                exact = total + floor(sums + Fraction(1, 2))
                total = exact if -limit <= exact < limit else held(exact, limit, holds[1])
                expected_overflows += total != exact
            assert acc[i, j] == total
    assert overflows == expected_overflows


def held(exact, limit, saturates):
    if saturates:
        return limit - 1 if exact > 0 else -limit
    return (exact + limit) % (2 * limit) - limit


def test_a_scale_too_small_for_the_accumulator_leaves_nothing():
    a, b = np.full((1, 32), 127, np.int32), np.full((32, 1), -127, np.int32)
    smallest, one = np.full((1, 1), 2.0**-127, np.float32), np.ones((1, 1), np.float32)
    acc = np.zeros((1, 1), np.int32)
    assert aligned(acc, a, b, smallest, one, Runs(32, 32, 1), 5, Accumulator(32, False), True) == 0
    assert acc == 0
