"""int_flash against a second program, bit for bit, and against float64 where codes are exact."""

import math
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled, reference
from accelsim.errors import AccumulatorWarning, ConfigError, DoesNotFitError, QuantizationError
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.loading import load_machine
from accelsim.program.ops import Op
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.codes import scale_of
from accelsim.quantization.schemes import per_row
from accelsim.quantization.statements import shifted_sums
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors
from tests.oracle.recorded import moved_bytes, run

MACHINE = load_machine("tender-asic")
SINGLE = np.float32
exponential = np.vectorize(math.exp)


def problem_of(q_len=11, kv_len=29, *, heads=1, group=1, dim=16, causal=False, batch=1):
    return AttentionProblem(
        kind="attention",
        name="p",
        batch=batch,
        q_heads=heads * group,
        kv_heads=heads,
        head_dim=dim,
        q_len=q_len,
        kv_len=kv_len,
        causal=causal,
    )


def normal_tensors(problem, seed=0):
    """Normal values that are FP16 numbers, one channel of Q thirty times as wide."""
    rng = np.random.default_rng(seed)
    values = {name: rng.standard_normal(shape) for name, shape in problem.input_shapes.items()}
    values["q"][..., 0] *= 30
    return AttentionTensors(**{n: x.astype(np.float16).astype(SINGLE) for n, x in values.items()})


def int_flash(problem, tensors, machine=MACHINE, **settings):
    return run("int_flash", problem, tensors, machine=machine, **settings)


def halved_sum(x):
    """Row sums in FP32: the second half is added to the first until one is left."""
    while x.shape[1] > 1:
        half = (x.shape[1] + 1) // 2
        x = np.concatenate(
            [x[:, : x.shape[1] - half] + x[:, half:], x[:, x.shape[1] - half : half]], 1
        )
    return x


def emulated_head(q, k, v, v_steps, causal, options, weight_bits, tile_k):
    """The output of one head in FP16, in the order that the kernel's docstring states."""
    largest_weight = 2 ** (weight_bits - 1) - 1
    groups = channel_groups(q[None], options)
    k_codes, k_scale = per_row(k, options.bits)
    v_codes = np.rint(v * (SINGLE(1) / v_steps.astype(SINGLE))).astype(np.int64)
    parts = []
    for span in groups.spans(len(q)):
        codes = groups.encode(q, span)
        sums = shifted_sums(codes, k_codes.T, groups.group[span.chunk], options.groups)
        step = groups.scale[span.chunk] * 2.0 ** (1 - options.groups)
        factor = SINGLE(step / math.sqrt(q.shape[1]))
        parts.append(sums.astype(SINGLE) * (k_scale.T.astype(SINGLE) * factor))
    scores = np.concatenate(parts)
    if causal:
        hidden = np.arange(len(k)) > np.arange(len(q))[:, None] + len(k) - len(q)
        scores[hidden] = -np.inf
    largest = np.full((len(q), 1), -np.inf, SINGLE)
    total, output = np.zeros((len(q), 1), SINGLE), np.zeros(q.shape, SINGLE)
    for start in range(0, len(k), tile_k):
        x = scores[:, start : start + tile_k]
        new_largest = np.maximum(largest, x.max(1, keepdims=True))
        rescale = exponential((largest - new_largest).astype(float)).astype(SINGLE)
        x = exponential((x - new_largest).astype(float)).astype(SINGLE)
        total = total * rescale + halved_sum(x)
        weights = np.rint(x * SINGLE(largest_weight)).astype(np.int64)
        output = output * rescale + (weights @ v_codes[start : start + tile_k]).astype(SINGLE)
        largest = new_largest
    output = output * (v_steps / largest_weight).astype(SINGLE) / total
    return output.astype(np.float16).astype(SINGLE)


@pytest.mark.parametrize(
    ("bits", "weight_bits", "groups"), [(8, 8, 4), (4, 4, 1), (4, 8, 16), (8, 4, 2)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_every_bit_is_as_specified(bits, weight_bits, groups, causal):
    problem = problem_of(heads=2, group=2, causal=causal)
    tensors = normal_tensors(problem)
    options = GroupOptions(bits=bits, base="static", groups=groups, chunk_rows=6)
    expected = []
    for head, q in enumerate(tensors.q):
        k, v = tensors.k[head // 2], tensors.v[head // 2]
        steps = scale_of(np.abs(v).max(0), bits)
        expected.append(emulated_head(q, k, v, steps, causal, options, weight_bits, 8))
    _, output = int_flash(
        problem,
        tensors,
        bits=bits,
        weight_bits=weight_bits,
        groups=groups,
        chunk_rows=6,
        tile_q=4,
        tile_k=8,
    )
    np.testing.assert_array_equal(output, np.concatenate(expected))


@settings(max_examples=30)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([4, 8]),
    st.integers(1, 16),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 2**32),
)
def test_who_makes_the_codes_changes_no_bit(q_len, kv_len, bits, groups, tile_q, tile_k, seed):
    problem = problem_of(q_len, kv_len, group=2)
    tensors = normal_tensors(problem, seed)
    choices = {"bits": bits, "groups": groups, "chunk_rows": 7, "tile_q": tile_q, "tile_k": tile_k}
    _, here = int_flash(problem, tensors, **choices)
    _, before = int_flash(problem, tensors, input="quantized", **choices)
    np.testing.assert_array_equal(here, before)


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_that_are_exact_leave_the_rounding_of_weights(bits):
    """Q, K and V are whole multiples of one power of two, and reach the largest code.

    Weights are off by half a step of 1 / largest at most, so the output by n / 2 such steps times
    the largest value, over a row sum of at least 1; FP16 adds its own rounding.
    """
    problem = problem_of(9, 10)
    largest = 2 ** (bits - 1) - 1
    rng = np.random.default_rng(4)
    codes = {
        name: rng.integers(-largest, largest + 1, shape).astype(SINGLE)
        for name, shape in problem.input_shapes.items()
    }
    for values in codes.values():
        values[..., 0] = largest  # every key and the columns of Q reach it
    codes["v"][:, 0, :] = largest
    tensors = AttentionTensors(codes["q"] / 256, codes["k"] / 256, codes["v"])
    _, output = int_flash(problem, tensors, bits=bits, groups=1, tile_k=10)
    error = np.abs(output - softmax_attention(problem, tensors)).max()
    half_step = 0.5 / 127
    assert error <= largest * (10 * half_step + 2.0**-10)


def test_fewer_bits_lose_more():
    problem = problem_of(40, 64, causal=True, group=2)
    tensors = normal_tensors(problem)
    exact = softmax_attention(problem, tensors)
    errors = [
        np.linalg.norm(int_flash(problem, tensors, bits=bits, weight_bits=weight_bits)[1] - exact)
        for bits, weight_bits in ((8, 8), (8, 4), (4, 4))
    ]
    assert errors == sorted(errors)
    assert errors[0] < errors[2] / 4


def test_groups_serve_queries_whose_channels_differ():
    problem = problem_of(40, 64)
    tensors = normal_tensors(problem)
    exact = softmax_attention(problem, tensors)
    one, four = (
        np.linalg.norm(int_flash(problem, tensors, bits=4, groups=groups)[1] - exact)
        for groups in (1, 4)
    )
    assert four < one


@settings(max_examples=40)
@given(
    st.integers(1, 100),
    st.integers(1, 100),
    st.sampled_from([4, 8]),
    st.booleans(),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 60),
    st.sampled_from(["float", "quantized"]),
)
def test_traffic_is_the_closed_form(q_len, kv_len, bits, causal, tile_q, tile_k, chunk_rows, given):
    causal = causal and q_len <= kv_len
    problem = problem_of(q_len, kv_len, heads=2, group=2, causal=causal, batch=2)
    choices = {"bits": bits, "chunk_rows": chunk_rows, "tile_q": tile_q, "tile_k": tile_k}
    program, _ = int_flash(problem, None, input=given, **choices)
    dim, heads = 16, 8
    row_bytes = dim * bits // 8
    tiles = [
        (row, min(tile_q, chunk_rows - row % chunk_rows, q_len - row))
        for start in range(0, q_len, chunk_rows)
        for row in range(start, min(start + chunk_rows, q_len), tile_q)
    ]
    last_seen = [kv_len - q_len + row + rows if causal else kv_len for row, rows in tiles]
    keys = heads * sum(min(ceil(seen / tile_k) * tile_k, kv_len) for seen in last_seen)
    is_made = given == "quantized"
    q_rows, kv_rows = heads * q_len, heads // 2 * kv_len
    made = {"q": q_rows, "k": kv_rows, "v": kv_rows}
    for name, rows in made.items():
        read = q_rows if name == "q" else keys
        written = 0 if is_made else rows
        assert moved_bytes(program, f"{name}_codes") == (read + written) * row_bytes
        if not is_made:
            assert moved_bytes(program, name) == rows * dim * 2
    assert moved_bytes(program, "k_scale") == (keys + (0 if is_made else kv_rows)) * 4
    assert moved_bytes(program, "order") == heads * len(tiles) * dim * 4
    assert moved_bytes(program, "v_scale") == heads * len(tiles) * dim * 4
    assert moved_bytes(program, "o") == heads * q_len * dim * 2
    products = program.ops[program.op_codes == Op.INT_MATMUL]
    assert (products[:, 3] * products[:, 4] * products[:, 5]).sum() == 2 * sum(
        heads * rows * min(ceil(seen / tile_k) * tile_k, kv_len) * dim
        for (_, rows), seen in zip(tiles, last_seen, strict=True)
    )


@pytest.mark.parametrize("settings", [{}, {"input": "quantized", "bits": 4}])
def test_both_engines_agree(settings):
    problem = problem_of(20, 50, heads=2, group=2, causal=True)
    program, _ = int_flash(problem, None, tile_q=8, tile_k=16, **settings)
    runs = [engine.schedule(program, MACHINE) for engine in (compiled, reference)]
    assert runs[0].cycles == runs[1].cycles
    np.testing.assert_array_equal(runs[0].start, runs[1].start)


def test_recording_without_numbers_gives_the_same_program():
    problem = problem_of(20, 50, causal=True)
    with_numbers, _ = int_flash(problem, normal_tensors(problem), groups=1)
    without, _ = int_flash(problem, None, groups=1)
    np.testing.assert_array_equal(with_numbers.ops, without.ops)


def test_a_small_accumulator_overflows_and_says_so():
    """One wide channel in the first of 4 groups, the other 15 in the last: 2^14 (2^3 + 15)."""
    machine = load_machine("tender-asic", {"int_mac.accumulator_bits": 12})
    problem = problem_of()
    with pytest.warns(AccumulatorWarning) as warned:
        program, _ = int_flash(problem, normal_tensors(problem), machine=machine, tile_k=16)
    assert program.overflows == program.statistics["accumulator_overflows"] > 0
    assert [str(warning.message).partition("; ")[0] for warning in warned] == [
        "int_flash on p: sums of int8 x int8 products can reach 2^18.5, an accumulator of machine "
        "tender-asic holds less than 2^11",
        "int_flash on p: sums of int8 x int8 products can reach 2^18.0, an accumulator of machine "
        "tender-asic holds less than 2^11",
    ]
    program, _ = int_flash(problem, normal_tensors(problem), tile_k=16)
    assert program.statistics == {
        "accumulator_overflows": 0,
        "accumulator_bound_bits": pytest.approx(14 + math.log2(23)),
    }


def test_a_machine_without_the_array_is_refused():
    with pytest.raises(DoesNotFitError) as refusal:
        int_flash(problem_of(), None, machine=load_machine("ascend-910b-no-l2"))
    assert str(refusal.value) == (
        "machine ascend-910b-no-l2 has no int_mac, which int_flash on p uses; "
        "give machine.int_mac to add one"
    )


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_values_that_are_not_finite_are_refused(name):
    problem = problem_of()
    tensors = normal_tensors(problem)
    getattr(tensors, name)[0, 3, 2] = np.nan
    with pytest.raises(QuantizationError, match=f"{name}: found 1 of .* infinite or NaN"):
        int_flash(problem, tensors)


@pytest.mark.parametrize(("key", "value"), [("groups", 0), ("groups", 33), ("bits", 6)])
def test_parameters_out_of_range_are_refused(key, value):
    with pytest.raises(ConfigError, match=key):
        int_flash(problem_of(), None, **{key: value})
