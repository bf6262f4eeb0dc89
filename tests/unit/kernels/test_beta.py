"""The pseudo-average of PASA against the published values and their rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import ConfigError
from accelsim.kernels.attention.shifted.beta import solve_pseudo_average

SCALE_128 = 128**-0.5


@pytest.mark.parametrize(
    ("bits", "rows", "beta"),
    [
        (4, 128, 0.9375),
        (5, 128, 0.968994140625),
        (6, 128, 0.9844970703125),
        (4, 64, 0.9375),
        (5, 64, 0.96875),
        (6, 64, 0.984619140625),
        (4, 256, 0.937744140625),
        (5, 256, 0.9688720703125),
        (6, 256, 0.98443603515625),
    ],
)
def test_the_published_condition_gives_the_published_beta(bits, rows, beta):
    """0.9375, 0.9689939 and 0.984497 are in the authors' scripts; the others follow by hand.

    Row sums of a matrix of multiples of 2^-17 are exact, so beta is, too.
    """
    found = solve_pseudo_average(1 - 2.0**-bits, rows, 1.0, "published")
    assert found.beta == beta


@pytest.mark.parametrize(("bits", "recovery"), [(4, 15.0), (5, 31.25), (6, 63.5)])
def test_the_published_recovery_factors_in_fp16(bits, recovery):
    found = solve_pseudo_average(1 - 2.0**-bits, 128, 1.0, "published")
    assert np.float16(found.recovery) == recovery


@pytest.mark.parametrize(
    ("bits", "head_dim", "used", "needed"),
    [
        (4, 128, 15.0, 14.98741),
        (5, 128, 31.25197, 31.20487),
        (6, 128, 63.50394, 64.40649),
        (4, 64, 15.0, 15.0),
        (5, 64, 31.25197, 31.24409),
        (6, 64, 63.50394, 63.49606),
    ],
)
def test_the_published_condition_misses_the_scale_in_the_matrix(bits, head_dim, used, needed):
    found = solve_pseudo_average(1 - 2.0**-bits, 128, head_dim**-0.5, "published")
    assert found.recovery == pytest.approx(used, abs=5e-6)  # five decimals are given
    assert found.needed_recovery == pytest.approx(needed, abs=5e-6)


@pytest.mark.parametrize(("bits", "beta"), [(4, 0.937450788), (5, 0.968948791), (6, 0.984710998)])
def test_the_corrected_condition_accounts_for_the_scale(bits, beta):
    found = solve_pseudo_average(1 - 2.0**-bits, 128, SCALE_128, "corrected")
    assert found.beta == pytest.approx(beta, abs=5e-10)  # nine decimals are given
    assert found.needed_recovery == pytest.approx(found.recovery, rel=1e-13)


@given(st.integers(1, 256), st.integers(1, 256), st.sampled_from([0.5, 1 - 2**-4, 1 - 2**-6]))
def test_the_recovery_factor_brings_back_what_the_rounded_matrix_took_off(rows, head_dim, beta):
    """K' = M K column by column: mean(K') times the factor is what is missing of the mean of K."""
    found = solve_pseudo_average(beta, rows, head_dim**-0.5, "corrected")
    matrix = np.full((rows, rows), found.off_diagonal)
    np.fill_diagonal(matrix, found.diagonal)
    keys = np.linspace(1.0, 2.0, rows)
    shifted = matrix @ keys
    weight = found.diagonal - found.off_diagonal
    # Sums of 256 doubles, multiplied by a factor of about 64.
    np.testing.assert_allclose(shifted + found.recovery * shifted.mean(), weight * keys, rtol=1e-11)


@pytest.mark.parametrize("condition", ["corrected", "published"])
def test_a_beta_whose_matrix_has_no_inverse_is_refused(condition):
    with pytest.raises(ConfigError) as caught:
        solve_pseudo_average(0.9999, 128, 64**-0.5, condition)
    assert str(caught.value) == (
        f"beta: found 0.9999, for which the {condition} condition has no solution with a shifting "
        "matrix of 128 keys in fp16; allowed: a beta nearer to 0.9375"
    )


def test_a_published_iteration_that_does_not_settle_is_refused():
    with pytest.raises(ConfigError, match="the published condition has no solution"):
        solve_pseudo_average(0.01, 128, SCALE_128, "published")
