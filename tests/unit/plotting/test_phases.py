"""Bars of whole models: parts, shares, colors, and what cannot be drawn."""

import pandas as pd
import pytest

from accelsim.errors import OutputError, UnknownNameError
from accelsim.plotting.phases import phase_energy_figure, phase_time_figure

ROW = {
    "machine": "h200",
    "workload": "llama 1 x 8 + 2",
    "kernel": "library",
    "prefill_time_s": 4e-3,
    "step_time_s": 1e-3,
    "prefill_energy_j": 1.0,
    "step_energy_j": 0.25,
    "prefill_time_by_operation_s.qkv": 3e-3,
    "prefill_time_by_operation_s.attention of prompts": 0.99e-3,
    "prefill_time_by_operation_s.sampling": 0.01e-3,
    "step_time_by_operation_s.qkv": 0.4e-3,
    "step_time_by_operation_s.attention of steps": 0.6e-3,
    "prefill_energy_by_component_j.hbm": 0.4,
    "prefill_energy_by_component_j.cube": 0.6,
    "step_energy_by_component_j.hbm": 0.25,
}


def widths(axes):
    """Return the widths of the bars by the name of their part."""
    return {each.get_label(): [bar.get_width() for bar in each] for each in axes.containers}


def test_both_phases_have_the_same_parts_and_small_ones_are_summed():
    prefill, step = phase_time_figure(pd.DataFrame([ROW])).axes
    assert list(widths(prefill)) == list(widths(step)) == ["qkv", "attention", "others"]
    assert widths(prefill)["others"] == [pytest.approx(0.01)]
    assert sum(width for (width,) in widths(prefill).values()) == pytest.approx(4)
    assert sum(width for (width,) in widths(step).values()) in (
        pytest.approx(1),
        pytest.approx(1000),
    )
    assert prefill.get_legend() is not None
    assert step.get_legend() is None


def test_a_part_has_one_color_in_both_phases():
    colors = [
        {each.get_label(): each[0].get_facecolor() for each in axes.containers}
        for axes in phase_energy_figure(pd.DataFrame([ROW])).axes
    ]
    assert colors[0] == colors[1]
    assert len(set(colors[0].values())) == len(colors[0])


def test_rows_without_result_are_left_out():
    refused = {"machine": "h200", "workload": "w", "kernel": "tender"}
    (axes, _) = phase_time_figure(pd.DataFrame([ROW, refused])).axes
    assert [each.get_text() for each in axes.get_yticklabels()] == ["library"]


def test_tables_of_something_else_are_refused():
    with pytest.raises(UnknownNameError, match="unknown column 'prefill_time_s'"):
        phase_time_figure(pd.DataFrame([{"kernel": "flash", "time_s": 1.0}]))
    with pytest.raises(OutputError, match="no column prefill_time_by_operation_s"):
        phase_time_figure(pd.DataFrame([{k: v for k, v in ROW.items() if "by_op" not in k}]))
