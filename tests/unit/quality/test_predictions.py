"""What logits predict, against sums in Python's exact arithmetic."""

import tracemalloc
from dataclasses import dataclass
from math import exp, fsum, inf, log, nan

import numpy as np
import pytest

from accelsim.quality.predictions import compare_logits, compare_predictions


def random_logits(rng, rows=6, vocabulary=50, scale=4.0):
    return (scale * rng.standard_normal((rows, vocabulary))).astype(np.float32)


def probabilities(row):
    peak = max(row)
    weights = [exp(float(each) - float(peak)) for each in row]
    return [each / fsum(weights) for each in weights]


@pytest.mark.parametrize("nearness", [1.0, 1e-2, 1e-4])
def test_losses_and_divergence_are_those_of_the_definition(nearness):
    rng = np.random.default_rng(3)
    fp32 = random_logits(rng)
    ours = (fp32 + nearness * random_logits(rng)).astype(np.float32)
    targets = rng.integers(0, fp32.shape[1], len(fp32))
    found = compare_logits(ours, fp32, targets)
    for row, target in enumerate(targets):
        q, p = probabilities(ours[row]), probabilities(fp32[row])
        kl = fsum(one * (log(one) - log(other)) for one, other in zip(p, q, strict=True))
        # Logarithms near 10 are rounded to 1e-15, and the divergence is their difference.
        assert found.kl[row] == pytest.approx(kl, abs=1e-14)
        assert found.kl[row] > 0
        overlap = fsum(min(one, other) for one, other in zip(p, q, strict=True))
        assert found.overlap[row] == pytest.approx(overlap, rel=1e-13)
        assert found.losses[row] == pytest.approx(-log(q[target]), rel=1e-13)
        assert found.fp32_losses[row] == pytest.approx(-log(p[target]), rel=1e-13)
        assert found.hits[row] == (q.index(max(q)) == target)
        assert found.fp32_hits[row] == (p.index(max(p)) == target)
        assert found.agrees[row] == (q.index(max(q)) == p.index(max(p)))


def test_the_divergence_is_from_fp32():
    # p = (1/2, 1/2), q = (1/4, 3/4): sum of p ln(p / q), and not of q ln(q / p).
    q, p = np.log(np.float32([[0.25, 0.75]])), np.log(np.float32([[0.5, 0.5]]))
    (kl,) = compare_logits(q, p, np.array([0])).kl
    assert kl == pytest.approx(0.5 * log(2) + 0.5 * log(2 / 3), rel=1e-6)


def test_the_same_logits_agree_and_diverge_by_nothing():
    logits = random_logits(np.random.default_rng(4))
    found = compare_logits(logits, logits.copy(), np.zeros(len(logits), int))
    assert found.agrees.tolist() == [1.0] * len(logits)
    assert found.kl.tolist() == [0.0] * len(logits)
    assert found.overlap == pytest.approx([1.0] * len(logits), abs=1e-15)
    assert found.overlap.max() <= 1.0


def test_a_constant_on_all_logits_changes_nothing():
    logits = np.float32([[1, 2, 3, 4], [8, 8, 0, 1]])
    found = compare_logits(logits + np.float32(16), logits, np.array([0, 1]))
    assert found.agrees.tolist() == [1.0, 1.0]
    assert (found.kl >= 0).all()
    np.testing.assert_allclose(found.kl, 0, atol=1e-14)


def test_the_divergence_is_never_below_zero_by_rounding():
    rng = np.random.default_rng(5)
    logits = random_logits(rng, rows=500, vocabulary=1000)
    other = np.nextafter(logits, np.float32(inf))
    assert (compare_logits(other, logits, np.zeros(500, int)).kl >= 0).all()


def test_another_greedy_token_does_not_agree():
    fp32 = np.float32([[1, 2, 0], [5, 1, 0]])
    ours = np.float32([[2, 1, 0], [3, 1, 0]])
    found = compare_logits(ours, fp32, np.array([0, 1]))
    assert found.agrees.tolist() == [0.0, 1.0]
    assert (found.hits.tolist(), found.fp32_hits.tolist()) == ([1.0, 0.0], [0.0, 0.0])


@pytest.mark.parametrize("bad", [nan, inf])
def test_what_is_not_finite_neither_agrees_nor_has_a_divergence(bad):
    fp32 = np.float32([[1, 2, 0], [1, 2, 0]])
    ours = np.float32([[1, bad, 0], [1, 2, 0]])
    with np.errstate(invalid="ignore"):
        found = compare_logits(ours, fp32, np.array([0, 0]))
    assert found.agrees.tolist() == [0.0, 1.0]
    assert found.hits.tolist() == [0.0, 0.0]
    assert np.isfinite(found.kl).tolist() == [False, True]
    assert np.isfinite(found.losses).tolist() == [False, True]


@dataclass
class Head:
    """The part of the weights that makes logits."""

    head: np.ndarray


def head(rng, vocabulary):
    return Head(rng.standard_normal((vocabulary, 8)).astype(np.float32))


def test_parts_of_a_window_are_put_together_in_order():
    rng = np.random.default_rng(6)
    weights = head(rng, 30)
    ours, fp32 = rng.standard_normal((2, 150, 8)).astype(np.float32)
    targets = rng.integers(0, 30, 150)
    found = compare_predictions(weights, ours, fp32, targets.tolist())
    logits = [each @ weights.head.T for each in (ours, fp32)]
    for part, expected in zip(found, compare_logits(*logits, targets), strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-6)  # FP32 sums of 8


def test_memory_does_not_grow_with_the_window():
    rng = np.random.default_rng(8)
    weights = head(rng, 5000)

    def peak_bytes(tokens):
        ours, fp32 = rng.standard_normal((2, tokens, 8)).astype(np.float32)
        tracemalloc.start()
        compare_predictions(weights, ours, fp32, [0] * tokens)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    short, long = peak_bytes(128), peak_bytes(1024)
    # All logits of the long one in FP64 alone would take 1,024 x 5,000 x 8 bytes.
    assert long < short + 1024 * 5000
