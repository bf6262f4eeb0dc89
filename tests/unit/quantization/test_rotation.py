"""Rotations are orthogonal, keep products, and are the matrices that they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import QuantizationError
from accelsim.numerics.formats import Format
from accelsim.numerics.hadamard import hadamard_columns, hadamard_rows
from accelsim.numerics.rounding import round_array
from accelsim.quantization.rotation import hadamard_rotation
from accelsim.quantization.schemes import per_row

UNIT = 2.0**-24
"""Largest relative error of one rounding to FP32."""


def sylvester(size):
    """The matrix by its doubling: [[H, H], [H, -H]]."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def normal(rows, cols, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)


def error_bound(magnitudes, block):
    """Of sums over blocks by log2(block) additions, a factor that was rounded, and its product."""
    roundings = np.log2(block) + 2
    return ((1 + UNIT) ** roundings - 1) * magnitudes / np.sqrt(block)


@pytest.mark.parametrize(("k", "block"), [(64, 64), (576, 64), (24, 8), (7, 1), (96, 32)])
def test_the_largest_block_and_the_exact_orthogonality(k, block):
    rotation = hadamard_rotation(k, seed=3)
    assert rotation.block == block
    # Without the root every element is -1, 0 or 1, so that the products are exact.
    whole = np.rint(rotation.matrix * np.sqrt(block))
    np.testing.assert_array_equal(whole @ whole.T, block * np.eye(k))
    np.testing.assert_array_equal(np.abs(whole[:block, :block]), np.ones((block, block)))
    np.testing.assert_allclose(rotation.matrix * np.sqrt(block), whole, rtol=1e-15)


def test_the_matrix_is_that_of_sylvester():
    rotation = hadamard_rotation(48, block=16)
    expected = np.kron(np.eye(3), sylvester(16)) / 4
    np.testing.assert_array_equal(rotation.matrix, expected)


@given(st.integers(0, 2**32), st.sampled_from([(8, 8), (24, 4), (512, 512), (40, 1)]))
def test_the_fast_transform_is_the_product_with_the_matrix(seed, sizes):
    k, block = sizes
    rotation = hadamard_rotation(k, block, seed)
    x, w = normal(3, k, seed) * np.float32(100), normal(k, 5, seed + 1)
    spread = np.kron(np.eye(k // block), np.ones((block, block)))
    found = rotation.of_activations(x)
    bound = error_bound(np.abs(x) @ spread, block)
    assert (np.abs(found - x.astype(np.float64) @ rotation.matrix) <= bound).all()
    found = rotation.of_weights(w)
    bound = error_bound(spread @ np.abs(w), block)
    assert (np.abs(found - rotation.matrix.T @ w.astype(np.float64)) <= bound).all()
    assert found.flags.c_contiguous


def test_the_product_stays():
    x, w = normal(6, 96), normal(96, 7, seed=1)
    for seed in (None, 5):
        rotation = hadamard_rotation(96, seed=seed)
        wide = x.astype(np.float64) @ rotation.matrix @ rotation.matrix.T @ w
        exact = x.astype(np.float64) @ w
        np.testing.assert_allclose(wide, exact, atol=1e-12)
        rotated = rotation.of_activations(x).astype(np.float64) @ rotation.of_weights(w)
        norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=0)
        # Every element of a factor is off by 7 roundings of at most the norm of its block of 32.
        assert (np.abs(rotated - exact) <= 2.1 * 7 * UNIT * np.sqrt(32) * norms).all()


def test_transforming_twice_gives_the_values_back():
    tile = normal(4, 64)
    # A block of 16 has a factor of 1/4, and small integers are summed without error.
    tile = np.rint(4 * tile)
    twice = tile.copy()
    for _ in range(2):
        hadamard_rows(twice, 4, 64, 16, Format.FP32.code)
    np.testing.assert_array_equal(twice, tile)


@pytest.mark.parametrize("fmt", [Format.FP32, Format.FP16, Format.BF16])
def test_every_stage_is_rounded(fmt):
    values = round_array(normal(5, 48), fmt)
    expected = values.copy()
    for distance in (1, 2, 4, 8):
        pairs = expected.reshape(5, -1, 2, distance)
        left, right = pairs[:, :, 0], pairs[:, :, 1]
        stage = np.stack([left + right, left - right], axis=2)
        expected = round_array(stage.reshape(5, 48), fmt)
    expected = round_array(expected * np.float32(0.25), fmt)
    by_rows, by_columns = values.copy(), values.T.copy()
    hadamard_rows(by_rows, 5, 48, 16, fmt.code)
    hadamard_columns(by_columns, 48, 5, 16, fmt.code)
    np.testing.assert_array_equal(by_rows, expected)
    np.testing.assert_array_equal(by_columns.T, expected)
    assert hadamard_rows(None, 5, 48, 16, fmt.code) is None
    assert hadamard_columns(None, 48, 5, 16, fmt.code) is None


def test_outliers_are_spread():
    x = normal(32, 256)
    x[:, 7] *= 60
    rotated = hadamard_rotation(256, seed=1).of_activations(x)
    # A channel of a block is one of 256 parts of every other: at most a 16th of all together.
    assert (np.abs(rotated).max(1) <= (1 + 10 * UNIT) * np.abs(x).sum(1) / 16).all()
    np.testing.assert_allclose(
        np.linalg.norm(rotated, axis=1), np.linalg.norm(x, axis=1), rtol=1e-5
    )
    error = [np.linalg.norm(per_row(each, 4).values - each) for each in (x, rotated)]
    assert error[1] < error[0]


def test_signs_are_those_of_the_seed():
    first, again, other = (hadamard_rotation(64, seed=seed).signs for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert set(first) == {-1, 1}
    assert (first != other).any()
    assert (hadamard_rotation(64).signs == 1).all()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            lambda: hadamard_rotation(576, 96),
            "rotation: block: found 96 of 576 channels, allowed: powers of two up to 64",
        ),
        (
            lambda: hadamard_rotation(576, 128),
            "rotation: block: found 128 of 576 channels, allowed: powers of two up to 64",
        ),
        (
            lambda: hadamard_rotation(8, 0),
            "rotation: block: found 0 of 8 channels, allowed: powers of two up to 8",
        ),
        (lambda: hadamard_rotation(0), "rotation: found 0 channels, allowed: 1 or more"),
        (
            lambda: hadamard_rotation(8).of_activations(normal(2, 16)),
            "rotation: found activations of 16 channels, allowed: 8",
        ),
        (
            lambda: hadamard_rotation(8).of_weights(normal(16, 2)),
            "rotation: found weights of 16 channels, allowed: 8",
        ),
    ],
)
def test_mistakes(call, expected):
    with pytest.raises(QuantizationError) as raised:
        call()
    assert str(raised.value) == expected
