"""A field of what is measured is written once; what cannot be added says so."""

from dataclasses import fields

import pytest
from rich.console import Console

from accelsim.cli.compare import side_by_side
from accelsim.report import columns, shown
from accelsim.report import report as reports
from accelsim.report.measured import Measured
from accelsim.report.peaks import Peaks
from accelsim.report.report import Report
from accelsim.report.sequence import in_sequence
from accelsim.simulation import simulate


@pytest.fixture(scope="module")
def report() -> Report:
    return simulate("edge-npu", "attention-uniform-small", "flash(tile_q=64)")


def printed(table) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_reports_add_up_to_what_was_measured(report):
    assert report + report == 2 * report
    assert sum([report] * 3) == 3 * report
    assert type(report + report) is Measured
    assert {each.name for each in fields(Measured)} <= vars(report).keys()


def test_a_repeated_report_keeps_its_names_shares_and_peaks(report):
    four = report.repeated(4)
    assert 1 * four == 4 * report
    assert (four.kernel, four.accuracy) == (report.kernel, report.accuracy)
    assert (four.core_balance, four.clock_hz) == (report.core_balance, report.clock_hz)
    assert four.scratchpad_peak_bytes == report.scratchpad_peak_bytes
    assert report.repeated(1) == report


def test_runs_in_sequence_have_the_larger_peaks(report):
    other = simulate("edge-npu", "gemm-1024", "gemm")
    both = in_sequence([report, other], "both", {})
    assert Peaks() | both == report | other
    assert (both.kernel, both.workload) == ("flash, gemm", "both")
    assert (both.seed, both.accuracy, both.parts) == (None, None, ())


def test_a_figure_is_added_in_one_place(report, monkeypatch):
    """A property alone: it is in JSON, rows, and the tables of `run` and `compare`."""
    figure = property(lambda self: self.energy_j / self.macs)
    monkeypatch.setattr(Measured, "energy_of_mac_j", figure, raising=False)
    # What was found for the class before, or is found now, is not for other tests.
    anew = columns.column_names.__wrapped__
    for module in (columns, reports, shown):
        monkeypatch.setattr(module, "column_names", anew)
    energy_j = report.energy_j / report.macs
    assert report.to_dict()["energy_of_mac_j"] == energy_j
    assert report.to_row()["energy_of_mac_j"] == energy_j
    assert "energy of mac" in printed(report)
    assert "energy of mac" in printed(side_by_side([report.to_row()]))
    assert "energy of mac" in report._repr_html_()


def test_what_a_figure_follows_from_is_no_column(report):
    hidden = {"seconds", "joules", "core_cycles", "busy_cycles", "over_time", "timeline"}
    assert not hidden & report.to_dict().keys()
    assert "time_s=" in repr(report)
    assert "seconds=" not in repr(report)


def test_runs_are_counted_from_none_up(report):
    assert 0 * report == Measured()
    with pytest.raises(ValueError, match=r"^found -1 runs, allowed: 0 or more$"):
        -1 * report


@pytest.mark.parametrize("other", [1, 0.5, "x", None])
def test_only_what_is_measured_is_added(report, other):
    with pytest.raises(TypeError):
        report + other
    with pytest.raises(TypeError):
        other + report


def test_only_whole_numbers_multiply(report):
    with pytest.raises(TypeError):
        0.5 * report


def test_nothing_measured_has_no_shares():
    nothing = Measured()
    assert (nothing.time_s, nothing.energy_j, nothing.clock_hz) == (0, 0, 0)
    assert (nothing.hbm_utilization, nothing.peak_macs_per_s) == (0, 0)
    assert (nothing.l2, nothing.units, nothing.dram) == ({}, {}, None)
