"""Attention kernels against softmax attention in float64, over any shape, format and tile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.attention.precision import step_formats
from accelsim.kernels.registry import get_kernel
from accelsim.numerics.formats import Format
from accelsim.numerics.metrics import compare
from accelsim.numerics.rounding import round_array
from accelsim.program.verifier import verify
from accelsim.workload.problem import FLOAT_FORMATS, AttentionProblem
from accelsim.workload.tensors import AttentionTensors
from tests.oracle.bounds import AttentionSteps, dense_bound, flash_bound
from tests.oracle.machines import any_format_machine

PRECISIONS = (None, "fp32", "fp32_scores", "fp16_fp32", "fp16")
ONE_HEAD = {
    "kind": "attention",
    "name": "p",
    "q_heads": 1,
    "kv_heads": 1,
    "head_dim": 16,
    "q_len": 24,
    "kv_len": 24,
}


def attend(kernel, problem, tensors, **parameters):
    """Run a kernel on given tensors; return the verified program and the output."""
    chosen = get_kernel(kernel)
    program, output = chosen.record(
        problem, any_format_machine(), chosen.parameters(**parameters), tensors
    )
    verify(program)
    return program, output


def normal_tensors(problem, seed, amplitude=1.0):
    rng = np.random.default_rng(seed)
    return AttentionTensors(
        *(
            round_array(amplitude * rng.standard_normal(shape), problem.dtype)
            for shape in problem.input_shapes.values()
        )
    )


@st.composite
def problems(draw, dtypes=FLOAT_FORMATS):
    causal = draw(st.booleans())
    kv_len = draw(st.integers(1, 40))
    kv_heads = draw(st.integers(1, 2))
    return AttentionProblem(
        kind="attention",
        name="drawn",
        batch=draw(st.integers(1, 2)),
        q_heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 20)),
        q_len=draw(st.integers(1, kv_len if causal else 40)),
        kv_len=kv_len,
        causal=causal,
        dtype=draw(st.sampled_from(dtypes)),
    )


tiles = st.none() | st.integers(1, 48)


def steps_of(problem, precision, tile_k, scale_query=False):
    formats = step_formats(problem.dtype, precision)
    return AttentionSteps(
        stored=formats.stored,
        scores=formats.scores,
        vector=formats.vector,
        weights=formats.weights,
        output=formats.output,
        kv_len=problem.kv_len,
        tile_k=min(tile_k or problem.kv_len, problem.kv_len),
        scale_query=scale_query,
    )


@settings(max_examples=300)
@given(
    problems(),
    tiles,
    tiles,
    st.sampled_from(PRECISIONS),
    st.sampled_from(["scores", "query"]),
    st.integers(0, 2**32),
)
def test_flash_is_softmax_attention_up_to_rounding(
    problem, tile_q, tile_k, precision, scale_at, seed
):
    tensors = normal_tensors(problem, seed)
    _, output = attend(
        "flash",
        problem,
        tensors,
        tile_q=tile_q,
        tile_k=tile_k,
        precision=precision,
        scale_at=scale_at,
    )
    steps = steps_of(problem, precision, tile_k, scale_query=scale_at == "query")
    error = np.abs(output - softmax_attention(problem, tensors)).max()
    assert error <= flash_bound(*tensors[:3], steps)


@settings(max_examples=300)
@given(problems(), tiles, tiles, tiles, st.sampled_from(PRECISIONS), st.integers(0, 2**32))
def test_dense_is_softmax_attention_up_to_rounding(
    problem, tile_q, tile_k, softmax_rows, precision, seed
):
    tensors = normal_tensors(problem, seed)
    _, output = attend(
        "dense",
        problem,
        tensors,
        tile_q=tile_q,
        tile_k=tile_k,
        softmax_rows=softmax_rows,
        precision=precision,
    )
    error = np.abs(output - softmax_attention(problem, tensors)).max()
    assert error <= dense_bound(*tensors[:3], steps_of(problem, precision, tile_k))


@pytest.mark.parametrize("kernel", ["flash", "dense"])
@pytest.mark.parametrize("causal", [False, True])
def test_in_fp32_the_oracle_is_met_to_five_digits(kernel, causal):
    problem = AttentionProblem(
        **{**ONE_HEAD, "head_dim": 40, "q_len": 150, "kv_len": 300, "dtype": "fp32"}, causal=causal
    )
    tensors = normal_tensors(problem, seed=3)
    _, output = attend(kernel, problem, tensors, precision="fp32")
    # Sums of 300 terms in FP32: 300 x 2^-24 = 2e-5 at worst; 1e-5 on average is asked for.
    assert compare(output, softmax_attention(problem, tensors)).relative_rmse < 1e-5


@settings(max_examples=40)
@given(problems((Format.FP16,)), st.integers(1, 48), st.integers(1, 48), st.integers(0, 2**32))
def test_tiles_over_queries_never_change_a_bit(problem, one, other, seed):
    tensors = normal_tensors(problem, seed)
    outputs = [
        attend("flash", problem, tensors, tile_q=tile_q, tile_k=8)[1] for tile_q in (one, other)
    ]
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("kernel", ["flash", "dense"])
@pytest.mark.parametrize("precision", PRECISIONS)
class TestExactCases:
    """Inputs whose output is known without rounding."""

    def test_one_key_returns_its_value(self, kernel, precision):
        problem = AttentionProblem(**{**ONE_HEAD, "kv_len": 1})
        tensors = normal_tensors(problem, seed=1)
        _, output = attend(kernel, problem, tensors, precision=precision)
        np.testing.assert_array_equal(output, np.repeat(tensors.v[0], 24, axis=0))

    def test_one_token_attends_to_itself(self, kernel, precision):
        problem = AttentionProblem(**{**ONE_HEAD, "q_len": 1, "kv_len": 1}, causal=True)
        tensors = normal_tensors(problem, seed=2)
        _, output = attend(kernel, problem, tensors, precision=precision)
        np.testing.assert_array_equal(output, tensors.v[0])

    def test_equal_scores_give_the_mean(self, kernel, precision):
        problem = AttentionProblem(**{**ONE_HEAD, "kv_len": 32})
        tensors = normal_tensors(problem, seed=3)
        values = np.random.default_rng(4).integers(-8, 8, (1, 32, 16)).astype(np.float32)
        equal = tensors._replace(k=np.ones_like(tensors.k), v=values)
        _, output = attend(kernel, problem, equal, precision=precision)
        # 32 equal weights and sums of small integers are exact in every format of these steps.
        np.testing.assert_array_equal(output, np.tile(values[0].mean(axis=0), (24, 1)))

    def test_the_first_causal_row_sees_one_key(self, kernel, precision):
        problem = AttentionProblem(**ONE_HEAD, causal=True)
        tensors = normal_tensors(problem, seed=5)
        _, output = attend(kernel, problem, tensors, precision=precision)
        np.testing.assert_array_equal(output[0], tensors.v[0, 0])

    def test_a_dominating_key_returns_its_value(self, kernel, precision):
        problem = AttentionProblem(**ONE_HEAD)
        tensors = normal_tensors(problem, seed=6)
        tensors.q[:], tensors.k[:] = 1, 0
        tensors.k[0, 17] = 64  # its score is 256 ahead, and e^-256 is 0 in FP32 and FP16
        _, output = attend(kernel, problem, tensors, precision=precision)
        np.testing.assert_array_equal(output, np.tile(tensors.v[0, 17], (24, 1)))

    def test_nan_in_a_query_stays_in_its_row(self, kernel, precision):
        problem = AttentionProblem(**ONE_HEAD)
        tensors = normal_tensors(problem, seed=7)
        tensors.q[0, 5, 3] = np.nan
        _, output = attend(kernel, problem, tensors, precision=precision)
        expected = np.zeros((24, 16), bool)
        expected[5] = True
        np.testing.assert_array_equal(np.isnan(output), expected)

    def test_nan_in_a_key_reaches_every_row_that_sees_it(self, kernel, precision):
        problem = AttentionProblem(**ONE_HEAD, causal=True)
        tensors = normal_tensors(problem, seed=8)
        tensors.k[0, 9, 0] = np.nan
        _, output = attend(kernel, problem, tensors, precision=precision, tile_q=8, tile_k=8)
        np.testing.assert_array_equal(np.isnan(output).all(axis=1), np.arange(24) >= 9)
        assert np.isfinite(output[:9]).all()

    def test_nan_in_a_value_stays_in_its_column(self, kernel, precision):
        problem = AttentionProblem(**ONE_HEAD)
        tensors = normal_tensors(problem, seed=9)
        tensors.v[0, 4, 2] = np.nan
        _, output = attend(kernel, problem, tensors, precision=precision)
        expected = np.zeros((24, 16), bool)
        expected[:, 2] = True
        np.testing.assert_array_equal(np.isnan(output), expected)

    def test_an_infinite_value_stays_in_its_column(self, kernel, precision):
        problem = AttentionProblem(**ONE_HEAD)
        tensors = normal_tensors(problem, seed=10)
        tensors.v[0, 4, 2] = -np.inf
        _, output = attend(kernel, problem, tensors, precision=precision)
        assert (output[:, 2] == -np.inf).all()
        assert np.isfinite(np.delete(output, 2, axis=1)).all()

    def test_an_infinite_query_has_no_softmax(self, kernel, precision):
        problem = AttentionProblem(**ONE_HEAD)
        tensors = normal_tensors(problem, seed=11)
        tensors.q[0, 7, 0] = np.inf
        _, output = attend(kernel, problem, tensors, precision=precision)
        # The largest score is inf, and inf - inf is NaN.
        np.testing.assert_array_equal(np.isnan(output).all(axis=1), np.arange(24) == 7)
        assert compare(output, np.zeros((24, 16))).nonfinite_fraction == pytest.approx(1 / 24)


@pytest.mark.parametrize("precision", ["fp16_fp32", "fp16"])
def test_scores_beyond_fp16_overflow_unless_the_query_is_scaled(precision):
    problem = AttentionProblem(**{**ONE_HEAD, "head_dim": 64})
    tensors = normal_tensors(problem, seed=12)
    tensors.q[:], tensors.k[:] = 40, 40  # scores of 64 x 1600 = 102400, scaled 12800
    outputs = {
        place: attend("flash", problem, tensors, precision=precision, scale_at=place)[1]
        for place in ("scores", "query")
    }
    assert not np.isfinite(outputs["scores"]).any()
    assert np.isfinite(outputs["query"]).all()
    _, wide = attend("flash", problem, tensors, precision="fp32")
    assert np.isfinite(wide).all()
