"""What a kernel leaves open is settled by trials, where the estimate does not tell for certain."""

from pathlib import Path

import numpy as np
import pytest

from accelsim.bench import Bench
from accelsim.choosing import memory, trial
from accelsim.choosing.asked import Asked
from accelsim.choosing.trial import settled
from accelsim.engine.window import schedule
from accelsim.errors import DoesNotFitError
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.library.recipe import Recipe
from accelsim.loading import load_machine
from accelsim.program.verifier import verify
from accelsim.runtime import on_disk
from accelsim.workload.problem import AttentionProblem, GemmProblem, GroupedGemmProblem
from accelsim.workload.tensors import load_counted_tensors
from tests.handmade import changed

MACHINE = "ascend-910b-no-l2"


def attention(**sizes):
    own = {"q_heads": 8, "kv_heads": 8, "head_dim": 128, "q_len": 208, "kv_len": 208}
    return AttentionProblem.model_validate(
        {"kind": "attention", "name": "attention", **own, **sizes}
    )


PROMPT = attention(causal=True)
STEP = attention(q_len=1, kv_len=1000, kv_heads=2)
RAGGED = attention(
    q_len=None,
    kv_len=None,
    kv_heads=2,
    sequences=[{"new": 1, "cached": 300}, {"new": 1, "cached": 40}],
)
LINEAR = GemmProblem(kind="gemm", name="linear", m=100, n=500, k=600)
EXPERTS = GroupedGemmProblem(kind="grouped_gemm", name="experts", rows=(3, 0, 90, 40), n=512, k=256)
KERNELS = {
    "flash": (MACHINE, PROMPT),
    "dense": (MACHINE, PROMPT),
    "split_kv": (MACHINE, STEP),
    "gemm": (MACHINE, LINEAR),
    "grouped_gemm": (MACHINE, EXPERTS),
    "weight_only": (MACHINE, LINEAR),
    "mx": ("mx-npu", LINEAR),
}


@pytest.fixture(autouse=True)
def nothing_known(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "kept_folder", lambda: tmp_path)
    memory.forget()
    yield
    memory.forget()


def asked_for(kernel, machine, problem, **parameters):
    own = get_kernel(kernel)
    return Asked(own, problem, load_machine(machine), own.parameters(**parameters))


def rivals_of(asked):
    return asked.kernel.rivals(asked.problem, asked.machine, asked.parameters)


def ops_of(program):
    return np.asarray(program.ops)


def test_each_kernel_that_leaves_something_open_is_tested_here():
    assert {each for each in kernel_names() if get_kernel(each).leaves_open} == set(KERNELS)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_first_rival_is_what_the_kernel_takes_by_itself(kernel):
    asked = asked_for(kernel, *KERNELS[kernel])
    first, *others = rivals_of(asked)
    assert others
    assert set(first) == set(asked.kernel.leaves_open)
    own = asked.with_settings(first)
    assert not own.is_open
    verify(own.record())
    assert np.array_equal(ops_of(own.record()), ops_of(asked.record()))


def test_rivals_of_sequences_say_the_splits_of_the_longest_one():
    asked = asked_for("split_kv", MACHINE, RAGGED)
    first = rivals_of(asked)[0]
    assert np.array_equal(ops_of(asked.with_settings(first).record()), ops_of(asked.record()))


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_fastest_of_the_rivals_is_taken(kernel):
    asked = asked_for(kernel, *KERNELS[kernel])
    tried = [asked.with_settings(each) for each in rivals_of(asked)]
    cycles = [schedule(each.record(), asked.machine).cycles for each in tried]
    found = settled(asked)
    assert found.parameters == tried[cycles.index(min(cycles))].parameters
    assert found.trial.run.cycles == min(cycles)


def test_a_trial_finds_tiles_that_the_estimate_puts_second():
    """208 tokens with 8 heads: which core takes one of the last items hangs on a few cycles."""
    asked = asked_for("flash", MACHINE, PROMPT)
    by_estimate = schedule(asked.record(), asked.machine).cycles
    assert settled(asked).trial.run.cycles < 0.9 * by_estimate


def test_of_equal_runs_that_of_the_best_estimate_is_taken(monkeypatch):
    asked = asked_for("flash", MACHINE, PROMPT)
    same = schedule(asked.record(), asked.machine)
    monkeypatch.setattr(trial.window, "schedule", lambda *_: same)
    assert settled(asked).parameters == asked.with_settings(rivals_of(asked)[0]).parameters


def test_of_a_long_program_the_estimate_decides(monkeypatch):
    monkeypatch.setattr(trial, "MOST_OPS", 10)
    asked = asked_for("flash", MACHINE, PROMPT)
    found = settled(asked)
    assert found.parameters == asked.with_settings(rivals_of(asked)[0]).parameters
    assert found.trial.run is None


def test_a_rival_of_a_longer_program_is_tried_up_to_a_limit(monkeypatch):
    asked = asked_for("flash", MACHINE, PROMPT)
    programs = [asked.with_settings(each).record() for each in rivals_of(asked)]
    first, *others = (each.num_ops for each in programs)
    assert max(others) > first
    cycles = [schedule(each, asked.machine).cycles for each in programs]
    for limit in (first, *others):
        monkeypatch.setattr(trial, "MOST_OPS_OF_A_RIVAL", limit)
        monkeypatch.setattr(trial, "MOST_OPS", first)
        tried = [cycles[0], *(c for c, ops in zip(cycles[1:], others, strict=True) if ops <= limit)]
        memory.forget()
        monkeypatch.setattr(memory, "kept", lambda *_: None)
        assert settled(asked).trial.run.cycles == min(tried)


def test_a_rival_that_cannot_be_scheduled_is_passed_over(monkeypatch):
    asked = asked_for("flash", MACHINE, PROMPT)
    first = asked.with_settings(rivals_of(asked)[0])
    own = schedule(first.record(), asked.machine)

    def only_first(program, _):
        if not np.array_equal(ops_of(program), ops_of(first.record())):
            raise DoesNotFitError("not this one")
        return own

    monkeypatch.setattr(trial.window, "schedule", only_first)
    assert settled(asked).parameters == first.parameters


def test_what_is_given_stays_and_nothing_is_tried():
    given = {"tile_q": 64, "tile_k": 48, "query_tiles": 1, "fold": False}
    asked = asked_for("flash", MACHINE, PROMPT, **given)
    found = settled(asked)
    assert found.parameters is asked.parameters
    assert found.trial is None


def test_what_is_given_stays_beside_what_is_chosen():
    found = settled(asked_for("flash", MACHINE, PROMPT, tile_q=32)).parameters
    assert found.tile_q == 32
    assert found.tile_k is not None


def test_a_trial_at_another_clock_is_another_run():
    found = settled(asked_for("flash", MACHINE, PROMPT)).trial
    assert found.schedule(found.program, found.machine) is found.run
    slower = changed(found.machine, "clock", lambda clock: clock / 2)
    assert found.schedule(found.program, slower).cycles < found.run.cycles


def test_a_report_does_not_tell_whether_a_choice_was_made_or_found():
    bench = Bench(load_machine(MACHINE))
    made, found = (bench.execute(PROMPT)[0] for _ in range(2))
    assert made == found
    by_reference, _ = bench.execute(PROMPT, engine="reference")
    assert by_reference.cycles == made.cycles


def test_with_numbers_the_tiles_are_those_without():
    problem = attention(
        q_len=40,
        kv_len=40,
        head_dim=16,
        tensors={"source": "uniform", "seed": 1},
    )
    tensors, _ = load_counted_tensors(problem, Path())
    bench = Bench(load_machine(MACHINE))
    (counted, output), (alone, _) = bench.execute(problem, tensors), bench.execute(problem)
    assert output is not None
    assert counted.parameters == alone.parameters
    assert counted.cycles == alone.cycles


def test_the_library_of_a_gpu_tries_nothing():
    """cuBLAS and cuDNN pick by a heuristic: a user gets what the heuristic says."""
    machine = load_machine("h200-sxm")
    report, _ = Bench(machine).execute(LINEAR)
    recipe = Bench(machine).recipe_for(LINEAR)
    program, _ = get_kernel("gemm").record(LINEAR, machine, recipe.parameters(), None)
    assert report.cycles == schedule(program, machine).cycles


@pytest.mark.parametrize("name", ["tile_q", "tile_k", "query_tiles", "fold"])
def test_what_a_recipe_says_is_not_open(name):
    given = {"tile_q": 64, "tile_k": 48, "query_tiles": 1, "fold": False}
    del given[name]
    recipe = Recipe("flash", **given)
    assert Asked(recipe.algorithm, PROMPT, load_machine(MACHINE), recipe.parameters()).is_open
