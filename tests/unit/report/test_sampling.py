"""Intervals of estimates: how they add, and where they are shown."""

from fractions import Fraction

import pandas as pd
import pytest

from accelsim.plotting.table import series_names
from accelsim.report.measured import Measured

EXACT = Measured(ops=100, seconds=Fraction(1), joules={"cube": Fraction(2)}, hbm_read_bytes=10)
SAMPLED = Measured(
    ops=900,
    seconds=Fraction(3),
    joules={"cube": Fraction(4)},
    hbm_read_bytes=70,
    hbm_write_bytes=20,
    sampled={
        "left_out_ops": Fraction(800),
        "seconds": Fraction(1, 2),
        "joules": Fraction(1, 4),
        "hbm_bytes": Fraction(9),
    },
)


def test_what_was_scheduled_whole_has_no_interval():
    assert EXACT.sampling is None
    assert (EXACT + EXACT).sampling is None


def test_intervals_add_as_if_all_were_off_the_same_way():
    found = (EXACT + 2 * SAMPLED).sampling
    assert found is not None
    assert found.scheduled_share == pytest.approx(1 - 1600 / 1900)
    assert (found.time_low_s, found.time_high_s) == (6.0, 8.0)
    assert (found.energy_low_j, found.energy_high_j) == (9.5, 10.5)
    assert (found.hbm_low_bytes, found.hbm_high_bytes) == (172, 208)


def test_an_interval_does_not_reach_below_nothing():
    wide = Measured(seconds=Fraction(1), sampled={**SAMPLED.sampled, "seconds": Fraction(3)})
    assert wide.sampling is not None
    assert wide.sampling.time_low_s == 0


def test_figures_say_what_was_sampled():
    frame = pd.DataFrame(
        {"kernel": ["flash", "dense"], "sampling.scheduled_share": [0.03, float("nan")]}
    )
    assert series_names(frame).tolist() == ["flash (sampled)", "dense"]
