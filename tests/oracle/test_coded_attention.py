"""Attention that stores codes, a scale for each row of a head: its statement, its bytes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import ConfigError, QuantizationError, WorkloadError
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.coded_rows import coded_runs
from accelsim.quantization.rotation import hadamard_rotation
from accelsim.workload.problem import AttentionProblem, SequenceSpec
from accelsim.workload.tensors import load_tensors
from tests.oracle.recorded import MACHINE, moved_bytes, run

ARRAY = load_machine("tender-asic")
DIM = 16
RANDOM = {"source": "uniform", "amplitude": 2, "mean": 0.3, "seed": 5}
KERNELS = {"flash": MACHINE, "int_flash": ARRAY}


def problem_of(dtype=Format.FP32, *, batch=1, kv_heads=2, q_len=11, causal=True, seed=5):
    return AttentionProblem(
        kind="attention",
        name="drawn",
        batch=batch,
        q_heads=4,
        kv_heads=kv_heads,
        head_dim=DIM,
        q_len=q_len,
        kv_len=q_len + 6,
        causal=causal,
        dtype=dtype,
        tensors=RANDOM | {"seed": seed},
    )


def attend(name, problem, **asked):
    return run(name, problem, load_tensors(problem, Path()), machine=KERNELS[name], **asked)


def by_token(heads, problem):
    """Return rows of heads, one head after the other, as rows of all heads."""
    shaped = heads.reshape(problem.batch, problem.q_heads, -1, DIM)
    return shaped.swapaxes(1, 2).reshape(-1, problem.q_heads * DIM)


def stated(name, problem, form, **asked):
    """Return what the codes stand for, as `quantization` states it of the output in FP32."""
    x = by_token(attend(name, problem, **asked)[1], problem)
    exact = get_kernel(name).oracle(problem, load_tensors(problem, Path()))
    options = GroupOptions(groups=form.get("code_groups", 1), chunk_rows=len(x))
    factors = channel_groups(
        by_token(exact, problem).astype(np.float32)[None], options
    ).channel_factors(0)
    block = form.get("code_rotation")
    rotation = hadamard_rotation(x.shape[1], block) if block else None
    x = rotation.of_activations(x) if rotation else x
    values = (coded_runs(x * factors, DIM).values / factors).astype(np.float32)
    return rotation.of_activations(values) if rotation else values


@settings(max_examples=40)
@given(
    st.sampled_from(list(KERNELS)),
    st.integers(1, 2),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([{"code_groups": 1}, {"code_groups": 4}, {"code_rotation": 8}]),
    st.integers(1, 20),
    st.integers(0, 2**32),
)
def test_every_bit_is_that_of_the_statement(name, batch, kv_heads, form, tile_q, seed):
    problem = problem_of(batch=batch, kv_heads=kv_heads, seed=seed)
    tiles = {"tile_q": tile_q, "tile_k": 7}
    _, output = attend(name, problem, codes="int8", **form, **tiles)
    expected = stated(name, problem, form, **tiles)
    np.testing.assert_array_equal(by_token(output, problem), expected)


@pytest.mark.parametrize("query_tiles", [1, 2])
@pytest.mark.parametrize("fold", [False, True])
def test_tiles_in_turn_and_folded_heads_have_the_same_codes(query_tiles, fold):
    """Tiles that span heads take the groups of each."""
    problem, form = problem_of(batch=2), {"code_groups": 3}
    tiles = {"tile_q": 9, "tile_k": 8, "query_tiles": query_tiles, "fold": fold}
    _, output = attend("flash", problem, codes="int8", **form, **tiles)
    expected = stated("flash", problem, form, **tiles)
    np.testing.assert_array_equal(by_token(output, problem), expected)


@pytest.mark.parametrize("name", KERNELS)
def test_the_output_is_a_byte_an_element_and_a_scale_a_row(name):
    problem = problem_of(Format.FP16)
    plain, _ = run(name, problem, None, machine=KERNELS[name])
    coded, _ = run(name, problem, None, machine=KERNELS[name], codes="int8")
    rows = 4 * 11
    assert moved_bytes(plain, "o") == rows * DIM * 2
    assert moved_bytes(coded, "o_codes") == rows * DIM
    assert moved_bytes(coded, "o_scale") == rows * 4
    assert "o" not in {tensor.name for tensor in coded.tensors}
    assert coded.read_bytes == plain.read_bytes


@pytest.mark.parametrize("name", KERNELS)
def test_a_program_without_numbers_is_the_same(name):
    problem, form = problem_of(Format.FP16), {"codes": "int8", "code_groups": 3}
    alone, _ = run(name, problem, None, machine=KERNELS[name], **form)
    np.testing.assert_array_equal(attend(name, problem, **form)[0].ops, alone.ops)


def test_sequences_of_different_lengths_have_codes_without_groups():
    sequences = [SequenceSpec(new=3, cached=5), SequenceSpec(new=1, cached=9)]
    problem = AttentionProblem(
        kind="attention",
        name="ragged",
        q_heads=4,
        kv_heads=2,
        head_dim=DIM,
        sequences=sequences,
        causal=True,
        dtype=Format.FP32,
        tensors=RANDOM,
    )
    tensors = load_tensors(problem, Path())
    _, plain = run("flash", problem, tensors)
    _, output = run("flash", problem, tensors, codes="int8")
    np.testing.assert_array_equal(output, coded_runs(plain, DIM).values.astype(np.float32))
    message = "found code_groups = 4 beside sequences, allowed: 1, or a batch of one length"
    with pytest.raises(WorkloadError, match=message):
        run("flash", problem, None, codes="int8", code_groups=4)


def test_a_vector_path_in_fp16_is_refused():
    message = "found codes = int8 beside a vector path in fp16, allowed: a precision with the vec"
    with pytest.raises(WorkloadError, match=message):
        run("flash", problem_of(Format.FP16), None, codes="int8", precision="fp16")


@pytest.mark.parametrize("name", KERNELS)
def test_codes_of_four_bits_are_refused(name):
    with pytest.raises(
        ConfigError, match="codes: found int4, allowed: int8; a scale is of a row o"
    ):
        run(name, problem_of(), None, machine=KERNELS[name], codes="int4")


def test_several_bases_of_a_row_of_a_head_are_refused():
    with pytest.raises(ConfigError, match="code_candidates: found 2, allowed: 1, for a row of one"):
        run("flash", problem_of(), None, codes="int8", code_candidates=2)


def test_a_rotation_that_does_not_divide_a_head_is_refused():
    with pytest.raises(QuantizationError, match="block: found 32 of 16 channels, allowed: powers"):
        run("flash", problem_of(), None, codes="int8", code_rotation=32)
