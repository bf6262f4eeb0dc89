"""Traces: the events a viewer reads, and lanes without overlap."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import OutputError
from accelsim.report.trace import lanes_of, trace_events, write_trace


@pytest.fixture
def run(timeline):
    return timeline(
        [(0, 0, 0, 0, 20, 640), (0, 0, 0, 10, 40, 640), (0, 1, 1, 20, 30, 0)],
        clock_hz=2e9,
        uses=[(0, 0, 128), (0, 40, 0)],
        peak=96e9,
        about={"machine": "m", "kernel": "flash", "settings": {"machine.cores": 2}},
    )


def events(run, kind):
    return [event for event in trace_events(run) if event["ph"] == kind]


def test_ops_are_complete_events_in_microseconds(run):
    assert events(run, "X") == [
        {
            "ph": "X",
            "name": "load k",
            "pid": 0,
            "tid": 0,
            "ts": 0.0,
            "dur": pytest.approx(0.01),
            "args": {"start_cycle": 0, "cycles": 20, "bytes": 640, "hbm_bytes": 640},
        },
        {
            "ph": "X",
            "name": "load k",
            "pid": 0,
            "tid": 1,
            "ts": pytest.approx(0.005),
            "dur": pytest.approx(0.015),
            "args": {"start_cycle": 10, "cycles": 30, "bytes": 640, "hbm_bytes": 640},
        },
        {
            "ph": "X",
            "name": "matmul",
            "pid": 0,
            "tid": 1000,
            "ts": pytest.approx(0.01),
            "dur": pytest.approx(0.005),
            "args": {"start_cycle": 20, "cycles": 10},
        },
    ]


def test_every_core_is_a_process_and_every_unit_a_named_lane(run):
    names = {
        (event["name"], event["pid"], event["tid"]): event["args"]["name"]
        for event in events(run, "M")
        if "name" in event["args"]
    }
    assert names == {
        ("process_name", 0, 0): "core 0",
        ("process_name", 1, 0): "HBM",
        ("thread_name", 0, 0): "load",
        ("thread_name", 0, 1): "load (in flight 2)",
        ("thread_name", 0, 1000): "cube",
    }


def test_counters_of_bandwidth_and_scratchpad(run):
    counters = events(run, "C")
    scratchpad = [event for event in counters if event["name"] == "scratchpad use"]
    assert [(event["pid"], event["args"]) for event in scratchpad] == [
        (0, {"bytes": 128}),
        (0, {"bytes": 0}),
    ]
    assert [event["ts"] for event in scratchpad] == pytest.approx([0, 0.02])
    rates = [event["args"]["GB/s"] for event in counters if event["name"] == "HBM bandwidth"]
    # 48 B/cycle: 640 bytes take until cycle 13.3, those requested at cycle 10 until 26.7 of 40.
    assert rates[:666] == pytest.approx([96] * 666)
    assert not any(rates[667:])
    peaks = [event for event in counters if event["name"] == "HBM peak bandwidth"]
    assert [event["args"] for event in peaks] == [{"GB/s": 96}] * 2
    assert [event["ts"] for event in peaks] == pytest.approx([0, 0.02])


def test_a_trace_says_what_was_run(run, tmp_path):
    write_trace(run, tmp_path / "t.json")
    about = json.loads((tmp_path / "t.json").read_text())["otherData"]
    assert about == {"machine": "m", "kernel": "flash", "settings": {"machine.cores": 2}}


@given(spans=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), min_size=1, max_size=25))
def test_ops_of_a_lane_never_overlap(timeline, spans):
    run = timeline([(0, 0, 0, start, start + size, 0) for start, size in spans])
    lanes = lanes_of(run)
    for lane in range(lanes.max() + 1):
        chosen = sorted(
            zip(run.start_cycle[lanes == lane], run.end_cycle[lanes == lane], strict=True)
        )
        assert all(end <= start for (_, end), (start, _) in pairwise(chosen))


def test_the_file_is_json_with_all_events(run, tmp_path):
    write_trace(run, tmp_path / "t.json")
    written = json.loads((tmp_path / "t.json").read_text())
    assert written["traceEvents"] == list(trace_events(run))
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_an_unwritable_file(run, tmp_path):
    path = tmp_path / "absent" / "t.json"
    message = f"{path}: cannot write the trace: No such file or directory"
    with pytest.raises(OutputError, match=f"^{re.escape(message)}$"):
        write_trace(run, path)
