"""Timelines: first ops and the bandwidth over time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_first_ops_are_those_of_one_core_in_order_of_start(timeline):
    frame = timeline(
        [(0, 1, 1, 50, 90, 0), (1, 0, 0, 0, 10, 64), (0, 0, 0, 5, 50, 64), (0, 0, 0, 60, 70, 64)]
    ).first_ops(2)
    assert frame.to_dict("list") == {
        "core": [0, 0],
        "unit": ["load", "cube"],
        "name": ["load k", "matmul"],
        "start_cycle": [5, 50],
        "end_cycle": [50, 90],
        "hbm_bytes": [64, 0],
        "clock_hz": [1e9, 1e9],
    }


def test_bandwidth_of_two_overlapping_transfers(timeline):
    # 400 bytes over cycles 0..4 and 200 over 2..4: 100 B/cycle, then 200 B/cycle, at 1 GHz.
    cycles, rates = timeline([(0, 0, 0, 0, 4, 400), (1, 0, 0, 2, 4, 200)]).hbm_bytes_per_s(4)
    assert cycles.tolist() == [0, 1, 2, 3]
    assert rates == pytest.approx([100e9, 100e9, 200e9, 200e9])


def test_an_empty_timeline_has_no_bandwidth(timeline):
    cycles, rates = timeline([]).hbm_bytes_per_s(1)
    assert (cycles.tolist(), rates.tolist()) == ([0.0], [0.0])


ops = st.tuples(
    st.integers(0, 3),
    st.just(0),
    st.just(0),
    st.integers(0, 500),
    st.integers(1, 100),
    st.integers(0, 4096),
)


@given(rows=st.lists(ops, min_size=1, max_size=30), bins=st.integers(1, 50))
def test_bandwidth_conserves_bytes(timeline, rows, bins):
    rows = [
        (core, unit, name, start, start + size, moved)
        for core, unit, name, start, size, moved in rows
    ]
    run = timeline(rows)
    _, rates = run.hbm_bytes_per_s(bins)
    moved = rates.sum() * run.cycles / bins / run.clock_hz
    assert moved == pytest.approx(sum(row[5] for row in rows), rel=1e-9)
