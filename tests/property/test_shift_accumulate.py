"""Sums that are doubled between groups, against Python's own integers."""

from itertools import pairwise

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from accelsim.numerics.integer import Accumulator, largest_sum, shift_accumulate
from accelsim.runtime.jit import jit


@jit
def accumulated(acc, a, b, order, starts, bits_a, bits_b, accumulator, accumulate):
    """Sums of all groups, and how many did not fit."""
    return shift_accumulate(acc, a, b, order, starts, bits_a + bits_b, accumulator, accumulate)


@jit
def bound(starts, bits_a, bits_b):
    """Largest magnitude of a sum."""
    return largest_sum(starts, bits_a + bits_b)


@st.composite
def products(draw):
    """Operands of 4 and 8 bits, and their channels in up to 16 groups of any size."""
    bits = draw(st.sampled_from([(4, 4), (8, 4), (4, 8), (8, 8)]))
    sizes = draw(st.lists(st.integers(0, 9), min_size=1, max_size=16))
    channels = sum(sizes)
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a, b = (
        rng.integers(-(2 ** (width - 1)), 2 ** (width - 1), shape).astype(np.int32)
        for width, shape in zip(bits, ((m, channels), (channels, n)), strict=True)
    )
    order = rng.permutation(channels).astype(np.int32)[None, :]
    return bits, np.cumsum([0, *sizes]), order, a, b


def exact(starts, order, a, b):
    """sum over g of 2^(G - 1 - g) A_g B_g, in integers without limits."""
    total = np.zeros((len(a), b.shape[1]), object)
    for first, end in pairwise(starts):
        group = order[0, first:end]
        total = 2 * total + a[:, group].astype(object) @ b[group].astype(object)
    return total


def wrapped(total, bits):
    limit = 1 << (bits - 1)
    return (total + limit) % (2 * limit) - limit


@given(products(), st.integers(-(2**30), 2**30), st.booleans())
def test_shifting_equals_explicit_requantization_exactly(product, before, accumulate):
    (bits_a, bits_b), starts, order, a, b = product
    acc = np.full((len(a), b.shape[1]), before, np.int32)
    overflows = accumulated(
        acc, a, b, order, starts, bits_a, bits_b, Accumulator(32, False), accumulate
    )
    total = exact(starts, order, a, b) + (before if accumulate else 0)
    if overflows == 0:
        assert (acc == total).all()
    assert (acc == wrapped(total, 32)).all()


@given(products(), st.integers(8, 31))
def test_an_overflow_is_counted_and_wraps_or_saturates(product, width):
    (bits_a, bits_b), starts, order, a, b = product
    total = exact(starts, order, a, b)
    limit = 1 << (width - 1)
    for saturates in (False, True):
        acc = np.zeros(total.shape, np.int32)
        overflows = accumulated(
            acc, a, b, order, starts, bits_a, bits_b, Accumulator(width, saturates), False
        )
        assert (-limit <= acc).all()
        assert (acc < limit).all()
        if overflows == 0:
            assert (acc == total).all()
        if not saturates:
            assert (acc == wrapped(total, width)).all()
        assert overflows > 0 or (abs(total) <= limit).all()


@given(products())
def test_no_sum_exceeds_its_bound(product):
    (bits_a, bits_b), starts, order, a, b = product
    worst_a = np.full_like(a, -(2 ** (bits_a - 1)))
    worst_b = np.full_like(b, -(2 ** (bits_b - 1)))
    largest = bound(starts, bits_a, bits_b)
    assert (abs(exact(starts, order, a, b)) <= largest).all()
    assert (exact(starts, order, worst_a, worst_b) == largest).all()


@given(st.lists(st.integers(0, 2**24), min_size=1, max_size=32).filter(any), st.integers(4, 8))
def test_a_bound_that_64_bits_do_not_hold_is_still_one_that_no_accumulator_holds(sizes, bits):
    """32 groups of 2^24 channels reach 2^69."""
    largest = bound(np.cumsum([0, *sizes]), bits, bits)
    true = sum(size << len(sizes) - 1 - at for at, size in enumerate(sizes)) << 2 * bits - 2
    assert largest == true or 2**45 <= largest < true


@given(products(), st.floats(1e-3, 1e3), st.floats(1e-4, 1))
def test_one_scale_at_the_end_equals_the_formula_in_float64(product, largest_scale, weight_scale):
    """sum over g of s_g A_g B_g s_w with s_g = s_0 / 2^g, against one product with the last s."""
    (bits_a, bits_b), starts, order, a, b = product
    acc = np.zeros((len(a), b.shape[1]), np.int32)
    overflows = accumulated(acc, a, b, order, starts, bits_a, bits_b, Accumulator(32, False), False)
    assume(overflows == 0)
    formula = np.zeros(acc.shape)
    for group, (first, end) in enumerate(pairwise(starts)):
        channels = order[0, first:end]
        sums = a[:, channels].astype(np.float64) @ b[channels].astype(np.float64)
        formula += sums * (largest_scale / 2**group) * weight_scale
    found = acc * (largest_scale / 2 ** (len(starts) - 2)) * weight_scale
    # Groups of opposite sign cancel: what is rounded is as large as the largest group.
    parts = largest_scale * weight_scale * bound(starts, bits_a, bits_b) / 2 ** (len(starts) - 2)
    np.testing.assert_allclose(found, formula, rtol=1e-12, atol=1e-12 * parts)


def test_a_saturated_sum_stays_at_the_end_of_its_range():
    a, b = np.full((1, 3), 7, np.int32), np.full((3, 1), 7, np.int32)
    order, starts = np.arange(3, dtype=np.int32)[None, :], np.array([0, 3])
    acc = np.zeros((1, 1), np.int32)
    # 49, 98, 147: only the last sum does not fit eight bits.
    assert accumulated(acc, a, b, order, starts, 4, 4, Accumulator(8, True), False) == 1
    assert acc[0, 0] == 127
    assert accumulated(acc, a, b, order, starts, 4, 4, Accumulator(8, False), False) == 1
    assert acc[0, 0] == 147 - 256
