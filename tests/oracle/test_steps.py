"""A generation is a list of steps, and several new tokens in a step are one pass."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.bench import Bench
from accelsim.kernels.registry import get_kernel
from accelsim.loading import LoadedWorkload, load_machine
from accelsim.program.verifier import verify
from accelsim.report.measured import Measured
from accelsim.simulation import record, simulate
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import load_tensors
from tests.handmade import machine_of
from tests.oracle.machines import any_format_machine
from tests.oracle.recorded import run

LISTED = [{"new": 1, "cached": 30}, {"new": 1, "cached": 7, "count": 2}, {"new": 1}]
GENERATIONS = [
    {"q_len": 1, "kv_len": 29, "batch": 2, "steps": 6},
    {"q_len": 1, "kv_len": 5, "steps": 5},
    {"sequences": LISTED, "steps": 4},
]
FLAT = "edge-npu"


def problem_of(**keys):
    common = {"kind": "attention", "name": "g", "q_heads": 4, "kv_heads": 2, "head_dim": 16}
    own = {"dtype": "fp32", "tensors": {"source": "uniform", "amplitude": 3.0}}
    return AttentionProblem.model_validate(common | own | keys)


def in_one(kernel, problem, **choices):
    tensors, own = load_tensors(problem, Path()), get_kernel(kernel)
    program, output = own.record(problem, any_format_machine(), own.parameters(**choices), tensors)
    verify(program)
    return program, output


def stacked(problem, outputs):
    """Return outputs of steps [heads, head_dim] as one, in which a head has a row for each."""
    return np.stack(outputs, axis=1).reshape(-1, problem.head_dim)


@pytest.mark.parametrize("keys", GENERATIONS)
def test_the_oracle_is_that_of_each_step_alone(keys):
    problem = problem_of(**keys)
    tensors, oracle = load_tensors(problem, Path()), get_kernel("flash").oracle
    alone = []
    for step in range(problem.steps):
        own = tensors.at_step(problem, step)
        part = problem.at_step(step)
        assert part.steps == 1
        assert {name: getattr(own, name).shape for name in "qkv"} == part.input_shapes
        alone.append(oracle(part, own))
    np.testing.assert_allclose(oracle(problem, tensors), stacked(problem, alone), atol=1e-14)
    assert problem.macs == sum(problem.at_step(step).macs for step in range(problem.steps))


@pytest.mark.parametrize("keys", GENERATIONS)
@pytest.mark.parametrize("causal", [False, True])
def test_one_program_for_all_steps_computes_each_of_them(keys, causal):
    problem = problem_of(**keys, causal=causal)
    tensors = load_tensors(problem, Path())
    choices = {"splits": 3, "tile_k": 8, "precision": "fp32"}
    alone = []
    for step in range(problem.steps):
        own = get_kernel("split_kv")
        arguments = problem.at_step(step), any_format_machine(), own.parameters(**choices)
        alone.append(own.record(*arguments, tensors.at_step(problem, step))[1])
    # Ranges of short sequences are those of the longest one, in the whole and alone.
    _, output = in_one("split_kv", problem, **choices)
    np.testing.assert_array_equal(output, stacked(problem, alone))


@pytest.mark.parametrize("keys", GENERATIONS)
@pytest.mark.parametrize("kernel", ["flash", "split_kv", "dense", "sparse"])
def test_every_exact_kernel_computes_a_generation(kernel, keys):
    if "sequences" in keys and not get_kernel(kernel).takes_sequences:
        return
    loaded = LoadedWorkload(problem_of(**keys, dtype="fp16"), Path())
    recipe = "sparse(mask=window, window=64, block=8)" if kernel == "sparse" else kernel
    report = simulate("ascend-910b", loaded, recipe)
    assert report.accuracy.relative_rmse < 2**-9  # FP16 keeps 11 significant bits
    assert report.workload == "g"
    assert report.seed == 0


def test_steps_that_are_programs_of_their_own_add_up():
    problem = problem_of(**GENERATIONS[0])
    bench = Bench.prepare(FLAT, "flash")
    whole, _ = bench.execute(problem)
    steps = [bench.execute(problem.at_step(step))[0] for step in range(problem.steps)]
    total = sum(steps, Measured())
    assert {name: getattr(whole, name) for name in vars(total)} == vars(total)
    assert whole.macs == problem.macs
    assert whole.recipe == "flash"


@pytest.mark.parametrize("splits", [1, 3])
def test_steps_in_one_program_take_as_long_as_alone_where_nothing_carries_over(splits):
    """As in decision 0033, a run alone lasts less than a cycle longer than its last op."""
    problem = problem_of(q_len=1, kv_len=40, batch=2, steps=5, tensors=None, dtype="fp16")
    recipe = f"split_kv(splits={splits}, tile_k=8, stages=2, precision=fp16)"
    bench = Bench.prepare(machine_of(), recipe)
    whole = bench.execute(problem)[0].cycles
    alone = sum(bench.execute(problem.at_step(each))[0].cycles for each in range(problem.steps))
    assert alone - problem.steps <= whole <= alone


def test_steps_of_their_own_can_be_one_program():
    loaded = LoadedWorkload(problem_of(q_len=1, kv_len=9, steps=3, tensors=None), Path())
    program = record(FLAT, loaded, "flash")
    assert [tensor.name for tensor in program.tensors][:5] == [
        *("0.step.q", "0.step.k", "0.step.v", "0.step.o"),
        "1.step.q",
    ]
    total, one = (simulate(FLAT, loaded, "flash", one_program=each) for each in (False, True))
    assert one.one_program
    assert one.ops == total.ops == program.num_ops
    assert total.cycles - 2 * 3 <= one.cycles <= total.cycles
    timeline = simulate(FLAT, loaded, "flash", timeline=True).timeline
    assert len(timeline.start_cycle) == program.num_ops


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(0, 30),
    st.integers(1, 3),
    st.booleans(),
    st.integers(1, 8),
    st.sampled_from([None, 1, 4, 16]),
)
def test_split_kv_sees_several_new_tokens_causally(q_len, cached, group, causal, splits, tile_k):
    problem = problem_of(
        q_len=q_len, kv_len=q_len + cached, q_heads=2 * group, batch=2, causal=causal
    )
    tensors = load_tensors(problem, Path())
    program, output = run(
        *("split_kv", problem, tensors),
        machine=any_format_machine(),
        **{"splits": splits, "tile_k": tile_k, "precision": "fp32"},
    )
    expected = get_kernel("split_kv").oracle(problem, tensors)
    np.testing.assert_allclose(output, expected, rtol=0, atol=2e-6)
    # K and V are read once for all heads of a group and all new tokens.
    names = {tensor.name: tensor for tensor in program.tensors}
    by_tensor = dict(zip(names, program.bytes_by_tensor, strict=True))
    assert by_tensor["k"] == by_tensor["v"] == names["k"].size_bytes


@pytest.mark.parametrize("causal", [False, True])
def test_split_kv_takes_drafts_of_different_sequences(causal):
    lengths = [{"new": 4, "cached": 40}, {"new": 4, "count": 2}, {"new": 4, "cached": 3}]
    problem = problem_of(sequences=lengths, causal=causal)
    for choices in ({"splits": 3, "tile_k": 8}, {}):
        _, output = in_one("split_kv", problem, **choices)
        expected = get_kernel("split_kv").oracle(problem, load_tensors(problem, Path()))
        np.testing.assert_allclose(output, expected, rtol=0, atol=2e-6)


def test_both_engines_agree_on_a_draft():
    loaded = LoadedWorkload(problem_of(q_len=4, kv_len=60, causal=True, dtype="fp16"), Path())
    reports = [
        simulate("ascend-910b", loaded, "split_kv", engine=each)
        for each in ("compiled", "reference")
    ]
    assert reports[0].cycles == reports[1].cycles


def test_tiles_of_a_draft_fit_a_machine_that_is_just_large_enough():
    problem = problem_of(q_len=8, kv_len=600, causal=True, dtype="fp16", tensors=None)
    machine = load_machine("edge-npu", {"scratchpad.capacity": "24 KiB"})
    program, _ = run("split_kv", problem, None, machine=machine)
    assert program.memory_bytes("scratchpad") <= 24 * 1024
