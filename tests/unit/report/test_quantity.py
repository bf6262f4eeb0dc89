"""Units and titles that follow from column names."""

import pytest

from accelsim.report.quantity import quantity_of


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("hbm_read_bytes", 12_300_000, "12.3 MB"),
        ("hbm_bytes_by_tensor.k", 999, "999 B"),
        ("scratchpad_peak_bytes", 720_896, "704 KiB"),
        ("peak_hbm_bytes_per_s", 1.6e12, "1.6 TB/s"),
        ("peak_macs_per_s", 176.9e12, "176.9 TMAC/s"),
        ("cycles", 1_234_567, "1,234,567 cycles"),
        ("output_tokens_per_s", 27_911.4, "27,911 tokens/s"),
        ("output_tokens_per_s", 9.012, "9.012 tokens/s"),
        ("time_s", 4.5e-5, "45 µs"),
        ("energy_j", 1.3e-3, "1.3 mJ"),
        ("energy_by_component_j.hbm", 2e-13, "0.2 pJ"),
        ("area_mm2", 321.06, "321.1 mm²"),
        ("units.cube.utilization", 0.51234, "0.5123"),
        ("tile_q", 1024, "1,024"),
        ("hbm_read_bytes", 0, "0 B"),
        ("hbm_read_bytes", float("nan"), "-"),
        ("accuracy.rmse", None, "-"),
        ("bound_by", "hbm", "hbm"),
        ("causal", True, "True"),
    ],
)
def test_show(column, value, shown):
    assert quantity_of(column).show(value) == shown


@pytest.mark.parametrize(
    ("column", "magnitude", "label"),
    [
        ("hbm_read_bytes", 3e6, (1e6, "HBM read [MB]")),
        ("machine.scratchpad.capacity", 2048.0, (1024, "scratchpad capacity [KiB]")),
        ("machine.hbm.bandwidth", 1.6e12, (1e12, "HBM bandwidth [TB/s]")),
        ("machine.load.bandwidth", 128, (1.0, "load bandwidth [B/cycle]")),
        ("machine.clock", 1.8e9, (1e9, "clock [GHz]")),
        ("machine.cores", 24, (1.0, "cores")),
        ("workload.q_len", 2048, (1.0, "q len")),
        ("units.cube.busy_cycles", 2e3, (1e3, "cube busy [kcycles]")),
        ("units.cube.utilization", 0.5, (1.0, "cube utilization")),
        ("hbm_bytes_by_tensor.scores", 0, (1.0, "HBM bytes of scores [B]")),
        ("macs", 5e12, (1e12, "MACs [TMAC]")),
        ("accuracy.relative_rmse", 1e-3, (1.0, "accuracy relative RMSE")),
    ],
)
def test_label(column, magnitude, label):
    assert quantity_of(column).label(magnitude) == label
