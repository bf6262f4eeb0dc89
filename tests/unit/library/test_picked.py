"""What the library of NPUs picks, and what it costs: bytes in closed form."""

from pathlib import Path

import pytest

from accelsim.bench import Bench
from accelsim.library.recipe import Recipe, asked_for
from accelsim.loading import LoadedWorkload, load_machine
from accelsim.simulation import simulate
from accelsim.workload.problem import AttentionProblem, LayerProblem

QWEN2 = {"q_heads": 28, "kv_heads": 4, "head_dim": 128}


def step(kv_len, **fields):
    sizes = {"name": "step", "q_len": 1, "kv_len": kv_len, **QWEN2, **fields}
    return AttentionProblem(kind="attention", **sizes)


@pytest.mark.parametrize("machine", ["ascend-910b", "ascend-910b-no-l2", "edge-npu"])
@pytest.mark.parametrize("kv_len", [512, 32768])
def test_a_decode_step_reads_the_keys_and_values_that_exist(machine, kv_len):
    """4 KV heads of kv_len rows of 128 elements of 2 bytes, each of K and V, and no more."""
    report, _ = Bench(load_machine(machine)).execute(step(kv_len))
    for tensor in ("k", "v"):
        assert report.hbm_bytes_by_tensor[tensor] == 4 * kv_len * 128 * 2


def test_a_decode_layer_reads_the_keys_and_values_that_exist():
    part = {**step(4096).model_dump(exclude={"tensors"}), "name": "attention", "count": 3}
    layer = LayerProblem.model_validate(
        {
            "kind": "layer",
            "name": "layer",
            "problems": [{"kind": "gemm", "name": "qkv", "m": 1, "n": 4608, "k": 3584}, part],
        }
    )
    report = simulate("ascend-910b", LoadedWorkload(layer, Path()), "gemm")
    assert report.hbm_bytes_by_tensor["k"] == 3 * 4 * 4096 * 128 * 2


@pytest.mark.parametrize("kv_len", [64, 1024, 32768])
@pytest.mark.parametrize("batch", [1, 32])
def test_the_kernel_of_a_decode_step_is_the_faster_of_both(kv_len, batch):
    problem, machine = step(kv_len, batch=batch), load_machine("ascend-910b")
    picked, *others = (
        Bench(machine, asked_for(recipe)).execute(problem)[0].cycles
        for recipe in ("library", "split_kv", "flash")
    )
    assert picked <= 1.05 * min(others)


@pytest.mark.parametrize("kv_len", [4096, 32768])
@pytest.mark.parametrize(("q_heads", "kv_heads"), [(28, 4), (32, 8), (32, 32)])
@pytest.mark.parametrize("q_len", [2, 8])
def test_the_kernel_of_a_draft_is_the_faster_of_both(kv_len, q_heads, kv_heads, q_len):
    """Of few heads, keys are split: flash has an item for each, and leaves cores without one."""
    sizes = {"q_heads": q_heads, "kv_heads": kv_heads, "q_len": q_len, "causal": True}
    problem, machine = step(kv_len, **sizes), load_machine("ascend-910b")
    picked, *others = (
        Bench(machine, asked_for(recipe)).execute(problem)[0].cycles
        for recipe in ("library", "split_kv", "flash")
    )
    assert picked <= 1.05 * min(others)


def test_few_heads_of_a_draft_are_split_over_the_cores():
    machine = load_machine("ascend-910b")
    drafts = [step(32768, causal=True, q_len=each) for each in (2, 8, 9)]
    recipes = [Bench(machine).recipe_for(draft) for draft in drafts]
    assert recipes == [Recipe("split_kv"), Recipe("split_kv"), Recipe("flash")]


def test_drafts_of_different_lengths_are_one_pass():
    machine = load_machine("ascend-910b")
    equal = [{"new": 2, "cached": 32766}]
    mixed = [*equal, {"new": 1, "cached": 32767}]
    picked = [
        Bench(machine).recipe_for(
            AttentionProblem(kind="attention", name="d", causal=True, sequences=each, **QWEN2)
        )
        for each in (mixed, equal)
    ]
    assert picked == [Recipe("flash"), Recipe("split_kv")]


def test_the_word_library_stands_for_no_recipe():
    assert asked_for("library") is None
    assert asked_for(None) is None
    assert asked_for("flash(tile_q=8)") == Recipe("flash", tile_q=8)
    named = simulate("edge-npu", "attention-uniform-small", "library")
    assert named == simulate("edge-npu", "attention-uniform-small")
    assert named.library == "npu"
