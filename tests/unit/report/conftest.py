"""Timelines written as rows."""

import numpy as np
import pytest

from accelsim.report.timeline import Timeline


def make_timeline(rows, *, clock_hz=1e9, uses=()):
    """Rows are (core, unit, name, start, end, bytes); uses are (core, cycle, bytes)."""
    columns = np.array(rows, np.int64).reshape(-1, 6).T
    changes = np.array(uses, np.int64).reshape(-1, 3).T
    return Timeline(*columns, ["load k", "matmul"], ["load", "cube"], clock_hz, *changes)


@pytest.fixture(scope="session")
def timeline():
    return make_timeline
