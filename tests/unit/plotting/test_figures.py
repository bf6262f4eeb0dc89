"""Figures drawn from tables: what is on the axes is what is in the table."""

import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from accelsim.errors import AccelsimError, OutputError
from accelsim.plotting.agreement import agreement_figure
from accelsim.plotting.bars import energy_figure, traffic_figure
from accelsim.plotting.gantt import timeline_figure
from accelsim.plotting.roofline import roofline_figure
from accelsim.plotting.style import (
    PALETTE,
    color_of,
    marker_of,
    new_figure,
    save_figure,
    titled,
)
from accelsim.plotting.table import (
    find_table,
    is_exact,
    num_left_out,
    numbers,
    problems,
    read_table,
    series_names,
)
from accelsim.plotting.tradeoff import curve_figure, pareto_figure

COMPARED = pd.DataFrame(
    {
        "machine": "m",
        "workload": "w",
        "kernel": ["dense", "flash"],
        "macs": 4e9,
        "time_s": [4e-5, 2e-5],
        "energy_j": [3e-3, 1e-3],
        "hbm_read_bytes": [6e6, 2e6],
        "hbm_write_bytes": [4e6, 1e6],
        "hbm_bytes_by_tensor.q": [1e6, 1e6],
        "hbm_bytes_by_tensor.k": [2e6, 2e6],
        "hbm_bytes_by_tensor.scores": [7e6, None],
        "energy_by_component_j.cube": [1e-3, 0.9e-3],
        "energy_by_component_j.hbm": [2e-3, 0.1e-3],
        "energy_by_component_j.int_mac": [0.0, 0.0],
        "peak_macs_per_s": 2e14,
        "peak_hbm_bytes_per_s": 1.6e12,
    }
)
SWEPT = pd.DataFrame(
    {
        "workload": "w",
        "kernel": ["dense", "dense", "flash", "flash", "flash"],
        "machine.scratchpad.capacity": ["64 KiB", "1 MiB", "64 KiB", "1 MiB", "32 KiB"],
        "area_mm2": [10.0, 20.0, 10.0, 20.0, None],
        "time_s": [8e-6, 5e-6, 4e-6, 3e-6, None],
    }
)


def bars(axes):
    """Series -> (start, width) of its bars."""
    return {
        container.get_label(): [
            (round(bar.get_x(), 6), round(bar.get_width(), 6)) for bar in container
        ]
        for container in axes.containers
    }


def words(axes):
    return [text.get_text() for text in axes.texts]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_traffic_is_stacked_by_tensor_and_by_direction():
    above, below = traffic_figure(COMPARED).axes
    assert bars(above) == {
        "q": [(0, 1), (0, 1)],
        "k": [(1, 2), (1, 2)],
        "scores": [(3, 7), (3, 0)],
    }
    assert bars(below) == {"read": [(0, 6), (0, 2)], "written": [(6, 4), (2, 1)]}
    assert words(above) == words(below) == ["10 MB", "3 MB"]
    assert below.get_xlabel() == "traffic [MB]"
    assert [label.get_text() for label in below.get_yticklabels()] == ["dense", "flash"]


def test_energy_is_stacked_by_the_components_that_use_any():
    (axes,) = energy_figure(COMPARED).axes
    assert bars(axes) == {"cube": [(0, 1), (0, 0.9)], "HBM": [(1, 2), (0.9, 0.1)]}
    assert words(axes) == ["3 mJ", "1 mJ"]


def test_roofline_has_the_roof_and_one_point_a_run():
    (axes,) = roofline_figure(COMPARED).axes
    roof, *points = axes.get_lines()
    # The ridge is 2e14 / 1.6e12 = 125 MAC/B; the runs do 4e9 MACs on 10 MB and on 3 MB.
    assert roof.get_xdata().tolist()[1] == 125
    assert roof.get_ydata().tolist()[1:] == [200, 200]
    assert {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in points} == {
        "dense": (400, pytest.approx(100)),
        "flash": (pytest.approx(4000 / 3), pytest.approx(200)),
    }
    assert words(axes) == ["200 TMAC/s and 1.6 TB/s\nmeet at 125 MAC/B"]


def test_pareto_front_is_a_staircase_with_named_points():
    front = [False, False, True, True, False]
    settings = ["machine.scratchpad.capacity", "workload"]
    figure = pareto_figure(SWEPT, "area_mm2", "time_s", front, settings=settings)
    (axes,) = figure.axes
    steps = axes.get_lines()[0]
    assert steps.get_drawstyle() == "steps-post"
    assert (steps.get_xdata().tolist(), steps.get_ydata().tolist()) == (
        [10, 20],
        pytest.approx([4, 3]),
    )
    assert legend(axes) == [
        "dense",
        "flash",
        "Pareto front\n(2 of 4 points)",
        "scratchpad capacity 64 KiB",
        "scratchpad capacity 1 MiB",
    ]
    assert words(axes) == ["1", "2"]
    assert axes.get_title(loc="left") == "Pareto front of area and time"


def test_each_problem_has_a_front_of_its_own():
    table = SWEPT.assign(**{"workload.q_len": [512, 1024, 512, 1024, 512]})
    figure = pareto_figure(table, "area_mm2", "time_s", [True, True, True, True, False])
    (axes,) = figure.axes
    assert [len(steps.get_xdata()) for steps in axes.get_lines()] == [2, 2]
    assert legend(axes) == [
        *("dense · q len 512", "dense · q len 1,024", "flash · q len 512", "flash · q len 1,024"),
        "Pareto front, each problem\n(4 of 4 points)",
    ]


def test_workloads_of_one_name_and_other_contents_are_told_apart():
    table = SWEPT.assign(workload_digest=["aaaa11", "bbbb22"] * 2 + ["aaaa11"])
    figure = pareto_figure(table, "area_mm2", "time_s", [True, True, True, True, False])
    assert [len(steps.get_xdata()) for steps in figure.axes[0].get_lines()] == [2, 2]
    assert legend(figure.axes[0])[:-1] == [
        *("dense · w #aaaa", "dense · w #bbbb", "flash · w #aaaa", "flash · w #bbbb")
    ]


def test_machines_of_one_name_and_other_contents_are_told_apart():
    table = SWEPT.drop(columns="machine.scratchpad.capacity").assign(
        machine="m", machine_digest=["aaaa11", "bbbb22"] * 2 + ["aaaa11"]
    )
    names = series_names(table)
    assert names[:4].tolist() == [
        *("dense · m #aaaa", "dense · m #bbbb", "flash · m #aaaa", "flash · m #bbbb")
    ]
    swept = table.assign(**{"machine.cores": [1, 2, 1, 2, 1]})
    assert series_names(swept)[:2].tolist() == ["dense", "dense"]


def test_one_problem_under_two_names_is_one_problem():
    table = SWEPT.assign(workload=["a", "b", "a", "b", "a"], workload_digest="aaaa11")
    assert problems(table).nunique() == 1
    assert problems(table.drop(columns="workload_digest")).nunique() == 2
    older = table.assign(workload_digest=[None, None, "x", "x", "y"])
    assert problems(older).tolist() == ["a", "b", "x", "x", "y"]


def test_lines_stay_with_one_problem():
    """The time of a short sequence is not the lowest of a long one."""
    table = pd.DataFrame(
        {
            "workload": "w",
            "kernel": "flash",
            "workload_digest": [f"p{index % 6}" for index in range(12)],
            "tile_q": [32] * 6 + [64] * 6,
            "time_s": np.arange(1, 13.0),
        }
    )
    (axes,) = curve_figure(table, "tile_q", "time_s").axes
    assert [line.get_ydata().tolist() for line in axes.get_lines()] == [
        [float(index), float(index + 6)] for index in range(1, 7)
    ]
    table["workload.q_len"] = table["workload_digest"].str[1:].astype(int)
    (axes,) = curve_figure(table, "workload.q_len", "time_s").axes
    assert [len(line.get_xdata()) for line in axes.get_lines()] == [6]


MIXED = SWEPT.head(4).assign(
    is_exact=[True, True, False, False], selection_assumed=[False, False, False, True]
)


def test_approximate_designs_have_a_front_of_their_own_and_hollow_markers():
    exact, wider = [True, True, False, False], [False, False, True, True]
    figure = pareto_figure(MIXED, "area_mm2", "time_s", exact, wider_front=wider)
    (axes,) = figure.axes
    solid, dashed = (line for line in axes.get_lines() if line.get_linestyle() in ("-", "--"))
    assert (solid.get_linestyle(), solid.get_ydata().tolist()) == ("-", pytest.approx([8, 5]))
    assert (dashed.get_linestyle(), dashed.get_ydata().tolist()) == ("--", pytest.approx([4, 3]))
    assert legend(axes) == [
        *("dense", "flash", "flash (assumed)", "hollow: approximate"),
        "Pareto front of\nexact designs\n(2 of 2 points)",
        "Pareto front with\napproximate designs\n(2 of 4 points)",
    ]
    faces = [points.get_facecolors()[0, :3].tolist() for points in axes.collections]
    assert [face == [1, 1, 1] for face in faces] == [False, True, True]


def test_there_may_be_no_exact_design():
    table = MIXED.assign(is_exact=False)
    figure = pareto_figure(table, "area_mm2", "time_s", [False] * 4, wider_front=[True] * 4)
    assert legend(figure.axes[0])[-1] == ("Pareto front with\napproximate designs\n(4 of 4 points)")


def test_approximate_kernels_are_hollow_in_a_roofline():
    (axes,) = roofline_figure(COMPARED.assign(is_exact=[True, False])).axes
    faces = {line.get_label(): line.get_markerfacecolor() for line in axes.get_lines()[1:]}
    assert faces["flash"] == "white" != faces["dense"]
    assert legend(axes) == ["dense", "flash", "hollow: approximate"]


LOST = pd.DataFrame(
    {
        "workload": "w",
        "kernel": "gemm",
        "time_s": [1e-6, 2e-6, 3e-6, 4e-6],
        "accuracy.rmse": [6.02, 30.1, np.inf, None],
        "accuracy.nonfinite_fraction": [0.97, 0.0, 0.1, None],
    }
)


@pytest.mark.parametrize("draw", [curve_figure, lambda *words: pareto_figure(*words, [1, 1, 0, 0])])
def test_designs_with_lost_outputs_are_left_out_of_what_is_said_of_accuracy(draw):
    (axes,) = draw(LOST, "time_s", "accuracy.rmse").axes
    assert [points.get_offsets().tolist() for points in axes.collections] == [[[2, 30.1]]]
    assert "2 designs are left out:\noutput or value not finite" in legend(axes)


def test_designs_with_lost_outputs_are_not_exact():
    assert is_exact(LOST).tolist() == [False, True, False, True]
    assert num_left_out(LOST, ["time_s"]) == 0
    assert num_left_out(LOST, ["time_s", "accuracy.rmse"]) == 2


def test_yes_and_no_are_read_from_a_saved_table(tmp_path):
    """Where some points have no result, a column of flags holds text."""
    mixed = MIXED.assign(is_exact=[True, False, None, True])
    mixed.to_csv(tmp_path / "results.csv", index=False)
    assert is_exact(read_table(tmp_path / "results.csv")).tolist() == [True, False, True, True]


def test_steps_turn_where_more_is_better():
    figure = pareto_figure(SWEPT, "area_mm2", "time_s", [True] * 5, maximize=["area_mm2"])
    assert figure.axes[0].get_lines()[0].get_drawstyle() == "steps-pre"


def test_curves_read_quantities_and_go_through_the_lowest_points():
    (axes,) = curve_figure(SWEPT, "machine.scratchpad.capacity", "time_s").axes
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.get_lines()]
    assert lines == [([64, 1024], pytest.approx([8, 5])), ([64, 1024], pytest.approx([4, 3]))]
    assert axes.get_xlabel() == "scratchpad capacity [KiB]"
    assert axes.get_ylabel() == "time [µs]"
    assert axes.get_xscale() == "log"
    assert legend(axes) == ["dense", "flash"]


def test_curves_by_another_column():
    (axes,) = curve_figure(SWEPT, "area_mm2", "time_s", by=["workload"]).axes
    assert legend(axes) == ["w"]
    assert axes.get_legend().get_title().get_text() == "workload"
    assert axes.get_lines()[0].get_ydata().tolist() == pytest.approx([4, 3])
    assert axes.get_title(loc="left") == "Time over area (lines: lowest of each series)"


OPS = pd.DataFrame(
    {
        "core": 0,
        "unit": ["load", "cube", "load"],
        "name": ["load k", "matmul", "load k"],
        "start_cycle": [0, 20, 90],
        "end_cycle": [20, 200, 120],
    }
)


def test_timeline_is_cut_at_the_asked_cycle():
    (axes,) = timeline_figure(OPS, first_cycles=100).axes
    assert bars(axes) == {"load k": [(0, 20), (90, 10)], "matmul": [(20, 80)]}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["load", "cube"]
    assert axes.get_title(loc="left") == "Unit timeline, first 100 cycles"
    assert axes.get_xlabel() == "time [cycles]"


def test_ops_are_colored_by_kind_and_transfers_by_tensor():
    ops = OPS.assign(name=["load k", "matmul scores", "load v"])
    assert list(bars(timeline_figure(ops).axes[0])) == ["load k", "matmul", "load v"]


def test_transfers_in_flight_together_are_drawn_one_after_the_other():
    ops = OPS.assign(name=["load k", "matmul", "load v"], start_cycle=[0, 20, 5])
    drawn = bars(timeline_figure(ops).axes[0])
    assert drawn == {"load k": [(0, 20)], "matmul": [(20, 180)], "load v": [(20, 100)]}


def test_a_timeline_has_room_for_its_legend():
    many = pd.concat([OPS.head(1).assign(name=f"load tensor {index}") for index in range(24)])
    figure = timeline_figure(many)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_legend().get_window_extent().height <= figure.bbox.height


def test_lanes_of_several_cores_are_told_apart():
    (axes,) = timeline_figure(OPS.assign(core=[0, 1, 0])).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["core 0 load", "core 1 cube"]


def test_a_figure_says_what_it_is_of_word_for_word():
    assert titled(new_figure(2, 2), "w ($n=1$) on m").get_suptitle() == "w ($n=1$) on m"


def test_series_of_few_points_keep_their_color_in_a_png(tmp_path):
    figure = new_figure(8.5, 5.2)
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    # The lines of the first series have more shades than a PNG with a palette has colors.
    for index, count in enumerate((300, 3, 3, 3, 3, 3, 3, 3)):
        line = "-" if index == 0 else ""
        axes.plot(*rng.random((2, count)), marker_of(index), color=color_of(index), linestyle=line)
    (path,) = save_figure(figure, tmp_path, "few", ("png",))
    with Image.open(path) as image:
        assert image.mode == "P"
        pixels = np.asarray(image.convert("RGB"))
    for color in PALETTE:
        own = [int(color[place : place + 2], 16) for place in (1, 3, 5)]
        assert (pixels == own).all(axis=2).sum() > 20


def test_a_wide_table_is_read_in_one_piece(tmp_path):
    """Columns of many types by turns would make a frame of many pieces, which pandas warns of."""
    columns = {f"{kind}{n}": value for n in range(60) for kind, value in (("a", 1), ("b", 0.5))}
    pd.DataFrame([columns]).to_csv(tmp_path / "wide.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_table(tmp_path / "wide.csv").assign(more=1)


def test_saved_figures_are_the_same_bytes_each_time(tmp_path):
    for name in ("first", "second"):
        paths = save_figure(energy_figure(COMPARED), tmp_path, name)
        assert [path.name for path in paths] == [f"{name}.png", f"{name}.svg"]
    for suffix in ("png", "svg"):
        first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
        assert first.read_bytes() == second.read_bytes()


def test_a_table_is_found_and_read(tmp_path):
    SWEPT.to_csv(tmp_path / "results.csv", index=False)
    pd.testing.assert_frame_equal(read_table(find_table(tmp_path)), SWEPT)


def test_numbers_of_text_with_units():
    values, quantity = numbers(
        pd.DataFrame({"machine.clock": ["1 GHz", "800 MHz"]}), "machine.clock"
    )
    assert values.tolist() == [1e9, 8e8]
    assert quantity.label(1e9) == (1e9, "clock [GHz]")


def message_of(call, *args):
    with pytest.raises(AccelsimError) as caught:
        call(*args)
    return str(caught.value)


def test_no_table(tmp_path):
    assert message_of(find_table, tmp_path) == (
        f"{tmp_path}: no table to plot; expected a folder with compare.csv, results.csv or "
        "infer.csv"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "cannot read the table: No columns to parse from file"),
        ("kernel,time_s\n", "the table has no rows"),
    ],
)
def test_an_empty_table(tmp_path, content, reason):
    path = tmp_path / "results.csv"
    path.write_text(content)
    assert message_of(read_table, path) == f"{path}: {reason}"


def test_a_missing_table(tmp_path):
    path = tmp_path / "results.csv"
    expected = f"{path}: cannot read the table: No such file or directory"
    assert message_of(read_table, path) == expected


def test_an_unknown_column():
    assert message_of(curve_figure, SWEPT, "area", "time_s") == (
        "unknown column 'area', did you mean 'area_mm2'?; known: area_mm2, kernel, "
        "machine.scratchpad.capacity, time_s, workload"
    )


def test_no_finished_row():
    assert message_of(curve_figure, SWEPT.tail(1), "area_mm2", "time_s") == (
        "no row of the table has a value in all of the columns area_mm2, time_s"
    )


def test_nothing_finite():
    assert message_of(curve_figure, LOST.iloc[[0, 2]], "time_s", "accuracy.rmse") == (
        "no row of the table has a value in all of the columns time_s, accuracy.rmse; "
        "2 left out, whose value or output is not finite"
    )


def test_a_column_of_words():
    assert message_of(curve_figure, SWEPT, "kernel", "time_s") == (
        "column 'kernel' holds words such as 'dense', not numbers"
    )


def test_too_many_bars():
    frame = pd.concat([COMPARED] * 21, ignore_index=True)
    assert message_of(energy_figure, frame) == (
        "bars for 42 rows would not be readable; at most 40 are drawn"
    )


def test_nothing_to_stack():
    frame = COMPARED.drop(columns=[c for c in COMPARED if c.startswith("energy_by_component_j.")])
    assert message_of(energy_figure, frame) == (
        "the table has no column energy_by_component_j.<name> with a value to draw"
    )


def test_no_op_in_time():
    assert message_of(timeline_figure, OPS.tail(1), 50) == "no op starts in the first 50 cycles"


def test_an_unwritable_figure(tmp_path):
    folder = tmp_path / "absent"
    with pytest.raises(OutputError) as caught:
        save_figure(energy_figure(COMPARED), folder, "energy")
    assert str(caught.value) == (
        f"{folder}/energy.png: cannot write the figure: No such file or directory"
    )


def test_agreement_puts_reference_and_prediction_on_equal_axes():
    pairs = {"copy": [(1e-3, 1.1e-3), (2e-3, 2e-3)], "fill": [(8e-3, 6e-3)]}
    axes = agreement_figure(pairs, "time_s", "Predicted against measured").axes[0]
    points = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert points["copy (2)"] == pytest.approx(np.array([[1, 1.1], [2, 2]]))
    assert points["fill (1)"] == pytest.approx(np.array([[8, 6]]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("reference time [ms]", "predicted time [ms]")
    assert axes.get_xlim() == axes.get_ylim()
    off = [line.get_xydata() for line in axes.lines if line.get_linestyle() == "--"]
    assert [float(ends[0, 1] / ends[0, 0]) for ends in off] == pytest.approx([0.9, 1.1])
    assert axes.get_title(loc="left") == "Predicted against measured"
    assert legend(axes) == ["equal", "10% off", "copy (2)", "fill (1)"]


def test_no_two_of_many_series_look_alike():
    kinds = {str(index): [(1.0 + index, 1.0)] for index in range(20)}
    axes = agreement_figure(kinds, "cycles", "Many").axes[0]
    points = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert len({(line.get_marker(), line.get_color()) for line in points}) == len(kinds)
