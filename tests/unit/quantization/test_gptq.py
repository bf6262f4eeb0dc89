"""Codes whose errors compensate each other, against the least-squares problem that they solve."""

import numpy as np
import pytest

from accelsim.quantization.codes import encode, scale_of
from accelsim.quantization.gptq import clipped_scale, compensated, second_moments

RNG_SEEDS = range(4)
BLOCK_AND_MORE = 70
"""Channels, of which 64 are updated at once."""


def inputs(seed, rows=300, k=BLOCK_AND_MORE):
    """Inputs whose channels depend on each other, some far larger than others."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0, 1, (rows, k // 2)) @ rng.normal(0, 1, (k // 2, k))
    mixed += rng.normal(0, 0.5, (rows, k))
    return (mixed * np.exp(rng.normal(0, 1, k))).astype(np.float32)


def weights(seed, k=BLOCK_AND_MORE, n=5):
    return np.random.default_rng(seed + 100).standard_t(4, (k, n)).astype(np.float32)


def output_error(lost, moments):
    return np.einsum("kn,kl,ln->", lost, moments, lost)


@pytest.mark.parametrize("seed", RNG_SEEDS)
@pytest.mark.parametrize("bits", [4, 8])
def test_each_channel_is_rounded_from_where_the_error_so_far_is_least(seed, bits):
    """The statement: of all that is still free, solve for the least error, given what is lost.

    With e of the channels F that are done, the others are best moved by -H_RR^-1 H_RF e.
    """
    x, w = inputs(seed), weights(seed)
    moments = second_moments(x)
    damped = moments + 0.01 * np.trace(moments) / len(moments) * np.eye(len(moments))
    found = compensated(w, moments, bits)
    order = np.argsort(-np.diag(moments), kind="stable")
    h, rest = damped[order][:, order], w[order].astype(np.float64)
    codes = np.zeros(w.shape, int)
    for channel in range(len(order)):
        lost = codes[:channel] * found.scale - rest[:channel]
        moved = -np.linalg.solve(h[channel:, channel:], h[channel:, :channel] @ lost)[0]
        codes[channel] = np.clip(
            np.rint((rest[channel] + moved) / found.scale[0]),
            -(2 ** (bits - 1)),
            2 ** (bits - 1) - 1,
        )
    np.testing.assert_array_equal(found.codes[order], codes)


@pytest.mark.parametrize("bits", [4, 8])
def test_channels_that_do_not_depend_on_each_other_are_rounded_to_the_nearest(bits):
    w, moments = weights(0), np.diag(np.arange(1.0, BLOCK_AND_MORE + 1))
    codes, scale = compensated(w, moments, bits)
    np.testing.assert_array_equal(scale, clipped_scale(w, np.diag(moments), bits))
    np.testing.assert_array_equal(codes, encode(w, scale, bits))


@pytest.mark.parametrize("seed", RNG_SEEDS)
def test_the_output_is_nearer_than_with_the_nearest_codes(seed):
    w, moments = weights(seed), second_moments(inputs(seed))
    found = compensated(w, moments, 4)
    nearest = encode(w, found.scale, 4) * found.scale
    lost = [output_error(each - w, moments) for each in (found.values, nearest)]
    assert lost[0] < 0.5 * lost[1]


def test_the_step_of_a_column_is_the_best_of_those_tried():
    w = weights(1)
    importance = np.exp(np.random.default_rng(5).normal(0, 1, len(w)))
    found = clipped_scale(w, importance, 4)
    for column in range(w.shape[1]):
        tried = scale_of(np.abs(w[:, column]).max() * 2.0 ** (-np.arange(9) / 8), 4)
        own = w[:, column, None]
        errors = importance @ np.square(encode(own, tried, 4) * tried - own)
        assert found[0, column] == tried[errors.argmin()]
    assert (found < scale_of(np.abs(w).max(0), 4)).any()


def test_a_row_counts_by_its_direction_and_not_by_its_size():
    x = inputs(2, rows=30, k=6)
    expected = np.mean([np.outer(row, row) / np.mean(row.astype(float) ** 2) for row in x], axis=0)
    np.testing.assert_allclose(second_moments(x), expected, rtol=1e-5, atol=1e-6)
    x[3] *= 1024
    np.testing.assert_allclose(second_moments(x), expected, rtol=1e-5, atol=1e-6)


def test_nothing_that_was_seen_is_no_reason_to_fail():
    """Channels or rows of zeros leave the weights to be rounded to the nearest codes."""
    w, moments = weights(3), second_moments(np.zeros((4, BLOCK_AND_MORE), np.float32))
    codes, scale = compensated(w, moments, 8)
    np.testing.assert_array_equal(codes, encode(w, scale, 8))
