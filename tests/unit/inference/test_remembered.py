"""Costs are remembered to the last digit, by all that they follow from, and never stale."""

import os
import re
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from accelsim.config.shipped import locate
from accelsim.errors import ConfigError
from accelsim.inference import remembered
from accelsim.inference.cost import StepModel
from accelsim.inference.remembered import RememberedCosts
from accelsim.inference.request import infer
from accelsim.library.kernels import Kernels
from accelsim.library.recipe import Recipe
from accelsim.loading import load_devices
from accelsim.models.loading import load_architecture
from accelsim.models.step import Step
from accelsim.report.written import UnwritableError, read, written
from accelsim.runtime import on_disk
from accelsim.workload.problem import AttentionProblem

MODEL = "smollm2-135m"
SYSTEM = "ascend-910b"
STEP = Step.decode(1, 40)
ATTENTION = AttentionProblem(
    kind="attention", name="attention", q_heads=4, kv_heads=2, head_dim=64, q_len=1, kv_len=90
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "kept_folder", lambda: tmp_path)
    monkeypatch.setenv("ACCELSIM_REMEMBER", "yes")
    monkeypatch.setattr(remembered, "is_as_digested", lambda: True)
    on_disk._kept.clear()
    return tmp_path / "costs"


def model_of(system=SYSTEM, settings=None, **asked):
    loaded = load_devices(system, settings or {})
    return StepModel(load_architecture(MODEL), loaded, **asked)


def typed(report):
    """Return each field with its type, and those of what is in it."""
    return {each.name: _typed(getattr(report, each.name)) for each in fields(report)}


def _typed(value):
    inside = {name: _typed(each) for name, each in value.items()} if isinstance(value, dict) else ()
    return type(value), value, inside


@pytest.mark.parametrize("system", [SYSTEM, "h200"])
def test_what_is_remembered_is_what_was_simulated_to_the_last_digit(system, monkeypatch):
    first, again = model_of(system), model_of(system)
    simulated, remembered_cost = first.cost(STEP), again.cost(STEP)
    monkeypatch.setenv("ACCELSIM_REMEMBER", "no")
    without = model_of(system).cost(STEP)
    assert again.remembered.simulated == 0 < first.remembered.simulated
    for cost in (simulated, remembered_cost):
        assert [typed(each.report) for each in cost.operations] == [
            typed(each.report) for each in without.operations
        ]
        assert cost.time_s == without.time_s
        assert cost.energy_j == without.measured.energy_j == without.energy_j
        assert cost.device_s == without.measured.time_s


def test_a_whole_inference_is_the_same_with_an_empty_a_filled_and_no_store(monkeypatch):
    asked = {"prompt": 30, "output": 4}
    runs = [infer(MODEL, SYSTEM, **asked) for _ in range(2)]
    monkeypatch.setenv("ACCELSIM_REMEMBER", "no")
    without = infer(MODEL, SYSTEM, **asked)
    assert runs[1].costs.remembered.simulated == 0
    assert without.costs.remembered.remembered == 0
    for run in runs:
        assert run.to_dict() == without.to_dict()
        assert run.operation_rows() == without.operation_rows()


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"cores": 4}},
        {"settings": {"hbm.bandwidth": "1 TB/s"}},
        {"settings": {"clock": "1.5 GHz"}},
        {"settings": {"name": "another"}},
        {"sample": "auto"},
        {"kernels": Kernels(attention="flash")},
        {"kernels": Kernels(attention="flash(tile_q=16)")},
    ],
)
def test_whatever_a_cost_follows_from_is_simulated_anew(changed, tmp_path):
    model_of().cost(STEP)
    model = model_of(**changed)
    cost = model.cost(STEP)
    is_attention = [each.problem.kind == "attention" for each in cost.operations]
    anew = sum(is_attention) if "kernels" in changed else len(cost.operations)
    assert model.remembered.simulated == anew


def test_what_the_file_of_a_technology_says_is_part_of_a_cost(tmp_path):
    path = tmp_path / "technology.yaml"
    path.write_text(locate("7nm", "technology").read_text())
    model_of(settings={"technology": str(path)}).cost(STEP)
    again = model_of(settings={"technology": str(path)})
    before = again.cost(STEP)
    text = path.read_text()
    path.write_text(re.sub(r"(logic_static_power_per_mm2: \{ value: )", r"\g<1>1", text))
    changed = model_of(settings={"technology": str(path)})
    after = changed.cost(STEP)
    assert again.remembered.simulated == 0
    assert changed.remembered.simulated == len(after.operations)
    assert after.energy_j > before.energy_j


def costs_of(machine=None):
    return RememberedCosts(machine or load_devices(SYSTEM).machine)


@pytest.fixture
def report():
    operation = model_of().cost(STEP).operations[0]
    return operation.report


def test_a_change_of_the_sources_is_noticed(monkeypatch, report):
    costs_of().report(ATTENTION, None, 1e9, "never", lambda: report)
    monkeypatch.setattr(remembered, "accelsim_digest", lambda: "other sources")
    other = costs_of()
    other.report(ATTENTION, None, 1e9, "never", lambda: report)
    assert other.simulated == 1


def test_nothing_is_kept_or_found_once_a_source_is_younger_than_the_process(
    monkeypatch, report, folder
):
    before = costs_of()
    before.report(ATTENTION, None, 1e9, "never", lambda: report)
    count = len(list(folder.iterdir()))
    assert before._begin
    monkeypatch.setattr(remembered, "is_as_digested", lambda: False)
    before.report(ATTENTION, None, 2e9, "never", lambda: report)
    after = costs_of()
    after.report(ATTENTION, None, 1e9, "never", lambda: report)
    assert after.simulated == 1
    assert len(list(folder.iterdir())) == count


@pytest.mark.parametrize("damage", ["", "torn", "0\n{}", '[1]\n{"ops":1}'])
def test_a_broken_entry_is_simulated_and_mended(report, folder, damage):
    costs_of().report(ATTENTION, None, 3e9, "never", lambda: report)
    for path in folder.iterdir():
        path.write_text(damage)
    again = costs_of()
    assert again.report(ATTENTION, None, 3e9, "never", lambda: report) == report
    assert again.simulated == 1
    mended = costs_of()
    assert mended.report(ATTENTION, None, 3e9, "never", lambda: None) == report


def test_a_whole_text_that_is_no_report_is_simulated(report, monkeypatch):
    monkeypatch.setattr(remembered, "kept", lambda kind, name: '{"ops": 1, "colour": "red"}')
    costs = costs_of()
    assert costs.report(ATTENTION, None, 1e9, "never", lambda: report) is report
    assert costs.weight_bytes(ATTENTION, None, lambda: 7) == 7


def test_kernels_of_users_and_files_that_recipes_name_are_not_kept(report, folder):
    def kept_names():
        return {path.name for path in folder.iterdir()}

    before, costs = kept_names(), costs_of()
    names_a_file = Recipe.parse("sift(thresholds=thresholds.npz)")
    costs.report(ATTENTION, names_a_file, 1e9, "never", lambda: report)
    costs.report(ATTENTION, None, 1e9, "never", lambda: replace(report, kernel="window"))
    assert len(kept_names() - before) == 1


def test_of_too_many_texts_those_read_first_are_removed(monkeypatch, folder):
    monkeypatch.setattr(on_disk, "_MOST", 6)
    monkeypatch.setattr(on_disk, "_LEFT", 4)
    monkeypatch.setattr(on_disk, "_KEPT_BETWEEN_LOOKS", 7)
    begin = time.time() - 3600
    for number in range(8):
        on_disk.keep("costs", f"text{number}", "a")
        read_last = begin + number
        os.utime(folder / f"text{number}", (read_last, read_last))
    assert sorted(path.name for path in folder.iterdir()) == ["text4", "text5", "text6", "text7"]


def test_a_report_with_something_that_a_text_cannot_hold_is_refused(report):
    assert read(written(report)) == report
    with pytest.raises(UnwritableError, match="parts"):
        written(replace(report, parts=(report,)))
    with pytest.raises(UnwritableError, match="of type PosixPath"):
        written(replace(report, parameters={"file": Path("a")}))


def test_the_variable_says_yes_or_no(monkeypatch):
    monkeypatch.setenv("ACCELSIM_REMEMBER", "off")
    with pytest.raises(ConfigError, match=r"^ACCELSIM_REMEMBER: found 'off', allowed: yes or no$"):
        costs_of()


def test_a_run_that_is_remembered_loads_no_compiler(tmp_path):
    command = ["infer", "--model", MODEL, "--system", "h200", "--prompt", "20", "--output", "3"]
    program = (
        "import sys\n"
        "from accelsim.cli.main import main\n"
        f"sys.argv = ['accelsim', *{command}]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print([name for name in ('numba', 'llvmlite') if name in sys.modules])\n"
    )
    # Compiled code is where it is; costs are in a folder of their own.
    environment = os.environ | {"ACCELSIM_REMEMBER": "yes"}
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert runs[1][-1] == "[]"
    assert runs[0][:-1] == runs[1][:-1]
