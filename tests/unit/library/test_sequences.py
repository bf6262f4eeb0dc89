"""Which kernels take which sequences, and which may stand side by side."""

import json

import pytest

from accelsim.errors import WorkloadError
from accelsim.simulation import check_comparison, record, simulate

HEADS = {"kind": "attention", "name": "r", "q_heads": 2, "kv_heads": 1, "head_dim": 16}
STEP = [{"new": 1, "cached": 40}, {"new": 1, "cached": 9}]
MIXED = [*STEP, {"new": 8}]
UNIFORM = {"q_len": 8, "kv_len": 40}
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


def test_kernels_of_decode_take_one_new_token(workload):
    assert message(simulate, workload(sequences=MIXED), "topk") == (
        "workload r: kernel topk takes one new token of each sequence, but one has 8; "
        "kernels that can: flash"
    )


@pytest.mark.parametrize("machine", ["ascend-910b", "h200-sxm"])
def test_libraries_pick_what_can(workload, machine):
    assert simulate(machine, workload(sequences=MIXED)).kernel == "flash"
    assert simulate(machine, workload(sequences=STEP)).kernel in ("flash", "split_kv")


def test_a_generation_is_not_compared_with_a_pass(workload):
    recipes = ["flash", "sift", "dense", "split_kv(splits=1)", "split_kv(splits=2)"]
    assert message(check_comparison, workload(**UNIFORM), recipes) == (
        "workload r: its 8 query rows are as many steps of a generation for sift, split_kv, and "
        "one pass for flash, dense, which is other work; compare either kind by itself, or one "
        "query row"
    )


def test_the_choice_of_the_library_counts(workload):
    assert "one pass for flash" in message(check_comparison, workload(**UNIFORM), [None, "topk"])


def test_the_parts_of_a_layer_count(tmp_path):
    path = tmp_path / "layer.yaml"
    parts = [HEADS | UNIFORM, {"kind": "gemm", "name": "g", "m": 4, "n": 4, "k": 4}]
    path.write_text(json.dumps({"kind": "layer", "name": "both", "problems": parts}))
    assert "one pass for flash" in message(check_comparison, path, ["flash", "topk"])
    check_comparison("edge-npu", path, ["flash", "dense"])


@pytest.mark.parametrize(
    ("keys", "recipes"),
    [
        (UNIFORM, ["flash", "dense"]),
        (UNIFORM, ["sift", "topk"]),
        ({"q_len": 1, "kv_len": 40}, ["flash", "topk"]),
        ({"sequences": STEP}, ["flash", "topk"]),
    ],
)
def test_equal_work_is_compared(workload, keys, recipes):
    check_comparison("edge-npu", workload(**keys), recipes)
