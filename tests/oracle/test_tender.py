"""The tender kernel against its statement: bit by bit, and within rounding of float64."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.statements import grouped_values
from tests.oracle.bounds import roundoff, underflow
from tests.oracle.linear_statements import exact_result, linear, shifted_result, weights_of
from tests.oracle.recorded import run

MACHINE = load_machine("tender-asic")
bits = st.sampled_from([4, 8])


def tender(problem, tensors, **settings):
    return run("tender", problem, tensors, machine=MACHINE, **settings)


@st.composite
def drawn_bases(draw):
    """Where the scale of group 0 comes from."""
    base = draw(st.sampled_from(["row", "static"]))
    candidates = draw(st.integers(1, 8)) if base == "row" else 1
    ranges = draw(st.sampled_from(["largest", "typical"])) if base == "row" else "largest"
    quantile = draw(st.sampled_from([0.9, 1])) if ranges == "largest" else 1
    return {"base": base, "candidates": candidates, "ranges": ranges, "quantile": quantile}


@st.composite
def drawn_settings(draw):
    """Choices of the kernel; panels of 4-bit codes begin with a whole byte."""
    return {
        "activation_bits": draw(bits),
        "weight_bits": draw(bits),
        "weight_scale": draw(st.sampled_from(["column", "tensor"])),
        "input": draw(st.sampled_from(["float", "quantized"])),
        **draw(drawn_bases()),
        "groups": draw(st.integers(1, 16)),
        "chunk_rows": draw(st.integers(1, 40)),
        "use_bias": draw(st.booleans()),
        "tile_m": draw(st.none() | st.integers(1, 48)),
        "tile_n": draw(st.none() | st.integers(1, 48)),
        "tile_k": draw(st.none() | st.integers(1, 24).map(lambda half: 2 * half)),
    }


def options_of(chosen):
    return GroupOptions(
        bits=chosen["activation_bits"],
        **{
            name: chosen[name]
            for name in chosen.keys() & {field.name for field in fields(GroupOptions)}
        },
    )


@settings(max_examples=150)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 60),
    drawn_settings(),
    st.integers(0, 2**32),
)
def test_every_bit_is_that_of_the_statement(m, n, k, chosen, seed):
    problem, tensors = linear(m, n, k, seed)
    weights = weights_of(tensors, chosen["weight_bits"], chosen["weight_scale"])
    program, output = tender(problem, tensors, **chosen)
    assert program.overflows == 0
    np.testing.assert_array_equal(output, shifted_result(tensors, options_of(chosen), weights))


@pytest.mark.parametrize("base", ["row", "static"])
def test_the_result_is_float64_within_the_roundings_of_the_epilogue(base):
    """What is scaled is rounded as a sum, in its scales, as products and when the bias is added.

    The bias is rounded less often. Then all is rounded to FP16.
    """
    problem, tensors = linear(70, 50, 133, seed=1)
    options = GroupOptions(bits=8, groups=8, base=base, use_bias=True)
    weights = weights_of(tensors, 8)
    _, output = tender(problem, tensors, base=base, use_bias=True)
    exact = exact_result(tensors, options, weights)
    groups = channel_groups(tensors.a[None], options)
    (span,) = groups.spans(problem.m)
    restored = groups.quantize(tensors.a, span).values
    terms = (np.abs(restored) + np.abs(groups.bias[span.chunk])) @ np.abs(weights.values)
    in_fp32 = terms * np.expm1(5 * roundoff(Format.FP32)) + 5 * underflow(Format.FP32)
    bound = in_fp32 + (np.abs(exact) + in_fp32) * roundoff(Format.FP16) + underflow(Format.FP16)
    assert (np.abs(output - exact) <= bound).all()


@pytest.mark.parametrize("shape", [(1, 40, 70), (16, 33, 129), (300, 20, 65)])
def test_what_the_producer_quantized_gives_the_same(shape):
    problem, tensors = linear(*shape, seed=2)
    _, here = tender(problem, tensors)
    program, before = tender(problem, tensors, input="quantized")
    np.testing.assert_array_equal(here, before)
    assert "x" not in {tensor.name for tensor in program.tensors}


def test_a_row_that_is_larger_loses_no_more_than_its_size():
    """The base is the row's: the same row 64 times as large has the same codes, and 64 times Y."""
    problem, tensors = linear(8, 20, 90, seed=3, dtype=Format.FP32)
    large = tensors._replace(a=tensors.a * np.float32(64))
    _, output = tender(problem, tensors, chunk_rows=8, groups=5)
    _, of_large = tender(problem, large, chunk_rows=8, groups=5)
    np.testing.assert_array_equal(of_large, 64 * output)


def test_several_bases_lose_no_more_than_one_of_what_they_judge_by():
    _, tensors = linear(30, 20, 90, seed=4)
    x = tensors.a.astype(np.float64)

    def lost(candidates):
        groups = channel_groups(
            tensors.a[None], GroupOptions(bits=4, groups=4, candidates=candidates)
        )
        return np.square(grouped_values(tensors.a, groups) - x).sum(1)

    one, four = lost(1), lost(4)
    # What is compared are FP32 sums of 90 squares.
    assert (four <= one * (1 + 90 * roundoff(Format.FP32))).all()
    assert four.sum() < one.sum()


@pytest.mark.parametrize(
    "form",
    [
        {"base": "static", "rounding": "down"},
        {"base": "row", "candidates": 4, "activation_bits": 4},
        {
            "ranges": "typical",
            "groups": 4,
            "candidates": 6,
            "activation_bits": 4,
            "rotation": "hadamard",
        },
    ],
)
def test_clipped_codes_are_counted_as_the_calibration_counts_them(form):
    """Calibrated on the X of the problem itself, so that both have seen the same."""
    problem, tensors = linear(40, 30, 70, seed=5)
    found = tender(problem, tensors, **form)[0].statistics
    assert found["codes_clipped"] == found["codes_clipped_in_calibration"] > 0
    given = tender(problem, tensors, input="quantized", **form)[0].statistics
    assert "codes_clipped" not in given


def test_nothing_is_clipped_where_the_range_is_that_of_the_row():
    problem, tensors = linear(40, 30, 70, seed=5)
    assert not [name for name in tender(problem, tensors)[0].statistics if "clipped" in name]
