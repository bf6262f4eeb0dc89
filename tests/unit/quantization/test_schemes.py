"""Every scheme against its definition, and the statements against the plain product."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import QuantizationError
from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.blocks import decode_blocks
from accelsim.numerics.formats import Format
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.codes import encode, scale_of
from accelsim.quantization.schemes import (
    channels_above,
    migration_factors,
    per_block,
    per_column,
    per_row,
    per_row_group,
    per_tensor,
    top_channels,
)
from accelsim.quantization.statements import (
    grouped_product,
    migrated_product,
    scaled_product,
    shifted_sums,
    split_product,
)

VALUES = np.array([[1, -4, 0], [0.25, 2, 0]], np.float32)


def activations(rows=64, k=128, outliers=4, seed=0):
    """Normal channels, a few of them 60 times as wide."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, k))
    x[:, rng.choice(k, outliers, replace=False)] *= 60
    return x.astype(np.float32)


def weights(k=128, n=32, seed=1):
    return np.random.default_rng(seed).normal(0, 0.05, (k, n)).astype(np.float32)


def relative_error(found, x, w):
    exact = x.astype(np.float64) @ w.astype(np.float64)
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def test_where_the_scales_lie():
    assert per_tensor(VALUES, 8).scale.tolist() == [[np.float32(4 / 127)]]
    assert per_tensor(VALUES, 8, peak=8.0).scale.tolist() == [[np.float32(8 / 127)]]
    assert per_row(VALUES, 4).scale.tolist() == [[np.float32(4 / 7)], [np.float32(2 / 7)]]
    columns = per_column(VALUES, 8).scale
    assert columns[0, :2].tolist() == [np.float32(1 / 127), np.float32(4 / 127)]
    assert per_column(VALUES, 8).codes.tolist() == [[127, -127, 0], [32, 64, 0]]
    fixed = per_column(VALUES, 8, np.array([2, 2, 2], np.float32))
    assert fixed.codes.tolist() == [[64, -128, 0], [16, 127, 0]]  # 63.5 to even; 4 is clipped


def test_scales_are_numbers_of_their_format():
    w = np.array([[1, 1e-8], [-3, 0], [5, 0]], np.float32)
    scale = per_row_group(w, 4, 2, Format.FP16).scale
    assert scale[:, 0].tolist() == [float(np.float16(3 / 7))] * 2 + [float(np.float16(5 / 7))]
    # The smallest number of FP16 stands for what would be rounded to 0.
    assert scale[:, 1].tolist() == [2.0**-24] * 3


def test_groups_of_weights_share_a_scale_along_k():
    w = np.array([[1, 2], [-3, 0.5], [5, 0.5]], np.float32)
    found = per_row_group(w, 4, group_rows=2)
    expected = np.array([[3, 2], [3, 2], [5, 0.5]]) / 7
    np.testing.assert_array_equal(found.scale, expected.astype(np.float32))
    assert found.codes.tolist() == [[2, 7], [-7, 2], [7, 7]]


@given(st.integers(0, 2**32), st.sampled_from([4, 8]), st.sampled_from([1, 3, 7, 100]))
def test_codes_stand_for_values_within_half_a_step(seed, bits, group_rows):
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal((7, 5)) * 10.0 ** rng.uniform(-8, 8, 5)).astype(np.float32)
    for found in (
        per_tensor(values, bits),
        per_row(values, bits),
        per_column(values, bits),
        per_row_group(values, bits, group_rows),
    ):
        assert np.abs(found.codes).max() <= 2 ** (bits - 1) - 1
        # The quotient is rounded to FP32 before it is rounded to an integer.
        bound = found.scale * (0.5 + 127 * 2.0**-23)
        assert (np.abs(found.values - values) <= bound).all()


def test_blocks_share_a_scale_along_the_summed_axis():
    x, w = activations(), weights()
    left, right = per_block(x, BlockFormat.MXFP8_E4M3, 1), per_block(w, BlockFormat.MXFP8_E4M3, 0)
    assert (left.scales.shape, right.scales.shape) == ((64, 4), (4, 32))
    np.testing.assert_array_equal(left.values, decode_blocks(left))
    found = scaled_product(left, right)
    np.testing.assert_array_equal(found, left.values @ right.values)
    # Elements keep 4 significant bits, but those below 2^-14 of the largest of a block.
    steps = np.repeat(left.scales, 32, axis=1) * 2.0**-6
    clamped = np.abs(x) > 448 * np.repeat(left.scales, 32, axis=1)
    bound = np.maximum(np.abs(x), steps) * 2.0**-4
    assert (np.abs(left.values - x) <= bound)[~clamped].all()
    squares = per_block(w, BlockFormat.FP8_BLOCK128, 0, across=128)
    assert squares.scales.shape == (1, 1)
    raised = per_block(x, BlockFormat.MXFP8_E4M3, 1, rounds_up=True)
    assert (np.abs(raised.values - x) <= np.maximum(np.abs(x), 2 * steps) * 2.0**-4).all()


def test_migration_moves_the_range_and_keeps_the_product():
    x, w = activations(), weights()
    peaks = np.abs(x).max(0)
    even = migration_factors(peaks, w)
    np.testing.assert_allclose(even, np.sqrt(peaks / np.abs(w).max(1)), rtol=1e-6)
    np.testing.assert_allclose(np.abs(x / even).max(0), np.abs(w * even[:, None]).max(1), rtol=1e-6)
    np.testing.assert_allclose(migration_factors(peaks, w, 1.0), peaks, rtol=1e-6)
    np.testing.assert_allclose(migration_factors(peaks, w, 0.0), 1 / np.abs(w).max(1), rtol=1e-6)


def test_channels_without_values_keep_their_scale():
    w = np.array([[1.0], [0.0], [2.0]], np.float32)
    assert migration_factors(np.array([0, 3, 8], np.float32), w).tolist() == [1, 1, 2]


def test_outliers_by_magnitude_and_by_share():
    peaks = np.array([1, 9, 6, 2, 9], np.float32)
    assert channels_above(peaks).tolist() == [1, 2, 4]
    assert channels_above(peaks, 100).tolist() == []
    assert top_channels(peaks, 0.4).tolist() == [1, 4]
    assert top_channels(peaks, 0.2).tolist() == [1]
    assert top_channels(peaks, 0).tolist() == []
    assert top_channels(peaks, 1).tolist() == [0, 1, 2, 3, 4]


@given(st.integers(0, 2**32), st.sampled_from([4, 8]), st.integers(1, 16), st.integers(1, 30))
def test_shifted_sums_are_the_explicit_ones(seed, bits, groups, k):
    rng = np.random.default_rng(seed)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    x, w = rng.integers(low, high, (3, k)), rng.integers(low, high, (k, 4))
    group = rng.integers(0, groups, k).astype(np.uint8)
    weight_of_group = 2 ** (groups - 1 - group.astype(np.int64))
    np.testing.assert_array_equal(shifted_sums(x, w, group, groups), (x * weight_of_group) @ w)


@pytest.mark.parametrize("base", ["row", "static"])
@pytest.mark.parametrize("bits", [4, 8])
def test_shifting_and_scaling_once_is_the_grouped_product(bits, base):
    x, w = activations() + np.float32(1.5), per_column(weights(), bits)
    cut = {"groups": 6, "chunk_rows": 50, "first_rows": 1, "use_bias": True}
    groups = channel_groups(x[None], GroupOptions(bits=bits, base=base, **cut))
    parts = []
    for span in groups.spans(len(x)):
        codes, scale = groups.quantize(x, span)
        sums = shifted_sums(codes, w.codes, groups.group[span.chunk], 6)
        largest = scale[:, :1] * groups.channel_factors(span.chunk)[0]
        bias = groups.bias[span.chunk].astype(np.float64) @ w.values
        parts.append(sums * (largest / 2**5) * w.scale + bias)
    found = grouped_product(x, w, groups)
    np.testing.assert_allclose(np.concatenate(parts), found, atol=1e-12 * np.abs(found).max())


def test_errors_are_those_of_an_independent_implementation():
    # Its relative errors per tensor, row, column and with 8 groups, for one draw of the values,
    # are one more draw beside those made here: 4 standard deviations are rarely left.
    expected = {8: (0.1028, 0.0371, 0.0105, 0.0110), 4: (0.3973, 0.3330, 0.1935, 0.1988)}
    for bits, published in expected.items():
        draws = np.array([_errors(seed, bits) for seed in range(6)])
        distance = np.abs(draws.mean(0) - published)
        assert (distance < 4 * draws.std(0, ddof=1)).all(), (distance, draws.std(0))
        assert (draws.std(0) < 0.25 * draws.mean(0)).all()


def _errors(seed, bits):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (1024, 512)) * np.exp(rng.normal(0, 0.6, 512))
    x[:, rng.choice(512, 6, replace=False)] *= 60
    x = (x + rng.normal(0, 2, 512)).astype(np.float32)
    w = rng.normal(0, 0.05, (512, 64)).astype(np.float32)
    columns = per_column(w, bits)
    found = []
    for scheme in (per_tensor, per_row, per_column):
        found.append(relative_error(scaled_product(scheme(x, bits), columns), x, w))
    options = GroupOptions(bits=bits, base="static", groups=8, chunk_rows=256, use_bias=True)
    groups = channel_groups(x[None], options)
    found.append(relative_error(grouped_product(x, columns, groups), x, w))
    return found


def test_every_scheme_for_outliers_beats_a_scale_per_row():
    x, w = activations(), weights()
    plain = relative_error(scaled_product(per_row(x, 8), per_column(w, 8)), x, w)
    peaks = np.abs(x).max(0)
    outliers = top_channels(peaks, 4 / 128)
    groups = channel_groups(x[None], GroupOptions())
    for found in (
        migrated_product(x, w, migration_factors(peaks, w), 8),
        split_product(x, w, outliers, 8),
        grouped_product(x, per_column(w, 8), groups),
    ):
        assert relative_error(found, x, w) < plain


def test_a_split_without_inliers_is_exact_and_without_outliers_is_plain():
    x, w = activations(), weights()
    everything = np.arange(x.shape[1], dtype=np.int32)
    assert relative_error(split_product(x, w, everything, 8), x, w) == 0
    plain = scaled_product(per_row(x, 8), per_column(w, 8))
    np.testing.assert_array_equal(split_product(x, w, everything[:0], 8), plain)


def test_ties_go_to_even_and_ends_are_clipped():
    values = np.array([0.5, 1.5, -2.5, 200, -200], np.float32)
    assert encode(values, 1.0, 8).tolist() == [0, 2, -2, 127, -128]
    assert encode(values, 1.0, 4).tolist() == [0, 2, -2, 7, -8]


def test_zeros_have_a_scale():
    assert scale_of(0.0, 8) > 0
    assert per_tensor(np.zeros((2, 2), np.float32), 8).codes.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: per_tensor(VALUES, 16), "bits: found 16, allowed: 4 or 8"),
        (
            lambda: per_row(np.array([[1, np.nan]], np.float32), 8),
            "values: found 1 of 2 infinite or NaN, allowed: finite numbers",
        ),
        (
            lambda: per_block(np.array([[1, np.inf]], np.float32), BlockFormat.MXFP4, 1),
            "values: found 1 of 2 infinite or NaN, allowed: finite numbers",
        ),
        (lambda: per_row_group(VALUES, 4, 0), "group_rows: found 0, allowed: 1 or more"),
        (
            lambda: migration_factors(VALUES[0], VALUES.T, 1.5),
            "migration strength: found 1.5, allowed: 0 to 1",
        ),
        (
            lambda: top_channels(VALUES[0], -0.1),
            "share of outlier channels: found -0.1, allowed: 0 to 1",
        ),
        (
            lambda: channels_above(np.array([np.inf], np.float32)),
            "channel peaks: found 1 of 1 infinite or NaN, allowed: finite numbers",
        ),
    ],
)
def test_mistakes(call, expected):
    with pytest.raises(QuantizationError) as raised:
        call()
    assert str(raised.value) == expected
