"""The tender kernel against its statement: bit by bit, and within rounding of float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from tests.oracle.bounds import roundoff, underflow
from tests.oracle.linear_statements import exact_result, linear, shifted_result, weights_of
from tests.oracle.recorded import run

MACHINE = load_machine("tender-asic")
bits = st.sampled_from([4, 8])


def tender(problem, tensors, **settings):
    return run("tender", problem, tensors, machine=MACHINE, **settings)


@st.composite
def drawn_settings(draw):
    """Choices of the kernel; panels of 4-bit codes begin with a whole byte."""
    return {
        "activation_bits": draw(bits),
        "weight_bits": draw(bits),
        "weight_scale": draw(st.sampled_from(["column", "tensor"])),
        "input": draw(st.sampled_from(["float", "quantized"])),
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
        **{name: chosen[name] for name in ("groups", "chunk_rows", "use_bias")},
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


def test_the_result_is_float64_within_the_roundings_of_the_epilogue():
    """What is scaled is rounded as a sum, in its scale, as a product and when the bias is added.

    The bias is rounded once less. Then all is rounded to FP16.
    """
    problem, tensors = linear(70, 50, 133, seed=1)
    options, weights = GroupOptions(bits=8, groups=8), weights_of(tensors, 8)
    _, output = tender(problem, tensors)
    exact = exact_result(tensors, options, weights)
    groups = channel_groups(tensors.a[None], options)
    (span,) = groups.spans(problem.m)
    restored = groups.encode(tensors.a, span) * groups.channel_scales(span.chunk)
    terms = (np.abs(restored) + np.abs(groups.bias[span.chunk])) @ np.abs(weights.values)
    in_fp32 = terms * np.expm1(4 * roundoff(Format.FP32)) + 4 * underflow(Format.FP32)
    bound = in_fp32 + (np.abs(exact) + in_fp32) * roundoff(Format.FP16) + underflow(Format.FP16)
    assert (np.abs(output - exact) <= bound).all()


@pytest.mark.parametrize("shape", [(1, 40, 70), (16, 33, 129), (300, 20, 65)])
def test_what_the_producer_quantized_gives_the_same(shape):
    problem, tensors = linear(*shape, seed=2)
    _, here = tender(problem, tensors)
    program, before = tender(problem, tensors, input="quantized")
    np.testing.assert_array_equal(here, before)
    assert "x" not in {tensor.name for tensor in program.tensors}
