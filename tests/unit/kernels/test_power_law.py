"""The threshold law: what the sums recover, and when there is no law."""

import numpy as np
import pytest

from accelsim.kernels.attention.decode.power_law import (
    C_OVER_T,
    FIT,
    NUM_SUMS,
    fitted,
    observe,
    threshold,
)


def sums_of(pairs):
    sums = np.zeros(NUM_SUMS)
    for t, theta in pairs:
        observe(sums, t, theta)
    return sums


def test_a_power_law_is_recovered():
    sums = sums_of([(t, 0.3 * t**-1.2) for t in range(16, 256)])
    log_a, slope = fitted(sums, FIT)
    assert (np.exp(log_a), slope) == (pytest.approx(0.3, rel=1e-9), pytest.approx(-1.2, rel=1e-9))
    assert threshold(sums, FIT, 1000) == pytest.approx(0.3 * 1000**-1.2, rel=1e-9)


def test_noise_gives_the_least_squares_line():
    t = np.arange(5, 90)
    theta = t**-0.8 * np.exp(np.random.default_rng(0).standard_normal(t.size))
    slope, log_a = np.polyfit(np.log(t), np.log(theta), 1)
    found = fitted(sums_of(zip(t, theta, strict=True)), FIT)
    np.testing.assert_allclose(found, (log_a, slope), rtol=1e-9)


def test_c_over_t_is_the_geometric_mean_of_theta_t():
    sums = sums_of([(10, 0.2), (20, 0.4)])
    assert threshold(sums, C_OVER_T, 8) == pytest.approx(4 / 8)


@pytest.mark.parametrize("theta", [0.0, -1.0, np.nan, np.inf])
def test_what_has_no_logarithm_is_left_out(theta):
    observed = [(10, 0.2), (20, 0.05)]
    np.testing.assert_array_equal(sums_of([*observed, (30, theta)]), sums_of(observed))


@pytest.mark.parametrize(
    ("observed", "rule"),
    [
        ([], FIT),
        ([], C_OVER_T),
        ([(10, 0.5)], FIT),
        ([(4096, 0.5), (4096, 0.4), (4096, 0.3)], FIT),
        ([(10, 0.1), (20, 0.1)], FIT),
        ([(10, 0.1), (20, 0.2)], FIT),
    ],
    ids=["nothing", "nothing to average", "one point", "one length", "constant", "rising"],
)
def test_without_a_law_the_threshold_is_zero(observed, rule):
    sums = sums_of(observed)
    assert np.isnan(fitted(sums, rule)).all()
    assert threshold(sums, rule, 100) == 0


def test_256_steps_after_a_million_tokens_still_give_a_slope():
    sums = sums_of([(t, 2 / t) for t in range(1_000_000, 1_000_256)])
    assert fitted(sums, FIT)[1] == pytest.approx(-1, abs=0.05)
