"""Attention whose K and V are codes in HBM, against float64, closed forms and other kernels."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import AccelsimError
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.registry import get_kernel
from accelsim.loading import LoadedWorkload, load_machine
from accelsim.numerics.formats import Format
from accelsim.numerics.kv_codes import kv_codes
from accelsim.numerics.kv_format import KvFormat
from accelsim.numerics.rounding import round_array
from accelsim.program.ops import Op
from accelsim.program.verifier import verify
from accelsim.simulation import simulate
from accelsim.workload.attention import AttentionProblem
from accelsim.workload.tensors import load_tensors
from tests.oracle.bounds import AttentionSteps, dense_bound
from tests.oracle.machines import any_format_machine
from tests.oracle.recorded import moved_bytes

FORMATS = [
    "int4(group=4, residual=8)",
    "int8(group=4, residual=16)",
    "int4(scales=power_of_two, group=4, residual=8)",
    "int8(scales=power_of_two, group=8, residual=8)",
]


def problem_of(codes, **keys):
    common = {"kind": "attention", "name": "p", "q_heads": 4, "kv_heads": 2, "head_dim": 24}
    lengths = {} if "sequences" in keys else {"q_len": 1, "kv_len": 50}
    source = {"source": "hybrid", "mean": 1, "seed": 7}
    own = common | lengths | {"dtype": "bf16", "kv_codes": codes, "tensors": source}
    return AttentionProblem.model_validate(own | keys)


def recorded(problem, machine=None, **choices):
    own, tensors = get_kernel("split_kv"), load_tensors(problem, Path())
    machine = machine or any_format_machine()
    program, output = own.record(problem, machine, own.parameters(**choices), tensors)
    verify(program)
    return program, output, tensors


def as_multiplied(problem, part, x):
    """Keys or values [heads, tokens, width] as the vector unit makes them, rounded op by op."""
    fmt, own = problem.kv_codes, x.copy()
    tokens = x.shape[1]
    count = tokens - (tokens % fmt.residual if part == "keys" else min(tokens, fmt.residual))
    if not count:
        return own
    codes = kv_codes(x[:, :count], fmt, part)
    axis = 1 if part == "keys" else 2

    def bf16(values):
        return round_array(values, problem.dtype)

    def spread(shared):
        return np.take(shared, np.arange((count, x.shape[2])[axis - 1]) // fmt.group, axis=axis)

    if fmt.scales == "group":
        scaled = bf16(codes.codes.astype(np.float32) * spread(codes.step))
        own[:, :count] = bf16(scaled + spread(codes.lowest))
    elif part == "keys":
        # Codes times powers of two are exact; bases leave the scores.
        own[:, :count] = codes.values
    else:
        step = codes.base * np.ldexp(np.float32(1), -codes.shift)
        own[:, :count] = bf16(codes.codes.astype(np.float32) * spread(step))
    return own


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.integers(1, 70),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 30),
    st.integers(1, 4),
    st.integers(0, 2**32),
)
def test_codes_are_softmax_attention_up_to_rounding(
    codes, kv_len, head_dim, value_dim, tile_k, splits, seed
):
    source = {"source": "uniform", "seed": seed}
    problem = problem_of(
        codes, kv_len=kv_len, head_dim=head_dim, value_dim=value_dim, tensors=source
    )
    splits = min(splits, kv_len)
    program, output, tensors = recorded(problem, tile_k=tile_k, splits=splits)
    plain = load_tensors(problem.model_copy(update={"kv_codes": None}), Path())
    keys = as_multiplied(problem, "keys", plain.k)
    values = as_multiplied(problem, "values", plain.v)
    steps = AttentionSteps(
        stored=Format.BF16, scores=Format.FP32, vector=Format.FP32, weights=Format.BF16,
        output=Format.BF16, kv_len=kv_len, tile_k=kv_len,
    )  # fmt: skip
    made = tensors._replace(k=keys, v=values)
    # Of a merge of splits, and of a base times each score, FP32 rounds a few times more.
    bound = dense_bound(plain.q, keys, values, steps) * (1 + 2.0**-6) + 2.0**-20
    assert np.abs(output - softmax_attention(problem, made)).max() <= bound
    # What was stored is judged by the oracle: BF16 rounds keys and values that it makes once more.
    near = np.abs(keys - tensors.k).max() <= 2.0**-7 * (np.abs(plain.k).max() + 1)
    assert near
    assert np.abs(values - tensors.v).max() <= 2.0**-7 * (np.abs(plain.v).max() + 1)
    # Every matrix of K and V is read once, to the byte; what a group of keys shares once a tile.
    sizes = {
        each.name: each.size_bytes for each in program.tensors if each.name[:2] in ("k_", "v_")
    }
    assert sum(sizes.values()) == problem.tensor_bytes["k"] + problem.tensor_bytes["v"]
    for name, size in sizes.items():
        if name in ("k_step", "k_zero", "k_shift"):
            assert moved_bytes(program, name) >= size
        else:
            assert moved_bytes(program, name) == size


@pytest.mark.parametrize("codes", FORMATS)
def test_the_bytes_are_those_of_the_format(codes):
    problem, fmt = problem_of(codes, kv_len=50, head_dim=32, value_dim=16), KvFormat.parse(codes)
    late = 50 % fmt.residual, fmt.residual
    for part, width, plain in zip(("k", "v"), (32, 16), late, strict=True):
        bits = 2 * ((50 - plain) * fmt.row_bits(1, width) + plain * width * 16)
        assert problem.tensor_bytes[part] == bits / 8
    assert problem.compulsory_bytes == sum(problem.tensor_bytes.values())


@pytest.mark.parametrize(("codes", "ops"), list(zip(FORMATS, [2, 2, 1, 1], strict=True)))
def test_every_code_is_converted_and_scaled_once(codes, ops):
    problem = problem_of(codes, kv_len=48, head_dim=16)
    program, _, _ = recorded(problem, tile_k=8, splits=1)
    fmt = problem.kv_codes
    keys, values = 48 - 48 % fmt.residual, 48 - fmt.residual
    elements = 2 * 16 * (keys + values)
    # Weights and outputs are converted at the rate of FP32.
    assert elements_of(program, Op.CONVERT, Format.BF16) == elements
    scaled = elements_of(program, Op.MULTIPLY, Format.BF16)
    assert scaled == elements
    assert elements_of(program, Op.ADD, Format.BF16) == (ops == 2) * elements


def elements_of(program, op, fmt):
    """Elements of all vector ops of a kind that compute in a format."""
    ops = program.ops
    head = ops[:, 0]
    own = ((head & 0xFF) == op.value) & ((head >> 8 & 0xFF) == fmt.code)
    return int((ops[own, 3] * ops[own, 4]).sum())


@pytest.mark.parametrize("codes", FORMATS)
def test_sequences_of_different_lengths_are_each_alone(codes):
    sequences = [{"new": 1, "cached": 30}, {"new": 1, "cached": 9, "count": 2}]
    problem = problem_of(codes, sequences=sequences)
    _, output, tensors = recorded(problem, tile_k=8, splits=2)
    exact = softmax_attention(problem, tensors)
    assert np.abs(output - exact).max() <= 3 * 2.0**-7 * np.abs(exact).max()


@pytest.mark.parametrize("codes", FORMATS)
def test_the_program_does_not_depend_on_values(codes):
    problem, own = problem_of(codes), get_kernel("split_kv")
    with_numbers, _, _ = recorded(problem, tile_k=8, splits=2)
    parameters = own.parameters(tile_k=8, splits=2)
    without, _ = own.record(problem, any_format_machine(), parameters, None)
    np.testing.assert_array_equal(without.ops, with_numbers.ops)


def step_of(codes=None):
    return problem_of(codes, batch=4, kv_len=2048, head_dim=128, q_heads=8, tensors=None)


def test_a_quarter_of_the_bytes_is_no_quarter_of_the_time():
    """The vector unit of the machine makes 64 elements a cycle, and the memory brings 37 bytes."""
    plain, coded = (
        simulate("ascend-910b", LoadedWorkload(step_of(codes), Path()), "split_kv(splits=3)")
        for codes in (None, "int4")
    )
    assert coded.hbm_read_bytes < 0.4 * plain.hbm_read_bytes
    assert coded.cycles > 0.8 * plain.cycles
    assert coded.bound_by == "vector"
    # Each element takes three ops of the vector unit of its core; 24 cores share the ranges.
    machine = load_machine("ascend-910b")
    tokens = 4 * 2 * (2048 + 2048 - 128)
    bound = 3 * tokens * 128 / machine.vector.lanes[Format.BF16] / machine.cores
    assert coded.cycles > bound


@pytest.mark.parametrize(
    ("machine", "kernel", "keys", "expected"),
    [
        (
            "tender-asic",
            None,
            {},
            "workload p: machine tender-asic cannot read K in int4 with rows of 24 and V with rows "
            "of 24 elements: it has no matrix unit, and its integer array reads K and V of the "
            "format and width of Q, allowed: bf16, with rows of 24",
        ),
        (
            "ascend-910b",
            "flash",
            {},
            "workload p: kernel flash reads K and V that are no codes, found kv_codes = int4; "
            "kernels that read these: split_kv",
        ),
        (
            "ascend-910b",
            "flash",
            {"sequences": [{"new": 1, "cached": 9}, {"new": 4}]},
            "workload p: kernel flash reads K and V that are no codes, found kv_codes = int4; no "
            "kernel reads these with the sequences of this problem",
        ),
    ],
)
def test_who_cannot_read_codes_says_so(machine, kernel, keys, expected):
    problem = problem_of("int4", tensors=None, **keys)
    with pytest.raises(AccelsimError) as refusal:
        simulate(machine, LoadedWorkload(problem, Path()), kernel)
    assert str(refusal.value) == expected
