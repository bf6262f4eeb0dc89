"""Standard errors against data whose correlation is known."""

import numpy as np
import pytest

from accelsim.quality.estimate import (
    NOTHING,
    Estimate,
    mean_over_texts,
    mean_over_windows,
    quantile_over_windows,
)

REPEATS = 4000
SIGMAS = 4.5
"""Of a normal distribution, all but 7e-6 is nearer."""


def correlated(rng, lengths, within, noise=1.0):
    """Return windows whose tokens share an effect: a variance of `within`^2 beside `noise`^2."""
    return [
        within * rng.standard_normal() + noise * rng.standard_normal(length) for length in lengths
    ]


def repeated(draw, estimate_of, repeats=REPEATS):
    """Return value, se and token_se of many draws, [repeats, 3]."""
    rng = np.random.default_rng(7)
    return np.array([estimate_of(draw(rng)) for _ in range(repeats)])


def assert_unbiased(squares, variance):
    """The mean of many variance estimates is the variance, as near as that mean is known."""
    error = squares.std(ddof=1) / np.sqrt(len(squares))
    assert abs(squares.mean() - variance) < SIGMAS * error


@pytest.mark.parametrize("windows", [2, 5, 16])
def test_the_error_over_windows_is_that_of_correlated_tokens(windows):
    lengths, within = [20] * windows, 0.5
    found = repeated(lambda rng: correlated(rng, lengths, within), mean_over_windows)
    # Mean of independent windows, each of variance within^2 + 1 / 20.
    variance = (within**2 + 1 / 20) / windows
    assert_unbiased(np.square(found[:, 1]), variance)
    # The means themselves scatter by it: their sample variance, known to sqrt(2 / repeats).
    spread = found[:, 0].var(ddof=1)
    assert abs(spread / variance - 1) < SIGMAS * np.sqrt(2 / REPEATS)


def test_taking_tokens_as_independent_misses_the_design_effect():
    windows, length, within = 16, 20, 0.5
    found = repeated(lambda rng: correlated(rng, [length] * windows, within), mean_over_windows)
    of_token, of_mean = within**2 + 1, (within**2 + 1 / length) / windows
    tokens = windows * length
    # The mean of a sample takes its own variance out of that of the sample.
    by_token = (of_token - of_mean) / (tokens - 1)
    assert_unbiased(np.square(found[:, 2]), by_token)
    # Kish's design effect, 1 + (tokens of a unit - 1) x correlation within it.
    effect = 1 + (length - 1) * within**2 / of_token
    assert of_mean / (of_token / tokens) == pytest.approx(effect)
    assert effect == pytest.approx(4.8)


def test_independent_tokens_have_the_same_error_either_way():
    found = repeated(lambda rng: correlated(rng, [20] * 16, 0.0), mean_over_windows)
    assert_unbiased(np.square(found[:, 1]), 1 / 320)
    assert_unbiased(np.square(found[:, 2]), 1 / 320)


def test_windows_of_one_length_are_their_means():
    rng = np.random.default_rng(1)
    windows = correlated(rng, [7] * 5, 1.0)
    means = np.array([each.mean() for each in windows])
    found = mean_over_windows(windows)
    assert found.value == pytest.approx(means.mean(), rel=1e-14)
    assert found.se == pytest.approx(means.std(ddof=1) / 5**0.5, rel=1e-14)


def test_a_short_last_window_counts_by_its_tokens():
    found = mean_over_windows([np.array([1.0, 3.0]), np.array([5.0])])
    # Mean 3; deviations sum to -2 and 2: 2 / (2 - 1) x (4 + 4) / 3^2.
    assert found.value == 3
    assert found.se == pytest.approx((2 * 8) ** 0.5 / 3)


def test_one_window_is_by_token():
    found = mean_over_windows([np.array([1.0, 2.0, 3.0])])
    assert found.value == 2
    assert found.se == found.token_se == pytest.approx(1 / 3**0.5)


def test_the_error_over_texts_has_what_differs_between_texts():
    between, texts = 1.0, 5

    def estimate_of(drawn):
        return mean_over_texts([mean_over_windows(windows) for windows in drawn])

    def draw_texts(rng):  # windows of a text share its effect and cannot see it
        return [
            [effect + each for each in correlated(rng, [20] * 4, 0.5)]
            for effect in between * rng.standard_normal(texts)
        ]

    variance = (between**2 + (0.25 + 1 / 20) / 4) / texts
    assert_unbiased(np.square(repeated(draw_texts, estimate_of)[:, 1]), variance)


def test_over_texts_errors_by_token_add_up():
    parts = [Estimate(1.0, 0.1, 0.3), Estimate(2.0, 0.1, 0.4)]
    found = mean_over_texts(parts)
    assert found.value == 1.5
    assert found.se == pytest.approx(0.5)
    assert found.token_se == pytest.approx(0.25)
    assert mean_over_texts(parts[:1]) == parts[0]


@pytest.mark.parametrize("within", [0.0, 0.5])
def test_the_error_of_a_quantile_is_how_far_it_scatters(within):
    lengths, repeats = [100] * 40, 1000
    found = repeated(
        lambda rng: correlated(rng, lengths, within),
        lambda windows: quantile_over_windows(windows, 0.9),
        repeats,
    )
    scatter = found[:, 0].std(ddof=1)
    # Both are known to 1 / sqrt(2 x repeats); the error of the sample is a first-order one, off by
    # the order of 1 / windows.
    tolerance = SIGMAS / np.sqrt(2 * repeats) + 1 / len(lengths)
    assert abs(np.sqrt(np.square(found[:, 1]).mean()) / scatter - 1) < tolerance


def test_a_quantile_near_the_largest_value_stays_within():
    values = np.arange(100.0)
    found = quantile_over_windows([values], 0.999)
    assert found.value == np.quantile(values, 0.999)
    assert 0 < found.se < 99


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_has_no_mean(bad):
    windows = [np.array([1.0, bad]), np.array([1.0, 2.0])]
    assert mean_over_windows(windows) == NOTHING
    assert quantile_over_windows(windows, 0.5) == NOTHING
    assert mean_over_texts([NOTHING, Estimate(1.0, 0.1, 0.1)]) == NOTHING
    assert NOTHING.errors_times(2.0) == (None, None)
    assert Estimate(1.0, 2.0, 3.0).errors_times(None) == (None, None)
