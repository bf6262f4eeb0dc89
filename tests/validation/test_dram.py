"""Banked memory against closed forms, and against what DRAMsim3 and Ramulator 2.1 print."""

import math
from typing import get_args

import numpy as np
import pytest

from accelsim.config.loader import load_spec
from accelsim.engine.memory.hbm.stream import Accesses, stream_seconds
from accelsim.hardware.dram import ControllerSpec, DramSpec
from accelsim.hardware.hbm import Detail
from accelsim.validation.dram import REFERENCE, achieved_bytes_per_s
from accelsim.validation.table import read_rows

STANDARDS = ["hbm2", "hbm2e", "hbm3", "lpddr5"]
ROWS = read_rows(REFERENCE.shipped_file, REFERENCE.row)
TOLERANCE = {"sequential": 0.05, "row conflicts": 0.05, "random": 0.15, "mixed": 0.15}
"""What the project asks for, of either detail (docs/validation.md says what is found)."""
of_both_details = pytest.mark.parametrize("detail", get_args(Detail))


@of_both_details
@pytest.mark.parametrize("row", ROWS, ids=REFERENCE.label_of)
def test_bandwidth_is_what_the_simulators_print(row, detail):
    found = achieved_bytes_per_s(row, detail) / 1e9
    assert found == pytest.approx(row.achieved_GBps, rel=TOLERANCE[REFERENCE.kind_of(row)])
    assert found <= row.peak_GBps


INTERLEAVED = ("row", "rank", "bank", "column", "bank_group", "pseudo_channel", "channel")
BANK_BY_BANK = ("bank_group", "rank", "pseudo_channel", "bank", "row", "column", "channel")


def seconds_of(device, bursts, mapping, detail, *, controller=None, is_write=0):
    accesses = Accesses(
        addresses=np.asarray(bursts, np.int64) * device.shape.burst,
        is_write=np.full(len(bursts), is_write),
        channels=1,
        mapping=mapping,
    )
    return stream_seconds(accesses, device, controller or ControllerSpec(), 2**20, detail)


@of_both_details
@pytest.mark.parametrize("name", STANDARDS)
def test_the_first_reads_of_a_bank_wait_for_its_row(name, detail):
    """Commands of whole clocks wait for one where an activation ends in the middle of a clock.

    Bursts placed in slots can be nearer to each other than columns, by less than one slot.
    """
    device = load_spec(DramSpec, name, kind="memory")
    t, bursts_of_row = device.timing, device.shape.columns
    alone, same_row, next_row = (
        seconds_of(device, bursts, BANK_BY_BANK, detail) / t.t_ck
        for bursts in ([0], [0, 1], [0, bursts_of_row])
    )
    clocks = t.t_rcd_read + (t.activate_width - 1) + t.t_cl + t.burst
    assert alone == pytest.approx(math.ceil(clocks) if detail == "commands" else clocks)
    assert next_row == pytest.approx(alone + max(t.t_rc, t.t_ras + t.t_rp))
    slot = t.burst if detail == "bursts" else 0
    slack = 1e-9  # of doubles
    assert t.t_ccd_l - slot - slack <= same_row - alone <= t.t_ccd_l + slack


@of_both_details
@pytest.mark.parametrize("name", STANDARDS)
def test_new_rows_of_one_bank_cost_a_row_cycle_each_and_the_refreshes(name, detail):
    """A refresh costs at least its own time, and at most also the row cycle that it cuts short."""
    device = load_spec(DramSpec, name, kind="memory")
    t, count = device.timing, 4000
    rows = np.arange(count) % device.shape.rows * device.shape.columns
    clocks = seconds_of(device, rows, BANK_BY_BANK, detail) / t.t_ck / count
    least = t.t_rc / (1 - t.t_rfc / t.t_refi)
    most = t.t_rc / (1 - (t.t_rfc + t.t_rc + t.t_rp) / t.t_refi)
    # The last row is not closed, and refreshes fall into a run whole or not at all.
    slack = (t.t_rfc + 2 * t.t_rc) / count
    assert least - slack <= clocks <= most + slack


@of_both_details
@pytest.mark.parametrize("is_write", [0, 1])
@pytest.mark.parametrize("name", STANDARDS)
def test_streams_lose_the_refreshes_only(name, is_write, detail):
    """A refresh costs its own time, and closing and opening a row before and after it.

    So it is with a window that sees the next rows early enough to open them.
    """
    device = load_spec(DramSpec, name, kind="memory")
    t, count = device.timing, 200_000
    wide = ControllerSpec(window=256, write_window=256)
    bursts = np.arange(count)
    seconds = seconds_of(device, bursts, INTERLEAVED, detail, controller=wide, is_write=is_write)
    pins = device.bandwidth_bytes_per_s / device.shape.channels
    share = count * device.shape.burst / seconds / pins
    column = max(t.t_rcd_read + t.t_cl, t.t_rcd_write + t.t_cwl + t.t_wr) + t.burst
    around = device.shape.pseudo_channels * (t.t_rp + 1) + t.t_ras + column
    assert 1 - (t.t_rfc + around) / t.t_refi <= share <= 1 - t.t_rfc / t.t_refi * (1 - 0.01)


@of_both_details
def test_a_window_of_one_burst_hides_nothing(detail):
    """Every burst waits for its own row; with more in sight the banks work at the same time."""
    device = load_spec(DramSpec, "hbm2", kind="memory")
    lines = np.random.default_rng(0).integers(0, 2**20, 2000)
    one, many = (
        seconds_of(device, lines, INTERLEAVED, detail, controller=ControllerSpec(window=window))
        for window in (1, 32)
    )
    assert one > 2 * many
