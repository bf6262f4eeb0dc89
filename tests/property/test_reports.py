"""What must be true of any report: no resource does more than it can, and a layer is a sum."""

import math
from dataclasses import fields, replace
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accelsim.accounts.hbm_bytes import hbm_bytes_of_ops
from accelsim.accounts.power import CLOSE, schedule_under_cap
from accelsim.engine import compiled, reference
from accelsim.hardware.machine import PowerSpec
from accelsim.hardware.technology import SramTable
from accelsim.loading import load_technology
from accelsim.report.about import About
from accelsim.report.build import build_report
from accelsim.report.report import Report
from accelsim.report.sequence import in_sequence
from accelsim.simulation import simulate
from tests.handmade import CLOCK_HZ
from tests.strategies.machines import banked_machines, caches, machines
from tests.strategies.programs import programs

SHARES = ("hbm_utilization", "core_balance", "peak_macs_per_s", "clock_hz", "peak_hbm_bytes_per_s")
"""Figures that are the same for one run and for many equal ones."""
PEAKS = ("scratchpad_peak_bytes", "scratchpad_held_peak_bytes", "accumulator_peak_bytes")
AMOUNTS = ("cycles", "time_s", "ops", "hbm_read_bytes", "hbm_write_bytes", "macs", "energy_j")
SUMS = ("hbm_bytes_by_tensor", "requested_bytes_by_tensor", "energy_by_component_j")


def technology_of_small_memories():
    """The 7 nm technology, whose smallest SRAM stands for the slices of a few bytes of tests."""
    technology = load_technology("7nm")
    smallest, *others = technology.sram.points
    points = (smallest.model_copy(update={"capacity": 1}), *others)
    sram = SramTable(source=technology.sram.source, points=points)
    return technology.model_copy(update={"sram": sram})


TECHNOLOGY = technology_of_small_memories()
sliced = caches.filter(lambda l2: l2["capacity"] >= l2["slices"])
"""Caches with at least a byte a slice."""
powers = st.builds(
    lambda watts, lowest, exponent: PowerSpec(
        cap=watts,
        lowest_clock=CLOCK_HZ * lowest,
        reference_clock=CLOCK_HZ,
        energy_exponent=exponent,
    ),
    st.sampled_from([0.1, 2, 6, 10, 16, 30]),
    st.sampled_from([0.001, 0.3]),
    st.sampled_from([0, 0.1, 0.5, 1]),
)


def report_of(program, machine, *, with_timeline=False) -> Report:
    capped = schedule_under_cap(program, machine, TECHNOLOGY, compiled.schedule)
    about = About(
        workload="drawn",
        kernel="drawn",
        recipe="drawn",
        library="",
        is_exact=True,
        selection_assumed=False,
        engine="compiled",
        seed=None,
        settings={},
        parameters={},
    )
    return build_report(capped, TECHNOLOGY, about, with_timeline=with_timeline)


def assert_possible(report):
    """No share is above 1, and the HBM had the time for all bytes that are reported."""
    moved_bytes = report.hbm_read_bytes + report.hbm_write_bytes
    # The quotient of the report and this product round once each.
    assert moved_bytes <= report.peak_hbm_bytes_per_s * report.time_s * (1 + 2**-50)
    assert 0 <= report.hbm_utilization <= 1
    assert 0 <= report.core_balance <= 1
    assert all(0 <= unit.utilization <= 1 for unit in report.units.values())
    assert 0 <= report.l2.get("hit_fraction", 0) <= 1
    assert sum(report.hbm_bytes_by_tensor.values()) == moved_bytes


drawn_machines = machines() | machines(l2=sliced) | banked_machines() | banked_machines(l2=sliced)


@settings(max_examples=300)
@given(programs(), drawn_machines)
def test_no_resource_does_more_than_it_can(program, machine):
    assume(program.num_ops)
    assert_possible(report_of(program, machine))


@settings(max_examples=150)
@given(programs(), machines(l2=st.none() | sliced), powers)
def test_a_run_keeps_its_cap_or_has_the_lowest_clock(program, machine, power):
    assume(program.num_ops)
    report = report_of(program, machine.model_copy(update={"power": power}))
    assert_possible(report)
    is_kept = report.energy_j / report.time_s <= power.cap * (1 + CLOSE) * (1 + 2**-50)
    assert report.power_cap == ("met" if is_kept else "not met")
    assert is_kept or report.clock_hz == power.lowest_clock


def assert_same(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_same(found[name], expected[name])
    else:
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-300)


@settings(max_examples=100)
@given(programs(), drawn_machines, st.none() | powers, st.integers(1, 1000))
def test_a_layer_of_equal_parts_has_their_shares_and_so_many_times_their_amounts(
    program, machine, power, count
):
    assume(program.num_ops)
    part = report_of(program, machine.model_copy(update={"power": power}))
    layer = in_sequence([part.repeated(count)], "drawn", {})
    for name in ("bound_by", "power_cap", "is_exact"):
        assert getattr(layer, name) == getattr(part, name)
    for name in (*SHARES, *PEAKS, "area_mm2"):
        assert getattr(layer, name) == getattr(part, name)
    for name in AMOUNTS:
        assert_same(getattr(layer, name), count * getattr(part, name))
    for name in SUMS:
        assert_same(getattr(layer, name), {k: count * v for k, v in getattr(part, name).items()})
    for name, unit in part.units.items():
        assert layer.units[name].utilization == unit.utilization
        assert layer.units[name].busy_cycles == count * unit.busy_cycles
    assert layer.l2.get("hit_fraction") == part.l2.get("hit_fraction")
    assert (layer.dram is None) == (part.dram is None)
    for field in fields(part.dram) if part.dram else ():
        times = count if field.name in ("activations", "bursts") else 1
        assert_same(getattr(layer.dram, field.name), times * getattr(part.dram, field.name))
    assert_possible(layer)


@settings(max_examples=100)
@given(st.data(), machines(l2=st.none() | sliced), st.none() | powers)
def test_a_layer_is_the_sum_of_its_parts(data, machine, power):
    machine = machine.model_copy(update={"power": power})
    drawn = data.draw(st.lists(programs(), min_size=1, max_size=3))
    parts = [report_of(program, machine) for program in drawn if program.num_ops]
    assume(parts)
    counts = data.draw(st.lists(st.integers(1, 9), min_size=len(parts), max_size=len(parts)))
    runs = [part.repeated(count) for part, count in zip(parts, counts, strict=True)]
    layer = in_sequence(runs, "drawn", {})
    assert 1 * layer == sum(count * part for part, count in zip(parts, counts, strict=True))
    assert 1 * layer == 1 * in_sequence(runs[::-1], "drawn", {})
    for name in AMOUNTS:
        total = sum(n * getattr(part, name) for part, n in zip(parts, counts, strict=True))
        assert_same(getattr(layer, name), total)
    # Shares of the time of a layer: what was moved over what could have been moved in it.
    moved_bytes = layer.hbm_read_bytes + layer.hbm_write_bytes
    possible_bytes = layer.peak_hbm_bytes_per_s * layer.time_s
    assert_same(layer.hbm_utilization, moved_bytes / possible_bytes)
    busiest = sum(
        n * part.time_s * part.core_balance for part, n in zip(parts, counts, strict=True)
    )
    assert_same(layer.core_balance, busiest / layer.time_s)
    assert_possible(layer)


@settings(max_examples=200)
@given(programs(), machines(l2=sliced) | banked_machines(l2=sliced))
def test_hbm_bytes_of_tensors_and_of_ops_are_those_of_the_memory(program, machine):
    fast, slow = compiled.schedule(program, machine), reference.schedule(program, machine)
    assert (fast.traffic, fast.cycles) == (slow.traffic, slow.cycles)
    traffic = fast.traffic
    moved_bytes = traffic.hbm_read_bytes + traffic.hbm_write_bytes
    assert sum(traffic.hbm_bytes_by_tensor) == moved_bytes
    of_ops = hbm_bytes_of_ops(fast, machine)
    at_end = moved_bytes - of_ops.sum()
    assert 0 <= at_end <= machine.l2.capacity
    assert machine.l2.writes == "back" or at_end == 0


@settings(max_examples=100)
@given(programs(), drawn_machines, st.integers(1, 60))
def test_the_bandwidth_over_time_is_at_most_the_peak_and_adds_up(program, machine, bins):
    assume(program.num_ops)
    report = report_of(program, machine, with_timeline=True)
    _, rates = report.timeline.hbm_bytes_per_s(bins)
    assert rates.min() >= 0
    assert rates.max() <= report.peak_hbm_bytes_per_s
    moved_bytes = rates.sum() * report.time_s / bins
    assert moved_bytes == pytest.approx(report.hbm_read_bytes + report.hbm_write_bytes, rel=1e-9)


def test_a_capped_layer_of_one_part_uses_the_hbm_as_the_part_does(tmp_path):
    """8192^3 on an H200 runs below its nominal clock."""
    part = "kind: gemm\nname: square\nm: 8192\nn: 8192\nk: 8192\ndtype: bf16\n"
    path = tmp_path / "layer.yaml"
    indented = "".join(f"    {line}\n" for line in part.splitlines())
    path.write_text(f"kind: layer\nname: one\nproblems:\n  - count: 1\n{indented}")
    layer = simulate("h200-sxm", path, "gemm")
    assert layer.clock_hz < 1.9e9
    assert layer.hbm_utilization == pytest.approx(layer.parts[0].hbm_utilization, rel=1e-12)
    moved_bytes = layer.hbm_read_bytes + layer.hbm_write_bytes
    assert layer.hbm_utilization == pytest.approx(
        moved_bytes / (layer.peak_hbm_bytes_per_s * layer.time_s), rel=1e-12
    )


def test_a_layer_is_bound_by_what_bounds_the_part_that_takes_longest():
    """Under a cap more cycles can be less time."""
    one = simulate("ascend-910b", "gemm-1024", "gemm")
    long = replace(one, cycles=10, seconds=Fraction(2), bound_by="hbm")
    short = replace(one, cycles=20, seconds=Fraction(1), bound_by="cube")
    assert in_sequence([short, long], "layer", {}).bound_by == "hbm"
    assert in_sequence([short.repeated(3), long], "layer", {}).bound_by == "cube"


def test_a_layer_without_products_has_the_rate_of_an_idle_matrix_unit():
    one = simulate("ascend-910b", "rmsnorm-4096", "vector")
    assert one.macs == 0
    # 24 cores of 4096 FP16 MACs a cycle.
    assert one.peak_macs_per_s == 24 * 4096 * 1.8e9
    assert in_sequence([one.repeated(3), one], "layer", {}).peak_macs_per_s == one.peak_macs_per_s
    without = replace(one, over_time={})
    assert in_sequence([without.repeated(3)], "layer", {}).peak_macs_per_s == 0


WRITTEN_BACK = {
    "machine.l2": "{capacity: 192 MiB, line: 512 B, sector: 128 B, ways: 16, slices: 16, "
    "bandwidth: 20 TB/s, latency: 100 ns}",
    "workload.function": "copy",
}


def test_a_copy_into_a_cache_takes_the_time_of_all_its_bytes():
    """33.55 MB read and written at 1.6 TB/s take 41.94 us, whenever what is written gets there."""
    report = simulate("ascend-910b", "rmsnorm-4096", "vector", WRITTEN_BACK)
    num_bytes = 4096 * 4096 * 2
    assert (report.hbm_read_bytes, report.hbm_write_bytes) == (num_bytes, num_bytes)
    assert report.cycles == math.ceil(2 * num_bytes / 1.6e12 * 1.8e9)
    assert report.hbm_utilization == pytest.approx(1, rel=1e-4)
    assert report.bound_by == "hbm"
    assert report.hbm_bytes_by_tensor == {"x": num_bytes, "result": num_bytes}
    assert report.requested_bytes_by_tensor == report.hbm_bytes_by_tensor


def test_what_an_l2_holds_is_requested_more_often_than_it_is_fetched():
    """Every query tile asks for the keys it sees; the HBM reads each of them once."""
    tiles = "flash(tile_q=128, tile_k=128, query_tiles=1)"
    report = simulate("ascend-910b", "attention-2048", tiles)
    plain = simulate("ascend-910b-no-l2", "attention-2048", tiles)
    assert report.requested_bytes_by_tensor == plain.hbm_bytes_by_tensor
    assert plain.requested_bytes_by_tensor == {}
    assert sum(report.hbm_bytes_by_tensor.values()) == report.compulsory_bytes
    assert report.hbm_bytes_by_tensor["k"] < report.requested_bytes_by_tensor["k"]
