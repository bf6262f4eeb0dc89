"""Sparse attention at its edges: degenerate inputs, uneven work, cost-only runs, refusals."""

from typing import get_args

import numpy as np
import pytest

from accelsim import load_machine, simulate
from accelsim.errors import ConfigError, DoesNotFitError, WorkloadError
from accelsim.kernels.attention.flash.flash import Flash, FlashParameters
from accelsim.kernels.attention.sparse.masks.parameters import MASKS_WITH, SparseParameters
from accelsim.kernels.attention.sparse.masks.scored import SCORED_MASKS
from accelsim.kernels.attention.sparse.sparse import Sparse
from accelsim.loading import LoadedWorkload
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors
from tests.oracle.block_sparse import kept_blocks, parameters_of

SCORED = ("pooled", "antidiagonal", "indexer")
MACHINE = load_machine("edge-npu")


def problem_of(q_len, kv_len=None, *, causal=True, heads=2, tensors=None, dim=8):
    return AttentionProblem(
        kind="attention",
        name="case",
        q_heads=heads,
        kv_heads=1,
        head_dim=dim,
        q_len=q_len,
        kv_len=kv_len or q_len,
        causal=causal,
        tensors=tensors,
    )


def random_tensors(problem, seed=0):
    rng = np.random.default_rng(seed)
    shapes = problem.input_shapes.values()
    arrays = (rng.standard_normal(s).astype(np.float16).astype(np.float32) for s in shapes)
    return AttentionTensors(*arrays)


def record(problem, tensors, mask, **settings):
    settings = {"block": 8, "index_dim": 4, **settings}
    return Sparse.record(problem, MACHINE, parameters_of(mask, **settings), tensors)


def flash(problem, tensors):
    return Flash.record(problem, MACHINE, FlashParameters(tile_q=8, tile_k=8), tensors)[1]


@pytest.mark.parametrize("mask", SCORED)
def test_one_token_attends_to_itself(mask):
    problem = problem_of(1)
    tensors = random_tensors(problem)
    program, output = record(problem, tensors, mask)
    np.testing.assert_array_equal(output, np.repeat(tensors.v[0], 2, axis=0))
    assert program.statistics["density"] == program.statistics["kept_mass"] == 1.0


@pytest.mark.parametrize("mask", SCORED)
def test_one_query_against_a_cache(mask):
    problem = problem_of(1, 50)
    tensors = random_tensors(problem)
    _, output = record(problem, tensors, mask, coverage=1.0, select="threshold", threshold=0.0)
    np.testing.assert_array_equal(output, flash(problem, tensors))


@pytest.mark.parametrize("mask", SCORED)
@pytest.mark.parametrize("select", ["coverage", "threshold", "budget"])
def test_equal_scores_give_the_mean_of_the_kept_values(mask, select):
    problem = problem_of(32, heads=1)
    ones = np.ones((1, 32, 8), np.float32)
    values = random_tensors(problem).v
    program, output = record(
        problem, AttentionTensors(ones, ones, values), mask, select=select, budget=1
    )
    kept = kept_blocks(program, problem, 8)[0].repeat(8, axis=0).repeat(8, axis=1)
    weights = kept & np.tri(32, dtype=bool)
    expected = weights / weights.sum(axis=1, keepdims=True) @ values[0].astype(np.float64)
    # FP16 weights and output, values up to 4: 2^-11 each of up to 4.
    np.testing.assert_allclose(output, expected, atol=2 * 4 * 2**-11)


@pytest.mark.parametrize("mask", SCORED)
def test_a_dominating_key_is_found(mask):
    """Key 19 is 8 times the query direction: its block of 8 gets the most by every scorer."""
    problem = problem_of(64, heads=1)
    tensors = random_tensors(problem)
    tensors.q[:] = 1
    tensors.k[0] *= 0.1
    tensors.k[0, 19] = 8
    program, _ = record(problem, tensors, mask, select="budget", budget=1, index_dim=8)
    kept = kept_blocks(program, problem, 8)
    assert kept[0, 3:, 2].all()
    # Rows 16 to 18 stand before the key in its block and may miss all else.
    assert program.statistics["kept_mass"] > 1 - 3 / 64


@pytest.mark.parametrize("mask", SCORED)
@pytest.mark.parametrize("name", ["q", "k"])
def test_nan_spreads_exactly_as_in_dense_attention(mask, name):
    problem = problem_of(40)
    tensors = random_tensors(problem)
    getattr(tensors, name)[0, 21, 3] = np.nan
    program, output = record(problem, tensors, mask, select="budget", budget=1)
    np.testing.assert_array_equal(np.isnan(output), np.isnan(flash(problem, tensors)))
    assert np.isnan(output).any()
    assert "kept_mass" not in program.statistics


@pytest.mark.parametrize("mask", ["window", *SCORED])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_values_reach_only_rows_that_keep_their_block(mask, value):
    problem = problem_of(40, heads=1)
    tensors = random_tensors(problem)
    tensors.v[0, 21, 3] = value
    program, output = record(problem, tensors, mask, window=8, select="budget", budget=1)
    kept = kept_blocks(program, problem, 8)[0, :, 21 // 8].repeat(8)
    expected = np.zeros((40, 8), bool)
    expected[:, 3] = kept
    # Under the causal mask rows before 21 of that block multiply it by zero, which gives NaN too.
    np.testing.assert_array_equal(~np.isfinite(output), expected)


def test_infinite_keys_are_reported_and_never_make_other_columns_finite():
    problem = problem_of(40)
    tensors = random_tensors(problem)
    tensors.k[0, 21, 3] = np.inf
    bad = ~np.isfinite(flash(problem, tensors))
    for mask in SCORED:
        _, output = record(problem, tensors, mask)
        found = ~np.isfinite(output)
        assert found.any()
        assert not (found & ~bad).any()


@pytest.mark.parametrize("mask", [*SCORED, "gate"])
def test_cost_only_runs_take_their_density_from_the_assumption(mask):
    problem = LoadedWorkload(problem_of(512, heads=3, dim=16), None)
    report = simulate("edge-npu", problem, f"sparse(mask={mask}, assumed_density=0.4)")
    assert report.accuracy is None
    assert set(report.statistics) == {"density", "fallback_fraction"}
    # Eight key blocks at most: the rounding of a row is at most half a block of its mean of 4.5.
    assert report.statistics["density"] == pytest.approx(0.4, abs=0.12)


def test_uneven_rows_are_seen_and_greedy_placement_evens_them_out():
    """Dense causal rows: with 4 cores and static placement core 0 gets every longest row."""
    machine = MACHINE.model_copy(update={"cores": 4})
    workload = LoadedWorkload(problem_of(1024, heads=1, dim=16), None)
    recipe = "sparse(mask=sinks_window, window=512)"
    reports = {
        placement: simulate(machine.model_copy(update={"placement": placement}), workload, recipe)
        for placement in ("static", "greedy")
    }
    assert reports["greedy"].core_balance > reports["static"].core_balance
    assert reports["greedy"].cycles < reports["static"].cycles
    assert reports["greedy"].scratchpad_held_peak_bytes > 0
    for report in reports.values():
        assert report.scratchpad_held_peak_bytes <= report.scratchpad_peak_bytes
        assert report.is_exact is False


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(DoesNotFitError, match="sparse on case does not fit the scratchpad"):
        record(problem_of(4096, heads=1), None, "window", block=2048)


def test_an_index_wider_than_a_head_is_refused():
    with pytest.raises(WorkloadError) as raised:
        record(problem_of(16), None, "indexer", index_dim=16)
    assert str(raised.value) == (
        "mask indexer: found index_dim 16, allowed without weights: up to head_dim = 8"
    )


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("mask=pool", "sparse: mask: found 'pool'"),
        ("coverage=1.5", "sparse: coverage: found 1.5"),
        ("budget=0", "sparse: budget: found 0"),
        ("assumed_density=-0.1", "sparse: assumed_density: found -0.1"),
        ("index_format=int8", "sparse: index_format: found 'int8'"),
        ("strides=4", "sparse: strides"),
    ],
)
def test_wrong_parameters_are_refused(parameter, message):
    with pytest.raises(ConfigError) as raised:
        simulate("edge-npu", LoadedWorkload(problem_of(64), None), f"sparse({parameter})")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            "sparse(mask=dilated, window=64, sinks=4)",
            "sparse: parameters of mask dilated: found sinks, which only mask sinks_window has; "
            "allowed: mask, block, precision, window, dilation",
        ),
        (
            "sparse(mask=file, path=a.npz, weights=b.npz, coverage=0.9)",
            "sparse: parameters of mask file: found coverage, which only masks pooled, "
            "antidiagonal, indexer and gate have; found weights, which only masks indexer and gate "
            "have; allowed: mask, block, precision, path",
        ),
        (
            "sparse(window=256)",
            "sparse: parameters of mask antidiagonal: found window, which only masks window, "
            "sinks_window and dilated have; allowed: mask, block, precision, select, coverage, "
            "threshold, budget, fallback_below, stride, assumed_density",
        ),
    ],
)
def test_settings_of_other_masks_are_refused_even_with_their_default(recipe, message):
    with pytest.raises(ConfigError) as raised:
        simulate("edge-npu", LoadedWorkload(problem_of(64), None), recipe)
    assert str(raised.value) == message


@pytest.mark.parametrize("mask", get_args(SparseParameters.model_fields["mask"].annotation))
def test_a_mask_takes_what_it_has_and_says_no_more(mask):
    given = SparseParameters(mask=mask)
    settings = given.model_dump()
    assert SparseParameters(**settings) == given
    assert set(settings) == {
        name for name in SparseParameters.model_fields if mask in MASKS_WITH.get(name, (mask,))
    }
    assert ("coverage" in settings) == (mask in SCORED_MASKS)
