"""PASA and centered attention: the algorithms are attention, and the kernels are the algorithms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.attention.shifted.beta import solve_pseudo_average
from accelsim.kernels.attention.shifted.centered import Centered
from accelsim.kernels.attention.shifted.pasa import Pasa
from accelsim.loading import load_machine
from accelsim.program.verifier import verify
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors
from tests.oracle.shifted_statements import (
    EXACT,
    FP16,
    FP16_STATISTICS_FP32,
    Case,
    centered,
    pasa,
    to_fp16,
)

MACHINE = load_machine("edge-npu")
EXACTNESS = 1e-11
"""What the algorithms may differ from dense attention in float64, all roundings together."""


def tensors_of(problem, seed, mean=0.0, dtype=np.float32):
    """Normal values around `mean`, in FP16 so that every format holds them."""
    rng = np.random.default_rng(seed)
    shapes = problem.input_shapes
    values = (
        (mean + rng.standard_normal(shapes[name])).astype(np.float16) for name in ("q", "k", "v")
    )
    return AttentionTensors(*(each.astype(dtype) for each in values))


def case_of(tensors, head, group, tile_q, tile_k, causal):
    kv_head = head // group
    return Case(tensors.q[head], tensors.k[kv_head], tensors.v[kv_head], tile_q, tile_k, causal)


@st.composite
def problems(draw, dtype="fp16"):
    """Attention of any lengths, masks and head ratios, with tiles that need not divide them."""
    q_len = draw(st.integers(1, 20))
    causal = draw(st.booleans())
    kv_len = draw(st.integers(q_len if causal else 1, 40))
    kv_heads, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    problem = AttentionProblem(
        kind="attention",
        name="drawn",
        q_heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 12)),
        q_len=q_len,
        kv_len=kv_len,
        causal=causal,
        dtype=dtype,
    )
    tile_q, tile_k = draw(st.integers(1, q_len)), draw(st.integers(1, kv_len))
    return problem, tile_q, tile_k


def exact_pasa(case, beta):
    """PASA whose matrix and recovery factor are not rounded."""
    scale, n = 1 / np.sqrt(case.q.shape[1]), case.tile_k
    return pasa(case, scale * (1 - beta / n), -scale * beta / n, beta / (1 - beta), EXACT)


@given(problems(), st.floats(0.05, 0.99), st.integers(0, 2**32 - 1))
def test_pasa_is_attention_in_float64_for_any_beta(drawn, beta, seed):
    problem, tile_q, tile_k = drawn
    tensors = tensors_of(problem, seed, mean=3, dtype=np.float64)
    group = problem.q_heads // problem.kv_heads
    found = [
        exact_pasa(case_of(tensors, head, group, tile_q, tile_k, problem.causal), beta)
        for head in range(problem.q_heads)
    ]
    expected = softmax_attention(problem, tensors)
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=0, atol=EXACTNESS)


@given(problems(), st.integers(0, 2**32 - 1))
def test_centered_is_attention_in_float64_however_the_means_are_rounded(drawn, seed):
    problem, tile_q, tile_k = drawn
    tensors = tensors_of(problem, seed, mean=3, dtype=np.float64)
    group = problem.q_heads // problem.kv_heads
    found = [
        centered(case_of(tensors, head, group, tile_q, tile_k, problem.causal), EXACT, np.rint)
        for head in range(problem.q_heads)
    ]
    expected = softmax_attention(problem, tensors)
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=0, atol=EXACTNESS)


def emulated_pasa(problem, tensors, tile_q, tile_k, beta, how):
    average = solve_pseudo_average(beta, tile_k, problem.head_dim**-0.5, "corrected")
    group = problem.q_heads // problem.kv_heads
    heads = [
        pasa(
            case_of(tensors, head, group, tile_q, tile_k, problem.causal),
            average.diagonal,
            average.off_diagonal,
            average.recovery,
            how,
        )
        for head in range(problem.q_heads)
    ]
    return np.concatenate(heads)


@pytest.mark.parametrize(
    ("statistics", "how"), [("fp16", FP16), ("fp32", FP16_STATISTICS_FP32)], ids=["fp16", "fp32"]
)
@settings(max_examples=40)
@given(drawn=problems(), beta=st.sampled_from([0.5, 1 - 2**-4, 1 - 2**-6]), seed=st.integers(0, 99))
def test_every_bit_of_pasa_is_as_stated(statistics, how, drawn, beta, seed):
    problem, tile_q, tile_k = drawn
    tensors = tensors_of(problem, seed, mean=2)
    parameters = Pasa.parameters(
        tile_q=tile_q, tile_k=tile_k, beta=beta, statistics=statistics, fold=False
    )
    program, output = Pasa.record(problem, MACHINE, parameters, tensors)
    verify(program)
    expected = emulated_pasa(problem, tensors, tile_q, tile_k, beta, how)
    np.testing.assert_array_equal(output, expected)


@settings(max_examples=40)
@given(drawn=problems(), seed=st.integers(0, 99))
def test_every_bit_of_centered_is_as_stated(drawn, seed):
    problem, tile_q, tile_k = drawn
    tensors = tensors_of(problem, seed, mean=2)
    parameters = Centered.parameters(tile_q=tile_q, tile_k=tile_k, fold=False)
    program, output = Centered.record(problem, MACHINE, parameters, tensors)
    verify(program)
    group = problem.q_heads // problem.kv_heads
    heads = [
        centered(
            case_of(tensors, head, group, tile_q, tile_k, problem.causal),
            FP16_STATISTICS_FP32,
            to_fp16,
        )
        for head in range(problem.q_heads)
    ]
    np.testing.assert_array_equal(output, np.concatenate(heads))
