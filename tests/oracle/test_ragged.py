"""Sequences of different lengths against float64, and against uniform batches."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.kernels.registry import get_kernel
from accelsim.loading import LoadedWorkload
from accelsim.program.verifier import verify
from accelsim.simulation import simulate
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import load_tensors
from tests.handmade import machine_of
from tests.oracle.machines import any_format_machine

MIXED = [{"new": 1, "cached": 70}, {"new": 37, "cached": 20, "count": 2}, {"new": 5}, {"new": 1}]
STEP = [{"new": 1, "cached": 70}, {"new": 1, "cached": 20, "count": 2}, {"new": 1}]
TILES = {"tile_q": 16, "tile_k": 16}
DECODE = ("split_kv", "window", "topk", "quest", "sift")
ALL_KEPT = {
    "split_kv": {"splits": 3, "tile_k": 16},
    "window": {"window": 100},
    "topk": {"k": 100},
    "quest": {"page": 4, "kept": 1.0},
    "sift": {"rule": "given", "c": 1e-6},
}
"""Parameters with which a kernel of decode leaves out nothing."""


def problem_of(lengths, q_heads=4, kv_heads=2, **keys):
    own = {"sequences": lengths} if isinstance(lengths, list) else lengths
    common = {"kind": "attention", "name": "r", "head_dim": 16, "tensors": {"source": "uniform"}}
    heads = {"q_heads": q_heads, "kv_heads": kv_heads}
    return AttentionProblem.model_validate(common | heads | own | keys)


def recorded(kernel, problem, machine=None, **choices):
    """The verified program, its output, and the oracle's."""
    own, tensors = get_kernel(kernel), load_tensors(problem, Path())
    machine = machine or any_format_machine()
    program, output = own.record(problem, machine, own.parameters(**choices), tensors)
    verify(program)
    return program, output, own.oracle(problem, tensors)


def loaded(problem):
    return LoadedWorkload(problem, Path())


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("query_tiles", [1, 2])
@pytest.mark.parametrize("order", ["longest_first", "by_head"])
def test_flash_computes_every_sequence_by_its_own_lengths(causal, fold, query_tiles, order):
    problem = problem_of(MIXED, causal=causal, dtype="fp32")
    choices = {**TILES, "fold": fold, "query_tiles": query_tiles, "order": order}
    _, output, expected = recorded("flash", problem, **choices)
    np.testing.assert_allclose(output, expected, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_flash_chooses_tiles_that_fit_all_sequences(causal):
    _, output, expected = recorded("flash", problem_of(MIXED, causal=causal, dtype="fp32"))
    np.testing.assert_allclose(output, expected, atol=1e-6)


@pytest.mark.parametrize("kernel", DECODE)
@pytest.mark.parametrize("causal", [False, True])
def test_decode_computes_every_sequence_by_its_own_cache(kernel, causal):
    problem = problem_of(STEP, causal=causal, dtype="fp32")
    _, output, expected = recorded(kernel, problem, **ALL_KEPT[kernel])
    np.testing.assert_allclose(output, expected, atol=1e-6)


def test_the_oracle_is_that_of_each_sequence_alone():
    problem = problem_of(MIXED, causal=True)
    tensors = load_tensors(problem, Path())
    oracle = get_kernel("flash").oracle
    alone = [oracle(*each) for each in tensors.parts(problem)]
    assert [len(each) for each in alone] == [4, 2 * 4 * 37, 4 * 5, 4]
    np.testing.assert_array_equal(oracle(problem, tensors), np.concatenate(alone))


@pytest.mark.parametrize(
    ("kernel", "choices"),
    [
        ("flash", {**TILES, "query_tiles": 1, "fold": False}),
        ("flash", {**TILES, "query_tiles": 2, "fold": False}),
        ("flash", {}),
        *ALL_KEPT.items(),
        ("split_kv", {}),
        ("window", {"window": 8}),
        ("topk", {}),
        ("quest", {"page": 4}),
        ("sift", {"rule": "given", "c": 1.0}),
    ],
)
@pytest.mark.parametrize("causal", [False, True])
def test_equal_sequences_are_the_uniform_batch_to_the_word(kernel, choices, causal):
    new = 37 if kernel == "flash" else 1
    ragged = problem_of([{"new": new, "cached": 30}, {"new": new, "cached": 30, "count": 2}])
    uniform = problem_of({"batch": 3, "q_len": new, "kv_len": 30 + new})
    programs, outputs = [], []
    for problem in (ragged, uniform):
        own = problem.model_copy(update={"causal": causal})
        program, output, _ = recorded(kernel, own, **choices)
        programs.append(program)
        outputs.append(output)
    np.testing.assert_array_equal(programs[0].ops, programs[1].ops)
    np.testing.assert_array_equal(programs[0].gathered_rows, programs[1].gathered_rows)
    assert programs[0].statistics == programs[1].statistics
    assert dict(programs[0].parameters) == dict(programs[1].parameters)
    np.testing.assert_array_equal(*outputs)


LENGTHS = st.lists(
    st.fixed_dictionaries(
        {"new": st.integers(1, 40), "cached": st.integers(0, 60), "count": st.integers(1, 3)}
    ),
    min_size=1,
    max_size=4,
)


@given(
    lengths=LENGTHS, causal=st.booleans(), fold=st.booleans(), query_tiles=st.sampled_from([1, 2])
)
@settings(max_examples=25, deadline=None)
def test_bytes_and_macs_are_those_of_the_sequences_alone(lengths, causal, fold, query_tiles):
    problem = problem_of(lengths, causal=causal)
    choices = {**TILES, "fold": fold, "query_tiles": query_tiles}
    kernel, machine = get_kernel("flash"), any_format_machine()

    def moved(own):
        program, _ = kernel.record(own, machine, kernel.parameters(**choices), None)
        return int(program.hbm_bytes.sum())

    assert moved(problem) == sum(moved(part) for part in problem.parts)
    assert problem.macs == sum(part.macs for part in problem.parts)
    assert problem.compulsory_bytes == sum(part.compulsory_bytes for part in problem.parts)


@pytest.mark.parametrize("kernel", ["flash", "split_kv"])
def test_both_engines_agree_on_a_ragged_step(kernel):
    problem = loaded(problem_of(STEP, causal=True))
    reports = [
        simulate("ascend-910b", problem, kernel, engine=each) for each in ("compiled", "reference")
    ]
    assert reports[0].cycles == reports[1].cycles
    assert reports[0].hbm_bytes_by_tensor == reports[1].hbm_bytes_by_tensor


class TestUnevenWork:
    """On a cube of one MAC a cycle, a row of 16 elements meets a tile of 16 keys in 512 cycles."""

    def report_of(self, *keys, order="longest_first"):
        lengths = [{"new": 1, "cached": each - 1} for each in keys]
        problem = problem_of(lengths, q_heads=1, kv_heads=1, tensors=None)
        recipe = f"flash(tile_q=1, tile_k=16, query_tiles=1, precision=fp16, order={order})"
        machine = machine_of(cores=2, items_in_flight=1, hbm_bytes_per_cycle=2**20)
        return simulate(machine, loaded(problem), recipe)

    def test_a_long_sequence_beside_a_short_one_leaves_a_core_idle(self):
        report = self.report_of(48, 16)
        assert report.busy_cycles["cube"] == (3 + 1) * 512
        # One core has 3 key tiles and the other 1: the mean of 2 over the most of 3.
        assert report.core_balance == pytest.approx(2 / 3)

    def test_the_longest_comes_first(self):
        # One core has the 3 tiles of the longest, the other 3 of one each.
        assert self.report_of(16, 16, 16, 48).core_balance == 1
        # In order, each core has one or two short ones before the longest: 2 tiles and 4.
        assert self.report_of(16, 16, 16, 48, order="by_head").core_balance == 3 / 4


def test_split_kv_cuts_a_long_cache_into_ranges_as_long_as_the_others():
    lengths = [{"new": 1, "cached": 63}, {"new": 1, "cached": 15, "count": 3}]
    program, output, expected = recorded(
        "split_kv", problem_of(lengths, dtype="fp32", kv_heads=1), splits=4, tile_k=16
    )
    # Four ranges of 16 keys of the first sequence, one of each other, and one merge.
    assert np.bincount(program.item_phase).tolist() == [7, 1]
    np.testing.assert_allclose(output, expected, atol=1e-6)
