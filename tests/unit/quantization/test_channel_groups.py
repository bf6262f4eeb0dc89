"""Groups of channels against the rules they are made by."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import QuantizationError
from accelsim.quantization.channel_groups import GroupOptions, Span, channel_groups

FP32_STEP = 2.0**-23


def ranged(*ranges):
    """Two rows of one sample whose channels span -r to r."""
    return np.array([[[-r for r in ranges], ranges]], np.float32)


@st.composite
def samples(draw):
    """Activations whose channels differ by powers of ten, off center, some of them constant."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, length, k = (draw(st.integers(1, top)) for top in (3, 9, 12))
    spread = 10.0 ** rng.uniform(-6, 6, k) * rng.integers(0, 2, k)
    values = rng.standard_normal((count, length, k)) * spread + rng.standard_normal(k)
    return values.astype(np.float32)


@st.composite
def options(draw, **fixed):
    drawn = {
        "bits": draw(st.sampled_from([4, 8])),
        "base": "static",
        "groups": draw(st.integers(1, 16)),
        "chunk_rows": draw(st.integers(2, 6)),
        "first_rows": draw(st.integers(0, 1)),
        "use_bias": draw(st.booleans()),
        "rounding": draw(st.sampled_from(["up", "down", "best"])),
    }
    return GroupOptions(**drawn | fixed)


def test_thresholds_are_powers_of_two_below_the_largest_range():
    # 8 and 4.1 lie in (4, 8], 4 in (2, 4], 1 in (0.5, 1], 0 in what the last group takes.
    found = channel_groups(ranged(4, 8, 4.1, 1, 0), GroupOptions(groups=4))
    assert found.group.tolist() == [[1, 0, 0, 3, 3]]
    assert found.scale.tolist() == [np.float32(8 / 127)]
    np.testing.assert_array_equal(found.channel_scales(0), found.scale[0] / [2, 1, 1, 8, 8])


def test_channels_are_ordered_by_group_and_keep_their_order_within():
    found = channel_groups(ranged(1, 8, 1, 7, 0.1), GroupOptions(groups=5))
    channels, starts = found.order(0)
    assert channels.tolist() == [1, 3, 0, 2, 4]
    assert starts.tolist() == [0, 2, 2, 2, 4, 5]


def test_rounding_down_uses_the_next_smaller_scale_but_in_the_last_group():
    found = channel_groups(ranged(8, 4, 0.1), GroupOptions(groups=3, rounding="down"))
    assert found.group.tolist() == [[1, 2, 2]]


def test_the_best_rounding_is_chosen_by_channel():
    wide = np.linspace(-8, 8, 500)
    # A channel just above a threshold gains by the finer scale; one value in 500 is clipped. One
    # that fills its range would lose its ends.
    narrow = np.where(np.arange(500) == 0, 4.001, np.linspace(-3.9, 3.9, 500))
    given = np.stack([wide, narrow], axis=1)[None].astype(np.float32)
    options = GroupOptions(groups=4, chunk_rows=500, base="static", rounding="best")
    found = channel_groups(given, options)
    assert found.group.tolist() == [[0, 1]]


def test_the_bias_is_the_middle_of_the_range():
    given = np.array([[[1, -2], [5, -2], [2, -2]]], np.float32)
    found = channel_groups(given, GroupOptions(groups=4, use_bias=True))
    assert found.bias.tolist() == [[3, -2]]
    assert found.scale.tolist() == [np.float32(2 / 127)]
    assert found.group.tolist() == [[0, 3]]
    assert channel_groups(given, GroupOptions()).bias.tolist() == [[0, 0]]


def test_chunks_are_of_positions_and_the_last_serves_what_follows():
    given = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    found = channel_groups(given, GroupOptions(chunk_rows=2, use_bias=True))
    assert found.bias.tolist() == [[0.5], [2.5], [4]]
    assert list(found.spans(3)) == [Span(0, 0, 2), Span(1, 2, 3)]
    assert list(found.spans(9)) == [Span(0, 0, 2), Span(1, 2, 4), Span(2, 4, 9)]


def test_the_first_rows_may_be_a_chunk_of_their_own():
    given = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    found = channel_groups(given, GroupOptions(chunk_rows=3, first_rows=1, use_bias=True))
    assert found.bias.tolist() == [[0], [1.5], [3.5]]
    assert list(found.spans(1)) == [Span(0, 0, 1)]
    assert list(found.spans(7)) == [Span(0, 0, 1), Span(1, 1, 3), Span(2, 3, 7)]


def test_peaks_are_those_of_the_values_before_the_bias():
    given = np.array([[[1, -9]], [[-3, 2]]], np.float32)
    assert channel_groups(given, GroupOptions()).channel_peaks.tolist() == [3, 9]


@given(samples(), options(rounding="up"))
def test_what_was_seen_is_off_by_half_a_step_at_most(values, chosen):
    found = channel_groups(values, chosen)
    for x in values:
        for span in found.spans(len(x)):
            steps = found.channel_scales(span.chunk)
            restored = found.encode(x, span) * steps + found.bias[span.chunk].astype(np.float64)
            error = np.abs(restored - x[span.start : span.stop])
            # Half a step, and the rounding to FP32 of x - bias and of the quotient.
            assert (error <= steps / 2 + (127 * steps + np.abs(x).max()) * FP32_STEP).all()


@given(samples(), st.integers(1, 16), st.booleans())
def test_of_a_row_nothing_is_clipped_and_all_is_off_by_half_a_step(values, groups, use_bias):
    """Also of rows that are many times what was seen."""
    found = channel_groups(values, GroupOptions(groups=groups, use_bias=use_bias))
    for x in (*values, 1000 * values[0]):
        for span in found.spans(len(x)):
            codes, scale = found.quantize(x, span)
            rows, bias = x[span.start : span.stop], found.bias[span.chunk].astype(np.float64)
            assert np.abs(codes).max() <= 127
            error = np.abs(codes * scale + bias - rows)
            # Half a step, and the rounding to FP32 of x - bias, of the step and of the quotient.
            assert (error <= scale / 2 + (254 * scale + np.abs(x).max()) * FP32_STEP).all()


def test_a_row_finds_the_largest_of_its_scaled_channels():
    found = channel_groups(ranged(8, 1), GroupOptions(groups=4))
    assert found.group.tolist() == [[0, 3]]
    # 2 x 2^0 and 0.5 x 2^3, so the second channel is the larger one.
    codes, scale = found.quantize(np.array([[2, 0.5]], np.float32), Span(0, 0, 1))
    assert codes.tolist() == [[64, 127]]
    np.testing.assert_array_equal(scale, np.float64(np.float32(4 / 127)) / [[1, 8]])


def test_a_row_takes_the_base_of_the_least_error():
    """Worked by hand: 4 bits, a row of 1 once and 0.1 nine times, one group."""
    x = np.array([[1.0] + [0.1] * 9], np.float32)
    whole = GroupOptions(bits=4, groups=1)
    codes, scale = channel_groups(x[None], whole).quantize(x, Span(0, 0, 1))
    # Steps of 1 / 7: 0.1 becomes 0.143.
    assert codes.tolist() == [[7] + [1] * 9]
    several = replace(whole, candidates=3)
    codes, scale = channel_groups(x[None], several).quantize(x, Span(0, 0, 1))
    # Steps of 0.120 clip 1 to 0.841, an error of 0.025; whole steps lose 9 x 0.043^2 = 0.017.
    assert codes.tolist() == [[7] + [1] * 9]
    many = np.array([[1.0] + [0.1] * 900], np.float32)
    found = channel_groups(many[None], several)
    codes, scale = found.quantize(many, Span(0, 0, 1))
    # Now whole steps lose 900 x 0.043^2 = 1.65, those of 0.120 still 0.39; of 0.101 0.087, nearly
    # all of it because 1 is clipped to 0.707.
    assert scale[0, 0] == np.float32(np.float32(0.5**0.5) / np.float32(7))
    assert codes.tolist() == [[7] + [1] * 900]
    assert found.clipped.tolist() == [1 / 901]


def test_a_typical_range_is_that_of_the_rows_and_not_of_the_largest():
    """Both channels are 1 in every row but one, where the second is 100 times as large."""
    ordinary, rare = [1.0, 1.0, 0.25], [0.1, 10.0, 0.025]
    values = np.array([[ordinary] * 999 + [rare]], np.float32)
    assert channel_groups(values, GroupOptions()).group.tolist() == [[3, 0, 5]]
    found = channel_groups(values, GroupOptions(ranges="typical"))
    assert found.group.tolist() == [[0, 0, 2]]
    # Worked by hand: shares of the RMS of a row, to the 4, in the mean.
    rms = [np.sqrt(np.mean(np.square(row))) for row in (ordinary, rare)]
    shares = np.array(ordinary) / rms[0], np.array(rare) / rms[1]
    ranges = (0.999 * shares[0] ** 4 + 0.001 * shares[1] ** 4) ** 0.25
    np.testing.assert_array_equal(np.floor(np.log2(ranges.max() / ranges)), found.group[0])
    # The largest row has 10 x 2^0 in the second channel.
    assert found.scale.tolist() == [np.float32(10 / 127)]


@given(samples(), st.integers(1, 16), st.floats(2**-20, 2**20))
def test_a_typical_range_does_not_depend_on_how_large_rows_are(values, groups, factor):
    chosen = GroupOptions(groups=groups, ranges="typical")
    power = np.float32(2.0 ** np.round(np.log2(factor)))
    scaled = values.copy()
    scaled[0, 0] *= power
    np.testing.assert_array_equal(
        channel_groups(values, chosen).group, channel_groups(scaled, chosen).group
    )


def test_the_range_may_leave_out_the_rarest_values():
    """Of 0, 1, ..., 100 the quantile 0.9 is 90; the other channel has 45."""
    values = np.arange(101, dtype=np.float32)
    samples = np.stack([values, values / 2], axis=1)[None]
    found = channel_groups(samples, GroupOptions(base="static", quantile=0.9))
    assert found.scale.tolist() == [np.float32(90 / 127)]
    assert found.group.tolist() == [[0, 1]]
    # Codes above 127.5 are those of 91, ..., 100: 90.35 is the largest that is not clipped.
    assert found.clipped.tolist() == [10 / 101]


@given(samples(), options())
def test_groups_are_a_partition_with_scales_a_factor_of_two_apart(values, chosen):
    found = channel_groups(values, chosen)
    assert found.bias.shape == found.group.shape == (found.chunks, found.k)
    for chunk in range(found.chunks):
        channels, starts = found.order(chunk)
        assert sorted(channels) == list(range(found.k))
        assert starts[0] == 0
        assert starts[-1] == found.k
        for group in range(chosen.groups):
            members = channels[starts[group] : starts[group + 1]]
            assert (found.group[chunk][members] == group).all()
            expected = found.scale[chunk] / 2**group
            assert (found.channel_scales(chunk)[members] == expected).all()


@given(samples(), options(), st.integers(1, 20))
def test_spans_cover_every_row_once(values, chosen, rows):
    found = channel_groups(values, chosen)
    spans = list(found.spans(rows))
    covered = [row for span in spans for row in range(span.start, span.stop)]
    assert covered == list(range(rows))
    assert [span.chunk for span in spans] == list(range(len(spans)))
    assert len(spans) <= found.chunks


@given(samples(), options(rounding="best"))
def test_the_best_rounding_has_no_larger_error_than_either(values, chosen):
    def error(rounding):
        options = {name: getattr(chosen, name) for name in chosen.__dataclass_fields__}
        found = channel_groups(values, GroupOptions(**options | {"rounding": rounding}))
        return sum(
            np.square(
                found.encode(x, span) * found.channel_scales(span.chunk)
                - (x[span.start : span.stop] - found.bias[span.chunk])
            ).sum()
            for x in values
            for span in found.spans(len(x))
        )

    # The sums are the same numbers, added in another order.
    assert error("best") <= min(error("up"), error("down")) * (1 + 1e-9)


@pytest.mark.parametrize("value", [0.0, 1e-45, 3e38])
def test_extreme_values_have_codes(value):
    found = channel_groups(ranged(value, 0), GroupOptions(groups=16))
    assert (found.channel_scales(0).astype(np.float32) > 0).all()
    codes = found.encode(ranged(value, 0)[0], Span(0, 0, 2))
    assert np.abs(codes[:, 0]).max() == (127 if value > 1 else 0)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"bits": 6}, "bits: found 6, allowed: 4 or 8"),
        ({"groups": 0}, "groups: found 0, allowed: 1 to 32"),
        ({"groups": 33}, "groups: found 33, allowed: 1 to 32"),
        ({"chunk_rows": 0}, "chunk_rows: found 0, allowed: 1 or more"),
        ({"first_rows": -1}, "first_rows: found -1, allowed: 0 to 1023, fewer than chunk_rows"),
        (
            {"chunk_rows": 4, "first_rows": 4},
            "first_rows: found 4, allowed: 0 to 3, fewer than chunk_rows",
        ),
        ({"rounding": "nearest"}, "rounding: found 'nearest', allowed: up, down, best"),
        ({"base": "column"}, "base: found 'column', allowed: row, static"),
        ({"quantile": 0}, "quantile: found 0, allowed: above 0, and 1 at most"),
        ({"quantile": 1.5}, "quantile: found 1.5, allowed: above 0, and 1 at most"),
        ({"candidates": 9}, "candidates: found 9, allowed: 1 to 8"),
        (
            {"base": "static", "candidates": 2},
            "candidates: found 2 with base = static, allowed: 1; with base = row every row takes "
            "the best of them",
        ),
        ({"ranges": "usual"}, "ranges: found 'usual', allowed: largest, typical"),
        ({"rotation": "random"}, "rotation: found 'random', allowed: none, hadamard"),
        (
            {"ranges": "typical", "base": "static"},
            "ranges: found typical with base = static, allowed: largest; a typical range is none "
            "that values stay in",
        ),
        (
            {"ranges": "typical", "quantile": 0.9},
            "ranges: found typical with quantile = 0.9, allowed: largest; a typical range is none "
            "that values stay in",
        ),
        (
            {"rounding": "best"},
            "rounding: found best with base = row, allowed: up, down; what a channel loses is "
            "judged with a scale that is known before",
        ),
    ],
)
def test_options_that_make_no_sense(chosen, expected):
    with pytest.raises(QuantizationError) as raised:
        GroupOptions(**chosen)
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            np.zeros((2, 3)),
            "samples: found the shape [2, 3], allowed: [samples, rows, k], not empty",
        ),
        (
            np.zeros((2, 0, 3)),
            "samples: found the shape [2, 0, 3], allowed: [samples, rows, k], not empty",
        ),
        (
            np.array([[[1.0, np.nan], [np.inf, 2.0]]]),
            "activations: found 2 of 4 infinite or NaN, allowed: finite numbers",
        ),
    ],
)
def test_samples_that_make_no_sense(values, expected):
    with pytest.raises(QuantizationError) as raised:
        channel_groups(values.astype(np.float32), GroupOptions())
    assert str(raised.value) == expected
