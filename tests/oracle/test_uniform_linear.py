"""The quantized and requantized kernels against their statements, bit by bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.loading import load_machine
from accelsim.quantization.channel_groups import GroupOptions
from accelsim.quantization.schemes import per_column, per_row, per_tensor
from tests.handmade import changed
from tests.oracle.linear_statements import (
    channel_result,
    linear,
    requantized_result,
    uniform_result,
    weights_of,
)
from tests.oracle.recorded import moved_bytes, run

MACHINE = changed(load_machine("tender-asic"), "int_mac.can_shift", lambda _: False)
bits = st.sampled_from([4, 8])
sides = st.integers(1, 40)
tiles = st.none() | st.integers(1, 24).map(lambda half: 2 * half)
seeds = st.integers(0, 2**32)


@settings(max_examples=100)
@given(sides, sides, st.integers(1, 60), bits, bits, st.integers(1, 16), st.integers(1, 40), seeds)
def test_explicit_requantization_needs_no_shift(m, n, k, of_x, of_w, groups, chunk_rows, seed):
    problem, tensors = linear(m, n, k, seed)
    chosen = {"groups": groups, "chunk_rows": chunk_rows, "use_bias": seed % 3 == 0}
    chosen["base"] = "row" if seed % 2 else "static"
    _, output = run(
        "requantized",
        problem,
        tensors,
        machine=MACHINE,
        activation_bits=of_x,
        weight_bits=of_w,
        **chosen,
    )
    expected = requantized_result(
        tensors, GroupOptions(bits=of_x, **chosen), weights_of(tensors, of_w)
    )
    np.testing.assert_array_equal(output, expected)


@settings(max_examples=150)
@given(
    sides,
    sides,
    st.integers(1, 60),
    st.sampled_from(["tensor", "dynamic_tensor", "row"]),
    st.sampled_from(["column", "tensor"]),
    st.sampled_from(["float", "quantized"]),
    bits,
    bits,
    tiles,
    seeds,
)
def test_scales_that_leave_the_sum(m, n, k, shared, of_weights, given_as, of_x, of_w, tile, seed):
    problem, tensors = linear(m, n, k, seed)
    _, output = run(
        "quantized",
        problem,
        tensors,
        machine=MACHINE,
        activation_scale=shared,
        weight_scale=of_weights,
        input=given_as,
        activation_bits=of_x,
        weight_bits=of_w,
        tile_k=tile,
        tile_n=tile,
    )
    x = per_row(tensors.a, of_x) if shared == "row" else per_tensor(tensors.a, of_x)
    weights = weights_of(tensors, of_w, of_weights)
    np.testing.assert_array_equal(output, uniform_result(x, weights, shared != "tensor"))


@settings(max_examples=30)
@given(sides, sides, st.integers(1, 40), bits, bits, st.sampled_from(["float", "quantized"]), seeds)
def test_a_scale_for_each_channel_is_added_in_floating_point(m, n, k, of_x, of_w, given_as, seed):
    problem, tensors = linear(m, n, k, seed)
    _, output = run(
        "quantized",
        problem,
        tensors,
        machine=MACHINE,
        activation_scale="channel",
        input=given_as,
        activation_bits=of_x,
        weight_bits=of_w,
    )
    x = per_column(tensors.a, of_x)
    np.testing.assert_array_equal(output, channel_result(x, weights_of(tensors, of_w)))


@pytest.mark.parametrize(
    ("shared", "k", "times"), [("tensor", 700, 1), ("row", 700, 1), ("row", 20_000, 2)]
)
def test_x_is_read_once_unless_a_row_is_too_wide(shared, k, times):
    """A tile of the quantizing phase takes 8,192 elements of tender-asic's scratchpad."""
    problem, tensors = linear(3, 5, k, seed=3)
    program, output = run("quantized", problem, tensors, machine=MACHINE, activation_scale=shared)
    x = per_row(tensors.a, 8) if shared == "row" else per_tensor(tensors.a, 8)
    expected = uniform_result(x, weights_of(tensors, 8), shared == "row")
    np.testing.assert_array_equal(output, expected)
    assert moved_bytes(program, "x") == times * 3 * k * 2
