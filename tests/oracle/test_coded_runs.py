"""Linears over rows whose scales are of heads: a phase brings codes to one scale for each row.

The statement is `quantization.coded_rows`, and the rest of the kernel is what it is without heads.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import QuantizationError
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.program.ops import Unit
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.coded_rows import aligned, coded_runs
from accelsim.quantization.statements import shifted_sums
from tests.oracle.linear_statements import linear, uniform_result, weights_of
from tests.oracle.recorded import moved_bytes, run

MACHINE = load_machine("tender-asic")
CODED = {"input": "quantized"}
GROUPS = 5
bits = st.sampled_from([4, 8])


def computed(name, problem, tensors, **asked):
    return run(name, problem, tensors, machine=MACHINE, **CODED, **asked)


def stated(name, tensors, run_size, width, weights):
    """Return Y bit by bit: codes of one scale a row, exact sums, FP32 for scales, then FP16."""
    x = tensors.a
    if name == "quantized":
        return uniform_result(aligned(coded_runs(x, run_size), width), weights, True)
    options = GroupOptions(bits=width, groups=GROUPS, chunk_rows=len(x))
    groups = channel_groups(x[None], options)
    row = aligned(coded_runs(x * groups.channel_factors(0), run_size), width)
    sums = shifted_sums(row.codes, weights.codes, groups.group[0], GROUPS)
    values = sums.astype(np.float32) * (2.0 ** (1 - GROUPS) * weights.scale).astype(np.float32)
    return (values * row.scale.astype(np.float32)).astype(np.float16).astype(np.float32)


@settings(max_examples=100)
@given(
    st.sampled_from(["tender", "quantized"]),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 6),
    st.sampled_from([2, 8, 10]),
    bits,
    bits,
    st.none() | st.integers(1, 4),
    st.integers(0, 2**32),
)
def test_every_bit_is_that_of_the_statement(name, m, n, runs, size, width, w_width, panel, seed):
    problem, tensors = linear(m, n, runs * size, seed)
    asked = {"activation_bits": width, "weight_bits": w_width, "input_run": size}
    asked |= {"tile_m": 7, "tile_n": 6, "tile_k": panel and panel * size}
    asked |= {} if name == "quantized" else {"groups": GROUPS}
    _, output = computed(name, problem, tensors, **asked)
    weights = weights_of(tensors, w_width)
    np.testing.assert_array_equal(output, stated(name, tensors, size, width, weights))


def test_one_run_of_all_channels_is_a_scale_a_row():
    problem, tensors = linear(20, 12, 64, seed=1)
    for name in ("tender", "requantized", "quantized"):
        _, whole = computed(name, problem, tensors)
        _, one = computed(name, problem, tensors, input_run=64)
        np.testing.assert_array_equal(one, whole)


def test_explicit_requantization_differs_by_the_roundings_of_its_sums():
    problem, tensors = linear(20, 12, 64, seed=2, dtype=Format.FP32)
    _, shifted = computed("tender", problem, tensors, groups=GROUPS, input_run=16)
    _, added = computed("requantized", problem, tensors, groups=GROUPS, input_run=16)
    np.testing.assert_allclose(added, shifted, rtol=1e-4, atol=1e-6 * np.abs(shifted).max())


@pytest.mark.parametrize("width", [4, 8])
def test_codes_are_read_and_stored_once_more(width):
    """8 bits each as they come, and a scale for each head and row; then those that are multiplied,
    and a scale for each row."""
    problem, _ = linear(40, 30, 96, seed=3)
    program, _ = computed("tender", problem, None, activation_bits=width, input_run=32)
    assert moved_bytes(program, "x_codes") == 40 * 96
    assert moved_bytes(program, "x_scale") == 40 * 3 * 4
    stored = {"aligned_codes": 40 * 96 * width // 8, "aligned_scale": 40 * 4}
    for name, size in stored.items():
        assert moved_bytes(program, name) == 2 * size
    assert program.write_bytes == moved_bytes(program, "y") + sum(stored.values())


def test_aligning_takes_three_ops_an_element():
    problem, _ = linear(40, 30, 96, seed=4)
    plain, _ = computed("tender", problem, None)
    runs, _ = computed("tender", problem, None, input_run=32)

    def elements(program):
        is_vector = program.units == Unit.VECTOR
        return int((program.ops[is_vector, 3] * program.ops[is_vector, 4]).sum())

    # Beside those, a maximum and a quotient for each scale.
    assert elements(runs) - elements(plain) == 3 * 40 * 96 + 2 * 40 * 3


def test_a_program_without_numbers_is_the_same():
    problem, tensors = linear(40, 30, 96, seed=5)
    asked = {"input_run": 32, "groups": 1, "activation_bits": 4}
    with_numbers, _ = computed("tender", problem, tensors, **asked)
    alone, _ = computed("tender", problem, None, **asked)
    np.testing.assert_array_equal(with_numbers.ops, alone.ops)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"input_run": 5}, "found input_run = 5 of 64 channels, allowed: a divisor of them"),
        ({"input_run": 16, "input": "float"}, "found input_run = 16 with input = float, allowed"),
        ({"input_run": 1, "activation_bits": 4}, "with codes of 4 bits, allowed: runs that begin"),
        ({"input_run": 16, "base": "static"}, "beside ranges that are not of rows, allowed: one"),
        ({"input_run": 16, "candidates": 2}, "beside several candidates, allowed: one base a row"),
    ],
)
def test_runs_that_cannot_be_are_refused(asked, message):
    problem, _ = linear(8, 8, 64, seed=6)
    with pytest.raises(QuantizationError, match=message):
        run("tender", problem, None, machine=MACHINE, **CODED | asked)
