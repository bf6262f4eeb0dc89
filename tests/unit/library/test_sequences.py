"""Which kernels take which sequences, and what may stand side by side."""

import json

import pytest

from accelsim.errors import WorkloadError
from accelsim.simulation import check_comparison, record, simulate

HEADS = {"kind": "attention", "name": "r", "q_heads": 2, "kv_heads": 1, "head_dim": 16}
STEP = [{"new": 1, "cached": 40}, {"new": 1, "cached": 9}]
MIXED = [*STEP, {"new": 8}]
UNIFORM = {"q_len": 8, "kv_len": 40}
GENERATION = {"q_len": 1, "kv_len": 40, "steps": 8}
DECODE = "split_kv, sift, topk, quest, window"


@pytest.fixture
def workload(tmp_path):
    def write(**keys):
        path = tmp_path / "w.yaml"
        path.write_text("\n".join(f"{key}: {json.dumps(each)}" for key, each in keys.items()))
        return path

    return lambda **keys: write(**HEADS, **keys)


def message(run, *arguments):
    with pytest.raises(WorkloadError) as raised:
        run("edge-npu", *arguments)
    return str(raised.value)


@pytest.mark.parametrize("run", [simulate, record])
@pytest.mark.parametrize("kernel", ["dense", "pasa", "centered", "sparse", "int_flash"])
def test_kernels_of_one_length_name_those_of_several(workload, run, kernel):
    assert message(run, workload(sequences=STEP), kernel) == (
        f"workload r: kernel {kernel} takes sequences of one length, not a list of them; "
        f"kernels that can: flash, {DECODE}"
    )


@pytest.mark.parametrize("kernel", ["sift", "topk", "quest", "window"])
@pytest.mark.parametrize("run", [simulate, record])
def test_kernels_of_one_new_token_name_steps(workload, run, kernel):
    assert message(run, workload(**UNIFORM), kernel) == (
        f"workload r: kernel {kernel} takes one new token of each sequence, but one has 8; "
        "tokens that are generated one after the other are steps: 8 with q_len: 1; "
        "kernels that can: dense, flash, int_flash, sage, pasa, centered, sparse, split_kv"
    )


def test_in_a_list_new_tokens_have_their_own_name(workload):
    assert message(simulate, workload(sequences=MIXED), "topk") == (
        "workload r: kernel topk takes one new token of each sequence, but one has 8; "
        "tokens that are generated one after the other are steps: 8 with new: 1; "
        "kernels that can: flash"
    )


def test_split_kv_takes_as_many_new_tokens_of_all(workload):
    assert message(simulate, workload(sequences=MIXED), "split_kv") == (
        "workload r: kernel split_kv takes as many new tokens of each sequence, but found 1 and 8; "
        "kernels that can: flash"
    )


@pytest.mark.parametrize("machine", ["ascend-910b", "h200-sxm"])
def test_libraries_pick_what_can(workload, machine):
    assert simulate(machine, workload(sequences=MIXED)).kernel == "flash"
    for keys in ({"sequences": STEP}, {"sequences": STEP, "steps": 3}, GENERATION):
        assert simulate(machine, workload(**keys)).kernel in ("flash", "split_kv")


@pytest.mark.parametrize("keys", [UNIFORM, GENERATION])
def test_all_kernels_do_the_same_work(workload, keys):
    recipes = ["flash", "dense", "split_kv(splits=1)", "split_kv(splits=2)"]
    problem = workload(**keys, causal=True)
    macs = [simulate("edge-npu", problem, each).macs for each in recipes]
    # Of flash and dense, the mask hides pairs that a tile on the diagonal multiplies all the same.
    expected = 2 * 2 * 16 * (sum(range(33, 41)) if keys is GENERATION else 8 * 40)
    assert macs == [expected] * 4


def test_what_refuses_does_so_before_anything_runs(workload):
    assert "kernel topk takes one" in message(check_comparison, workload(**UNIFORM), [None, "topk"])


def test_the_parts_of_a_layer_count(tmp_path):
    path = tmp_path / "layer.yaml"
    parts = [HEADS | UNIFORM, {"kind": "gemm", "name": "g", "m": 4, "n": 4, "k": 4}]
    path.write_text(json.dumps({"kind": "layer", "name": "both", "problems": parts}))
    assert "kernel topk takes one" in message(check_comparison, path, ["flash", "topk"])
    check_comparison("edge-npu", path, ["flash", "dense"])


@pytest.mark.parametrize(
    ("keys", "recipes"),
    [
        (UNIFORM, ["flash", "split_kv"]),
        (GENERATION, ["flash", "sift", "topk", "dense"]),
        ({"q_len": 1, "kv_len": 40}, ["flash", "topk"]),
        ({"sequences": STEP}, ["flash", "topk"]),
        ({"sequences": STEP, "steps": 2}, ["flash", "topk"]),
    ],
)
def test_equal_work_is_compared(workload, keys, recipes):
    check_comparison("edge-npu", workload(**keys), recipes)
