"""Codes of keys and values: as near as their steps promise, and as many bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import QuantizationError
from accelsim.numerics.formats import Format
from accelsim.numerics.kv_codes import kv_codes
from accelsim.numerics.kv_format import KvFormat

FP16_ULP = 2.0**-11
"""Of what a step, a base or a smallest value is rounded by, of its size."""
SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


@st.composite
def caches(draw):
    """Keys or values of any sizes, some channels and some tokens far larger than others."""
    heads, tokens, width = (draw(st.integers(1, most)) for most in (3, 40, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.standard_normal((heads, tokens, width)) * 2.0 ** draw(st.integers(-6, 6))
    x *= 2.0 ** rng.integers(-4, 4, (heads, 1, width)) * 2.0 ** rng.integers(-2, 2, (1, tokens, 1))
    offset = draw(st.sampled_from([0.0, 3.0, -40.0]))
    return (x + offset).astype(np.float32) * rng.integers(0, 2, (1, tokens, 1))


FORMATS = st.builds(
    lambda bits, scales, group: KvFormat.parse(
        f"int{bits}(scales={scales}, group={group}, residual={group})"
    ),
    st.sampled_from([4, 8]),
    st.sampled_from(["group", "power_of_two"]),
    st.integers(1, 40),
)
PARTS = st.sampled_from(["keys", "values"])


def spread(shared, like, group, axis):
    """What a group shares, for each of its elements, by their numbers."""
    return np.take(shared, np.arange(like.shape[axis]) // group, axis=axis)


@settings(deadline=None, max_examples=150)
@given(caches(), FORMATS, PARTS)
def test_codes_are_half_a_step_away(x, fmt, part):
    axis = 1 if part == "keys" else 2
    own = kv_codes(x, fmt, part)
    levels = 2**fmt.element.bits
    if fmt.scales == "group":
        assert own.codes.min() >= 0
        assert own.codes.max() < levels
        step, low = (spread(each, x, fmt.group, axis) for each in (own.step, own.lowest))
        # Step and smallest value are rounded: the largest code may end that much below the peak.
        slack = FP16_ULP * (levels * step + np.abs(low)) + SMALLEST * levels
    else:
        assert np.abs(own.codes).max() < levels // 2
        step = own.base * 2.0 ** -spread(own.shift.astype(float), x, fmt.group, axis)
        slack = (FP16_ULP * step + SMALLEST) * levels / 2
    assert np.all(np.abs(own.values - x) <= step * (0.5 + 1e-5) + slack + 1e-6 * np.abs(x))


@settings(deadline=None, max_examples=60)
@given(caches(), FORMATS, PARTS)
def test_what_is_stored_has_the_bytes_of_the_format(x, fmt, part):
    heads, tokens, width = x.shape
    own = kv_codes(x, fmt, part)
    bits = own.codes.size * fmt.element.bits
    if fmt.scales == "group":
        bits += 16 * (own.step.size + own.lowest.size)
    else:
        bits += 16 * own.base.size + 8 * own.shift.size
    length = tokens if part == "keys" else width
    if length % fmt.group == 0:
        assert bits == pytest.approx(tokens * fmt.row_bits(heads, width), rel=1e-12)
    else:  # The last group is short, and shares as much as a whole one.
        assert bits > tokens * fmt.row_bits(heads, width)


@settings(deadline=None, max_examples=60)
@given(caches(), st.sampled_from([Format.FP8_E4M3, Format.FP8_E5M2]),
       st.sampled_from(["tensor", "head"]))  # fmt: skip
def test_scaled_fp8_reaches_its_largest_number_and_no_further(x, element, scales):
    own = kv_codes(x, KvFormat(element, scales), "keys")
    layout = element.layout
    axes = (1, 2) if scales == "head" else None
    peaks = np.broadcast_to(np.abs(x).max(axis=axes, keepdims=axes is not None), own.scale.shape)
    found = np.abs(own.elements).max(axis=axes, keepdims=axes is not None)
    assert np.all((found == layout.largest) | (peaks.max() == 0) | (peaks.min() == 0))
    ulp = 2.0 ** -(layout.mantissa_bits + 1)
    below = own.scale * layout.smallest_normal * ulp
    assert np.all(np.abs(own.values - x) <= np.abs(x) * (ulp + 1e-6) + below)
    if scales == "tensor":
        assert np.all(own.scale == own.scale[0])


@pytest.mark.parametrize("wrong", [np.inf, np.nan, 7e4])
def test_what_fp16_cannot_hold_is_refused(wrong):
    x = np.ones((1, 2, 4), np.float32)
    x[0, 1, 2] = wrong
    with pytest.raises(QuantizationError) as refusal:
        kv_codes(x, KvFormat.parse("int4"), "values")
    assert str(refusal.value) == (
        "kv: int4: found 1 of 8 values that are not finite or beyond 65504, "
        "allowed: numbers that FP16 holds"
    )
