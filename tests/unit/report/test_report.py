"""What a report becomes: JSON, a row, a frame, tables for terminal and notebook, a pickle."""

import json
import pickle
import re
from dataclasses import replace

import pytest
from rich.console import Console

from accelsim.report.report import Report
from accelsim.report.trace import write_trace
from accelsim.simulation import simulate

KEYS = {
    "machine",
    "workload",
    "kernel",
    "recipe",
    "library",
    "version",
    "seed",
    "cycles",
    "time_s",
    "bound_by",
    "hbm_read_bytes",
    "hbm_write_bytes",
    "hbm_bytes_by_tensor",
    "macs",
    "units",
    "scratchpad_peak_bytes",
    "energy_j",
    "energy_by_component_j",
    "area_mm2",
    "accuracy",
}
"""What scripts outside the project read from the JSON."""

LAYER = "smollm2-135m/decode-4096"


@pytest.fixture(scope="module")
def report() -> Report:
    return simulate("edge-npu", "attention-uniform-small", "flash(tile_q=64)", {"machine.cores": 1})


@pytest.fixture(scope="module")
def layer() -> Report:
    return simulate("ascend-910b-no-l2", LAYER, "flash")


def printed(report) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(report)
    return capture.get()


def test_json_has_every_key(report):
    data = json.loads(json.dumps(report.to_dict()))
    assert data.keys() >= KEYS
    for unit in ("cube", "vector", "int_mac", "load", "store"):
        assert data["units"][unit].keys() >= {"busy_cycles", "utilization"}
    assert data["accuracy"].keys() == {
        "rmse",
        "relative_rmse",
        "max_abs_error",
        "nonfinite_fraction",
    }
    assert data["settings"] == {"machine.cores": 1}
    assert (data["kernel"], data["recipe"]) == ("flash", "flash(tile_q=64)")
    assert data["hbm_bytes_by_tensor"].keys() == {"q", "k", "v", "o"}
    assert "timeline" not in data


def test_json_of_a_run_without_tensors_says_null():
    data = simulate("edge-npu", "gemm-1024", "gemm").to_dict()
    assert (data["accuracy"], data["seed"]) == (None, None)


def test_json_of_a_layer_holds_its_parts(layer):
    data = json.loads(json.dumps(layer.to_dict()))
    assert data.keys() >= KEYS
    assert [part["workload"] for part in data["parts"]] == [part.workload for part in layer.parts]
    assert all(part.keys() >= KEYS for part in data["parts"])


def test_a_row_is_flat(report):
    row = report.to_row()
    assert all(isinstance(value, str | int | float) for value in row.values())
    assert (row["kernel"], row["recipe"], row["library"]) == ("flash", "flash(tile_q=64)", "")
    assert row["units.cube.utilization"] == report.units["cube"].utilization
    assert row["hbm_bytes_by_tensor.k"] == report.hbm_bytes_by_tensor["k"]
    assert row["accuracy.rmse"] == report.accuracy.rmse


def test_rows_with_and_without_accuracy_have_the_same_columns():
    with_tensors = simulate("edge-npu", "attention-uniform-small", "flash")
    without = replace(with_tensors, accuracy=None)
    assert with_tensors.to_row().keys() == without.to_row().keys()
    assert without.to_row()["accuracy.rmse"] is None


def test_a_frame_has_a_row_for_a_run_and_one_for_each_part_of_a_layer(report, layer):
    frame = report.to_frame()
    assert len(frame) == 1
    assert frame.loc[0, "cycles"] == report.cycles
    assert layer.to_frame()["cycles"].tolist() == [part.cycles for part in layer.parts]


def test_the_terminal_shows_totals_units_traffic_energy_and_accuracy(report):
    text = printed(report)
    assert "flash: attention-uniform-small on edge-npu" in text
    lines = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in text.splitlines()
        if "│" in line
    ]
    shown = {cells[0]: cells[1] for cells in lines}
    assert shown["recipe"] == "flash(tile_q=64)"
    assert shown["cycles"] == f"{report.cycles:,} cycles"
    assert shown["bound by"] == report.bound_by
    assert shown["HBM bytes of k"] == f"{report.hbm_bytes_by_tensor['k'] / 1000:.4g} kB"
    assert shown["relative RMSE"] == f"{report.accuracy.relative_rmse:.3g}"
    assert shown["cube busy"] == f"{report.units['cube'].busy_cycles:,} cycles"
    assert "int_mac busy" not in shown  # a unit without work takes no line


def test_the_terminal_shows_the_parts_of_a_layer(layer):
    text = printed(layer)
    assert all(f"{part.kernel}: {part.workload}" in text for part in layer.parts)
    assert "no tensors" in text


def test_the_terminal_says_that_a_layer_ran_as_one_program(layer):
    text = printed(replace(layer, one_program=True, hbm_bytes_by_tensor={"0.qkv.k_scale": 1}))
    assert "run as" not in printed(layer)
    assert re.search(r"run as +│ +one program", text)
    assert all(f"{part.cycles:,} cycles alone" in text for part in layer.parts)
    assert "HBM bytes of 0.qkv.k scale" in text


def test_the_terminal_says_what_flows_in_one_program(layer):
    one = replace(layer, one_program=True, reads={})
    assert re.search(r"activations +│ +no part reads where one stored", printed(one))
    assert "activations" not in printed(layer)
    told = printed(replace(one, reads={"2.o.a": "attention", "3.up.a": ""}))
    assert re.search(r"2\.o\.a is +│ +attention", told)
    assert re.search(r"3\.up\.a is +│ +stored in another form, apart", told)
    assert "activations" not in told
    assert one.to_dict()["reads"] == {}
    assert "reads" not in layer.to_dict()
    assert "reads" not in one.to_row()


def test_a_notebook_shows_a_table(report):
    html = report._repr_html_()
    assert html.startswith("<table><tr><th>machine</th><td>edge-npu</td></tr>")
    assert html.count("<tr>") == len(report.to_row())
    assert f"<td>{report.cycles:,} cycles</td>" in html


def test_a_notebook_does_not_run_what_a_name_holds(report):
    hostile = replace(report, workload="<script>alert(1)</script>")
    assert "<script>" not in hostile._repr_html_()


def test_it_survives_pickling(report, layer):
    assert pickle.loads(pickle.dumps(report)) == report
    assert pickle.loads(pickle.dumps(layer)) == layer


def test_the_timeline_is_there_when_asked_for(report, tmp_path):
    assert report.timeline is None
    settings = {"machine.cores": 2}
    traced = simulate(
        "edge-npu", "attention-uniform-small", "flash(tile_q=64)", settings, timeline=True
    )
    assert traced.timeline.cycles == traced.cycles
    assert len(traced.timeline.core) == traced.ops
    assert "timeline" not in traced.to_dict()
    path = tmp_path / "t.json"
    write_trace(traced.timeline, path)
    events = json.loads(path.read_text())["traceEvents"]
    lanes = {
        (event["pid"], event["args"]["name"]) for event in events if event["name"] == "thread_name"
    }
    assert {
        (core, unit) for core in (0, 1) for unit in ("cube", "vector", "load", "store")
    } <= lanes
    ops = [event for event in events if event["ph"] == "X"]
    assert len(ops) == traced.ops
    assert sum(op["args"].get("hbm_bytes", 0) for op in ops) == (
        traced.hbm_read_bytes + traced.hbm_write_bytes
    )
    counters = {event["name"] for event in events if event["ph"] == "C"}
    assert counters == {"HBM bandwidth", "HBM peak bandwidth", "scratchpad use"}
