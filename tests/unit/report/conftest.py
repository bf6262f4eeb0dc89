"""Timelines written as rows."""

import numpy as np
import pytest

from accelsim.report.timeline import Timeline


def make_timeline(
    rows, *, clock_hz=1e9, uses=(), peak=1e15, cycles=0, hbm_bytes_at_end=0, about=None
):
    """Rows are (core, unit, name, start, end, bytes); uses are (core, cycle, bytes)."""
    columns = np.array(rows, np.int64).reshape(-1, 6).T
    changes = np.array(uses, np.int64).reshape(-1, 3).T
    return Timeline(
        *columns,
        ["load k", "matmul"],
        ["load", "cube"],
        clock_hz,
        *changes,
        moved_bytes=columns[5],
        cycles=max(cycles, int(columns[4].max(initial=0))),
        hbm_bytes_at_end=hbm_bytes_at_end,
        peak_hbm_bytes_per_s=peak,
        about=about or {},
    )


@pytest.fixture(scope="session")
def timeline():
    return make_timeline
