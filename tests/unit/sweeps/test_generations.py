"""Sweeps over whole models: what their files say, what their rows hold, what is refused."""

import json

import pytest

from accelsim.errors import AccelsimError, ConfigError
from accelsim.inference.request import infer
from accelsim.inference.speculation import speculate
from accelsim.inference.system import System
from accelsim.loading import load_workload
from accelsim.models.model import Model
from accelsim.sweeps.generations import read_generation
from accelsim.sweeps.run import sweep
from accelsim.workload.drafting import Drafting
from tests.small_models import SMALL, SPARSE

CONFIG = {**SMALL, "max_position_embeddings": 400}
REQUESTS = "kind: generation\nname: chat\nmodel: small.json\nprompt: 32\noutput: 3\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(CONFIG))
    (tmp_path / "wide.json").write_text(json.dumps({**CONFIG, "intermediate_size": 512}))
    (tmp_path / "chat.yaml").write_text(REQUESTS)
    return tmp_path


def swept(folder, text):
    file = folder / "sweep.yaml"
    file.write_text("name: requests\nworkloads: [chat.yaml]\n" + text)
    return sweep(file, folder / "out", workers=1)


def test_a_row_is_what_infer_says_of_the_point(folder):
    outcome = swept(
        folder,
        "axes:\n  machine: [ascend-910b, h200]\n  workload.batch: [1, 4]\n"
        "settings:\n  machine.host.step.value: 1 ms\n",
    )
    assert outcome.num_by_status == {"ok": 4}
    for row in outcome.rows:
        alone = infer(
            folder / "small.json",
            System(row["machine"], settings={"machine.host.step.value": "1 ms"}),
            batch=row["workload.batch"],
            prompt=32,
            output=3,
        )
        expected = json.loads(json.dumps(alone.to_row()))
        for name in ("time_to_first_token_s", "time_per_token_s", "energy_j", "largest_batch"):
            assert row[name] == expected[name]
        assert row["step_time_by_operation_s.host"] >= 1e-3
    assert {row["kernel"] for row in outcome.rows} == {"library"}
    assert {row["workload"] for row in outcome.rows} == {"chat"}
    assert {row["device"] for row in outcome.rows} == {"ascend-910b", "h200-sxm"}


def test_model_kernels_lengths_and_machine_are_axes(folder):
    outcome = swept(
        folder,
        "machine: ascend-910b\naxes:\n  workload.model: [small.json, wide.json]\n"
        "  workload.linear: [gemm, 'gemm(tile_m=32)']\n  workload.output: [1, 2]\n"
        "  machine.hbm.bandwidth: [800 GB/s, 1.6 TB/s]\n",
    )
    assert outcome.num_by_status == {"ok": 16}
    assert len({row["time_s"] for row in outcome.rows}) == 16
    assert {row["kernel"] for row in outcome.rows} == {"linear=gemm", "linear=gemm(tile_m=32)"}


def test_formats_of_the_kv_cache_are_an_axis(folder):
    outcome = swept(folder, "machine: h200\naxes:\n  workload.kv: [bf16, fp8_e4m3]\n")
    assert outcome.num_by_status == {"ok": 2}
    plain, coded = outcome.rows
    assert plain["kv_bytes"] == 2 * coded["kv_bytes"]
    assert (plain["workload.kv"], coded["workload.kv"]) == ("bf16", "fp8_e4m3")


def test_drafts_are_axes(folder):
    (folder / "draft.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 1}))
    outcome = swept(
        folder,
        "machine: ascend-910b\nsettings: {workload.output: 9}\naxes:\n"
        "  workload.speculate.draft: [draft.json]\n  workload.speculate.length: [1, 3]\n"
        "  workload.speculate.acceptance: [0.5, 0.9]\n",
    )
    assert outcome.num_by_status == {"ok": 4}
    found = infer(folder / "small.json", "ascend-910b", prompt=32, output=9, steps="interpolated")
    for row in outcome.rows:
        length, rate = (row[f"workload.speculate.{each}"] for each in ("length", "acceptance"))
        drafting = Drafting(draft=str(folder / "draft.json"), length=length, acceptance=rate)
        told = speculate(found, drafting)
        assert row["speculation_length"] == length
        assert row["speculation_tokens_per_s"] == told.tokens_per_s
        assert row["speculation_energy_per_token_j"] == told.energy_per_token_j
        assert row["time_s"] == found.time_s
    assert len({row["speculation_time_s"] for row in outcome.rows}) == 4


def test_files_of_a_draft_beside_the_requests_are_found_and_count(folder):
    (folder / "draft.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 1}))
    (folder / "quality.json").write_text(json.dumps({"accepted_shares": [0.9]}))
    settings = {"speculate.draft": "draft.json", "speculate.acceptance": "quality.json"}
    before = read_generation("workload", str(folder / "chat.yaml"), settings)
    assert before["speculate"]["draft"] == str(folder / "draft.json")
    assert before["speculate"]["acceptance"] == str(folder / "quality.json")
    for number, name in enumerate(("draft.json", "quality.json"), 1):
        (folder / name).write_text((folder / name).read_text() + " ")
        after = read_generation("workload", str(folder / "chat.yaml"), settings)
        same = [a == b for a, b in zip(before["file_digests"], after["file_digests"], strict=True)]
        assert same == [place != number for place in range(3)]
        before = after


def test_a_generation_is_run_again_when_its_model_has_changed(folder):
    text = "machine: ascend-910b\n"
    swept(folder, text)
    assert swept(folder, text).num_run == 0
    (folder / "small.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 4}))
    assert swept(folder, text).num_run == 1


def test_what_a_machine_cannot_run_is_a_row_with_its_reason(folder):
    outcome = swept(folder, "machine: ascend-910b\naxes:\n  workload.linear: [gemm, tender]\n")
    assert outcome.num_by_status == {"ok": 1, "infeasible": 1}
    (refused,) = [row for row in outcome.rows if row["status"] == "infeasible"]
    assert "has no int_mac" in refused["reason"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("machine: ascend-910b\nkernels: [flash]\n", "kernel: found 'flash' with a generation"),
        ("machine: h200-sxm\n", "unknown system 'h200-sxm'"),
        ("machine: h200\nsample: auto\n", "sample: found auto with generations, allowed: never"),
        ("machine: h200\nsettings: {workload.bach: 2}\n", "bach"),
        ("machine: h200\nsettings: {workload.model: nobody-7b}\n", "unknown model 'nobody-7b'"),
        ("machine: h200\nsettings: {workload.batch: 0}\n", "batch"),
        (
            "machine: h200\nsettings: {workload.weights: fp4}\n",
            "weights: found 'fp4', allowed: bf16",
        ),
        (
            "machine: h200\nsettings: {workload.kv: fp8}\n",
            "kv: found 'fp8', allowed: ",
        ),
        (
            "machine: h200\nsettings: {workload.experts: zip}\n",
            "experts: found 'zip', did you mean 'zipf'? allowed: uni",
        ),
        ("machine: h200\nsettings: {machine.host.stp: 1}\n", "stp"),
        (
            "machine: h200\nsettings: {workload.speculate.draft: nobody-1b}\n",
            "speculate: unknown model 'nobody-1b'",
        ),
        ("machine: h200\nsettings: {workload.speculate.length: 4}\n", "speculate.draft"),
        (
            "machine: h200\nsettings: {workload.speculate.draft: small.json, "
            "workload.speculate.acceptance: 1.5}\n",
            "acceptance: found 1.5, allowed: a rate of 0 to 1",
        ),
    ],
)
def test_a_mistake_is_one_error_before_anything_runs(folder, text, message):
    with pytest.raises(AccelsimError, match=r"sweep\.yaml") as error:
        swept(folder, text)
    assert message in str(error.value)


def test_generations_and_other_workloads_are_not_in_one_sweep(folder):
    file = folder / "sweep.yaml"
    file.write_text("name: both\nmachine: ascend-910b\nworkloads: [chat.yaml, gemm-1024]\n")
    with pytest.raises(ConfigError, match="found generations and other workloads"):
        sweep(file, folder / "out", workers=1)


def test_a_model_beside_its_requests_is_found(folder):
    contents = read_generation("workload", str(folder / "chat.yaml"), {})
    assert contents["model"] == str(folder / "small.json")
    assert len(contents["file_digests"]) == 1


def test_seeds_of_experts_are_an_axis(folder):
    (folder / "small.json").write_text(json.dumps(SPARSE))
    (folder / "counts.txt").write_text("8;7;6;5;4;3;2;1\n")
    loads = ["zipf(seed=0)", "zipf(seed=1)", "counts.txt(seed=2)"]
    outcome = swept(
        folder,
        "machine: ascend-910b\nsettings: {workload.batch: 32}\n"
        f"axes:\n  workload.experts: {json.dumps(loads)}\n",
    )
    assert outcome.num_by_status == {"ok": 3}
    for row, load in zip(outcome.rows, loads, strict=True):
        asked = load.replace("counts", str(folder / "counts"))
        arguments = {"batch": 32, "prompt": 32, "output": 3, "steps": "interpolated"}
        alone = infer(Model(folder / "small.json", experts=asked), "ascend-910b", **arguments)
        assert row["time_s"] == alone.time_s
    assert len({row["time_s"] for row in outcome.rows}) == 3


@pytest.mark.parametrize("seed", ["", "(seed=3)"])
def test_a_file_of_experts_beside_the_requests_is_found_and_counts(folder, seed):
    (folder / "small.json").write_text(json.dumps(SPARSE))
    (folder / "counts.txt").write_text("8;7;6;5;4;3;2;1\n")
    settings = {"experts": f"counts.txt{seed}"}
    before = read_generation("workload", str(folder / "chat.yaml"), settings)
    assert before["experts"] == f"{folder / 'counts.txt'}{seed}"
    (folder / "counts.txt").write_text("8;7;6;5;4;3;2;2\n")
    after = read_generation("workload", str(folder / "chat.yaml"), settings)
    assert before["file_digests"][0] == after["file_digests"][0]
    assert before["file_digests"][1] != after["file_digests"][1]


def test_a_run_of_a_generation_names_the_commands_for_it(folder):
    with pytest.raises(ConfigError) as caught:
        load_workload(folder / "chat.yaml")
    assert str(caught.value) == (
        f"{folder / 'chat.yaml'}:1:1: kind: found 'generation', which `accelsim sweep` runs, "
        "and `accelsim infer` one of"
    )


def test_fields_of_a_system_that_cost_no_area_are_told(folder):
    outcome = swept(folder, "machine: ascend-910b\naxes:\n  machine.clock: [1.2 GHz, 1.8 GHz]\n")
    assert outcome.num_by_status == {"ok": 2}
    assert outcome.free_keys == ("machine.clock",)
