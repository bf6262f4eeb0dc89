"""Blocks are chosen as a sort in float64 would, rows without a good prediction keep everything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.kernels.attention.operands import declare_operands
from accelsim.kernels.attention.precision import step_formats
from accelsim.kernels.attention.sparse.masks.base import Heads, ScoredMask, Setting
from accelsim.kernels.attention.sparse.masks.grid import grid_of
from accelsim.kernels.attention.sparse.masks.parameters import SparseParameters
from accelsim.kernels.attention.sparse.masks.selection import BlockSelection
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

MACHINE = load_machine("edge-npu")
STEP = 2.0 ** (64 / 2**16)
"""Resolution of a threshold, as the docstring of the selection says."""


def in_hbm(builder, scores, are_logits):
    """A mask whose scores are in HBM already."""
    heads, rows, cols = scores.shape
    data = scores.reshape(-1, cols).astype(np.float32)
    matrix = builder.tensor("block_scores", "input", heads * rows, cols, Format.FP32, data)
    return ScoredMask(Heads(matrix, heads, rows), (), are_logits)


def select(scores, *, causal=False, are_logits=False, rows=3, **choice):
    """Choose from scores [heads, n, n]; return the selection after it ran."""
    heads, blocks, _ = scores.shape
    problem = AttentionProblem(
        kind="attention",
        name="grid",
        q_heads=heads,
        kv_heads=heads,
        head_dim=1,
        q_len=blocks,
        kv_len=blocks,
        causal=causal,
    )
    builder = ProgramBuilder("selection", with_numbers=True)
    zeros = np.zeros((heads, blocks, 1), np.float32)
    hbm = declare_operands(builder, problem, AttentionTensors(zeros, zeros, zeros))
    parameters = SparseParameters(block=1, **choice)
    grid, formats = grid_of(problem, 1), step_formats(Format.FP16, "fp16_fp32")
    setting = Setting(builder, grid, hbm, formats, parameters, MACHINE, rows)
    selection = BlockSelection(setting, in_hbm(builder, scores, are_logits))
    builder.record(selection.record, selection.items)
    return selection


def probabilities(blocks, seed):
    rng = np.random.default_rng(seed)
    weights = np.exp(rng.standard_normal((2, blocks, blocks)) * 4)
    return (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)


def is_set_of_largest(row, chosen):
    return row[chosen].min(initial=np.inf) >= row[~chosen].max(initial=-np.inf)


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(0, 1000), st.sampled_from([0.1, 0.5, 0.9, 0.99]))
def test_coverage_is_reached_with_the_fewest_blocks(blocks, seed, coverage):
    scores = probabilities(blocks, seed)
    chosen = select(scores, select="coverage", coverage=coverage).chosen()
    for row, kept in zip(scores.reshape(-1, blocks), chosen.reshape(-1, blocks), strict=True):
        assert is_set_of_largest(row, kept)
        assert row[kept].sum() >= coverage - 1e-6  # FP32 sums of numbers up to 1
        surplus = row[kept][row[kept] > row[kept].min() * STEP**2]
        assert surplus.sum() < coverage + 1e-6


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(0, 1000), st.integers(1, 10))
def test_a_budget_keeps_the_most_likely_blocks(blocks, seed, budget):
    scores = probabilities(blocks, seed)
    chosen = select(scores, select="budget", budget=budget).chosen()
    for row, kept in zip(scores.reshape(-1, blocks), chosen.reshape(-1, blocks), strict=True):
        assert is_set_of_largest(row, kept)
        assert kept.sum() >= min(budget, blocks)
        surplus = row[kept][row[kept] > row[kept].min() * STEP**2]
        assert len(surplus) < budget


@given(st.integers(1, 9), st.integers(0, 1000), st.sampled_from([0.0, 0.01, 0.2, 1.0]))
def test_a_threshold_keeps_what_reaches_it(blocks, seed, threshold):
    scores = probabilities(blocks, seed)
    chosen = select(scores, select="threshold", threshold=threshold).chosen()
    np.testing.assert_array_equal(chosen, scores >= np.float32(threshold))


def test_logits_become_probabilities_of_what_a_causal_mask_leaves():
    logits = np.log([[[1.0, 8.0, 8.0], [3.0, 1.0, 8.0], [1.0, 2.0, 5.0]]])
    chosen = select(logits, causal=True, are_logits=True, select="threshold", threshold=0.2)
    expected = [[[True, False, False], [True, True, False], [False, True, True]]]
    np.testing.assert_array_equal(chosen.chosen(), expected)


def test_a_row_whose_choice_covers_too_little_keeps_all_blocks():
    scores = np.array([[[0.6, 0.3, 0.1], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0]]])
    selection = select(scores, select="budget", budget=1, fallback_below=0.5)
    expected = [[[True, False, False], [True, True, True], [True, False, False]]]
    np.testing.assert_array_equal(selection.chosen(), expected)
    assert selection.fallback_fraction() == pytest.approx(1 / 3)
    without = select(scores, select="budget", budget=1)
    np.testing.assert_array_equal(without.chosen().sum(axis=2), [[1, 1, 1]])
    assert without.fallback_fraction() == 0.0


@pytest.mark.parametrize("choice", ["coverage", "threshold", "budget"])
def test_a_row_with_nan_keeps_all_blocks(choice):
    logits = np.zeros((1, 3, 3))
    logits[0, 1, 2] = np.nan
    chosen = select(logits, are_logits=True, select=choice, coverage=0.3, threshold=0.5, budget=1)
    assert chosen.chosen()[0, 1].all()


def test_equal_scores_are_kept_together():
    chosen = select(np.full((1, 4, 4), 0.25), select="budget", budget=2).chosen()
    assert chosen.all()
