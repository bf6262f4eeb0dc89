"""Rows as their producer stores them: what codes are worth, and what is lost when scales meet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import QuantizationError
from accelsim.numerics.formats import Format
from accelsim.quantization.coded_rows import CodedRows, aligned, coded_rows, coded_runs
from accelsim.quantization.codes import largest_code
from accelsim.quantization.schemes import per_row
from tests.oracle.bounds import roundoff

ULPS = 4 * roundoff(Format.FP32)
"""A step, its reciprocal, a product and a ratio are rounded once each."""
bits = st.sampled_from([4, 8])


def rows_of(runs, run, seed, rows=9):
    """Heads of very different size, as those of attention are."""
    rng = np.random.default_rng(seed)
    sizes = np.repeat(np.exp(rng.normal(0, 2, (rows, runs))), run, axis=1)
    return (rng.normal(0, 1, (rows, runs * run)) * sizes).astype(np.float32)


@settings(max_examples=60)
@given(st.integers(1, 40), bits, st.integers(0, 2**32))
def test_one_scale_a_row_is_a_scale_per_row(channels, width, seed):
    x = rows_of(1, channels, seed)
    codes, scale = coded_rows(x, np.ones(channels, np.float32), width)
    expected = per_row(x, width)
    np.testing.assert_array_equal(codes, expected.codes)
    np.testing.assert_array_equal(scale, expected.scale)


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 16), st.integers(0, 2**32))
def test_a_code_of_a_run_is_half_a_step_off_at_most(runs, run, seed):
    x = rows_of(runs, run, seed)
    coded = coded_runs(x, run)
    steps = np.repeat(coded.scale, run, axis=1)
    assert (np.abs(coded.values - x) <= steps * (0.5 + 127 * ULPS)).all()


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 16), bits, st.integers(0, 2**32))
def test_alignment_adds_half_a_step_of_the_row_at_most(runs, run, width, seed):
    x = rows_of(runs, run, seed)
    coded = coded_runs(x, run)
    row = aligned(coded, width)
    assert np.abs(row.codes).max() <= largest_code(width)
    own, allowed = np.repeat(coded.scale, run, axis=1), 127 * ULPS
    bound = row.scale * (0.5 + allowed) + own * (0.5 + allowed)
    assert (np.abs(row.values - x) <= bound).all()


def test_the_largest_run_of_a_row_keeps_its_codes():
    x = rows_of(5, 8, seed=1)
    coded, row = coded_runs(x, 8), aligned(coded_runs(x, 8), 8)
    for number, run in enumerate(coded.scale.argmax(1)):
        own = slice(8 * run, 8 * run + 8)
        np.testing.assert_array_equal(row.codes[number, own], coded.codes[number, own])
        assert row.scale[number, 0] == coded.scale[number, run]


def test_four_bits_of_an_aligned_row_are_nearly_those_of_the_row_itself():
    """Codes of runs have 8 bits, so a rounding to 4 bits hardly notices that it is the second."""
    x = rows_of(9, 64, seed=2, rows=200)
    once = per_row(x, 4).values
    twice = aligned(coded_runs(x, 64), 4).values
    lost = np.square(twice - x).sum() / np.square(once - x).sum()
    # A step of 8 bits is 7 / 127 of one of 4, and errors of both are independent.
    assert 1 <= lost < 1 + 2 * (7 / 127) ** 2


def test_coding_what_codes_stand_for_changes_no_code():
    x = rows_of(5, 8, seed=3)
    coded = coded_runs(x, 8)
    again = coded_runs(coded.values.astype(np.float32), 8)
    np.testing.assert_array_equal(again.codes, coded.codes)
    np.testing.assert_allclose(again.scale, coded.scale, rtol=ULPS)


def test_a_run_without_values_has_codes_of_zero():
    x = rows_of(3, 4, seed=4)
    x[0], x[1, :4] = 0, 0
    row = aligned(coded_runs(x, 4), 8)
    assert not row.codes[0].any()
    assert not row.codes[1, :4].any()
    assert np.isfinite(row.values).all()


@pytest.mark.parametrize("run", [0, 5, 24])
def test_runs_divide_the_channels(run):
    with pytest.raises(QuantizationError, match=rf"run: found {run} of 12 channels, allowed: a"):
        coded_runs(rows_of(1, 12, seed=5), run)


def test_values_have_the_scale_of_their_run():
    coded = CodedRows(np.array([[1, 2, 3, 4]], np.int32), np.array([[0.5, 2.0]]))
    assert coded.values.tolist() == [[0.5, 1.0, 6.0, 8.0]]
