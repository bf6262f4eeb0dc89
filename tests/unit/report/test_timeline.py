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


def test_what_was_requested_is_served_at_the_peak_until_nothing_is_left(timeline):
    """400 bytes at cycle 0 and 200 at cycle 5, at 100 B/cycle and 1 GHz."""
    run = timeline([(0, 0, 0, 0, 9, 400), (1, 0, 0, 5, 9, 200)], peak=100e9, cycles=9)
    cycles, rates = run.hbm_bytes_per_s(9)
    assert cycles.tolist() == list(range(9))
    assert rates == pytest.approx([100e9] * 4 + [0] + [100e9] * 2 + [0] * 2)


def test_requests_that_come_together_wait_for_each_other(timeline):
    run = timeline([(0, 0, 0, 0, 8, 300), (1, 0, 0, 1, 8, 300)], peak=100e9, cycles=8)
    assert run.hbm_bytes_per_s(8)[1] == pytest.approx([100e9] * 6 + [0] * 2)


def test_what_no_op_waits_for_is_served_at_the_end(timeline):
    run = timeline([(0, 0, 0, 0, 4, 200)], peak=100e9, cycles=6, hbm_bytes_at_end=100)
    assert run.hbm_bytes_per_s(6)[1] == pytest.approx([100e9] * 2 + [0] * 3 + [100e9])


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


@given(
    rows=st.lists(ops, min_size=1, max_size=30),
    bins=st.integers(1, 50),
    share=st.sampled_from([0.01, 0.5, 1]),
)
def test_bandwidth_conserves_bytes_and_stays_at_or_below_the_peak(timeline, rows, bins, share):
    """share: of the time in which the peak moves all bytes."""
    rows = [
        (core, unit, name, start, start + size, moved)
        for core, unit, name, start, size, moved in rows
    ]
    end, total = max(row[4] for row in rows), sum(row[5] for row in rows)
    peak = max(total, 1) / end / share
    run = timeline(rows, peak=peak * 1e9)
    _, rates = run.hbm_bytes_per_s(bins)
    assert rates.max() <= peak * 1e9
    moved = rates.sum() * run.cycles / bins / run.clock_hz
    assert moved == pytest.approx(total, rel=1e-9)
