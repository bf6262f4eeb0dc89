"""Products with shared scales: cycles, counts, energy and area of both units, by hand."""

import pytest

from accelsim.accounts.activity import count_activity
from accelsim.accounts.area import arithmetic_area_mm2
from accelsim.accounts.energy import energy_by_component
from accelsim.engine import compiled
from accelsim.engine.durations import work_of
from accelsim.errors import DoesNotFitError
from accelsim.loading import load_technology
from accelsim.numerics.formats import Format
from accelsim.program.ops import Op
from tests.handmade import changed, machine_of, program_of, scaled_matmul

FP8, FP4, E8M0 = Format.FP8_E4M3, Format.FP4_E2M1, Format.E8M0
SCALES = {E8M0: 32, FP8: 16, Format.FP32: 128}
READS = (1, 2, 4, 5)


def machine_with_scales(scales=SCALES, **more):
    given = {"tile": (16, 8, 16), "cube_rates": {"fp16": 1, "fp8_e4m3": 2, "fp4_e2m1": 4}}
    machine = machine_of(**given | more)
    return changed(machine, "cube.block_scales", lambda _: scales)


def aligning(**more):
    return changed(machine_of(**more), "int_mac.can_align", lambda _: True)


def product(m, n, k, **more):
    return scaled_matmul(3, READS, (m, n, k), **more)


def aligned(m, n, k, **more):
    int8 = {"formats": (Format.INT8, Format.INT8), "op": Op.ALIGNED_MATMUL}
    return scaled_matmul(3, READS, (m, n, k), **int8 | more)


def counted(machine, op):
    return count_activity(compiled.schedule(program_of([[op]]), machine), machine)


@pytest.mark.parametrize(
    ("formats", "rate"), [((FP8, FP8), 2), ((FP4, FP4), 4), ((FP8, FP4), 2), ((FP4, FP8), 2)]
)
def test_scales_take_no_time_of_the_cube_and_the_slower_format_sets_the_rate(formats, rate):
    steps = 4 * 4 * 8
    op = product(64, 32, 128, formats=formats)
    assert work_of(program_of([[op]]), machine_with_scales()).busy_cycles.tolist() == [
        steps // rate
    ]


def test_a_narrow_port_reads_scales_beside_elements():
    machine = machine_with_scales(scratchpad_bytes_per_cycle=1)
    # 16 x 64 and 64 x 8 bytes of elements, 16 x 2 and 2 x 8 bytes of scales.
    assert work_of(program_of([[product(16, 8, 64)]]), machine).busy_cycles.tolist() == [1536 + 48]


def test_sums_of_blocks_are_counted_once_for_each_scale():
    activity = counted(machine_with_scales(), product(16, 8, 72, accumulate=True))
    assert activity.macs == {FP8: 16 * 8 * 72}
    # 72 elements are three blocks, the last one short.
    assert activity.actions["sums_scaled_by_e8m0"] == 2 * 16 * 8 * 3
    assert activity.scratchpad_read_bytes == (16 + 8) * (72 + 3)
    assert activity.operand_buffer_read_bytes == (16 + 8) * (72 + 3)
    assert activity.accumulator_read_bytes == activity.accumulator_write_bytes == 16 * 8 * 4 * 5
    first = counted(machine_with_scales(), product(16, 8, 72))
    assert first.accumulator_read_bytes == 16 * 8 * 4 * 4


def test_scales_of_two_formats_and_runs():
    op = product(16, 256, 256, scales=(E8M0, Format.FP32), runs=(32, 128, 128))
    activity = counted(machine_with_scales(), op)
    sums = 16 * 256 * 8
    assert activity.actions["sums_scaled_by_e8m0"] == sums
    assert activity.actions["sums_scaled_by_fp32"] == sums
    assert activity.scratchpad_read_bytes == 16 * 256 + 16 * 8 + 256 * 256 + 2 * 2 * 4


def test_energy_and_area_of_the_multipliers_for_scales():
    machine, technology = machine_with_scales(), load_technology("28nm")
    op = product(16, 8, 64, formats=(FP4, FP4), scales=(FP8, FP8), runs=(16, 16, 1))
    joules = energy_by_component(counted(machine, op), machine, technology)["cube"]
    by_hand = 16 * 8 * (64 * (0.03826 + 0.07357) + 2 * 4 * 0.3154)
    assert joules == pytest.approx(by_hand * 1e-12)
    without = changed(machine, "cube.block_scales", lambda _: {})
    area = [arithmetic_area_mm2(each, technology)["cube"] for each in (machine, without)]
    # Four times 16 x 8 x 16 products of FP4 a cycle.
    each_mm2 = 1.394e-05 / 32 + 0.0003312 / 16 + 0.002981 / 128
    assert area[0] - area[1] == pytest.approx(2 * 8192 * each_mm2)
    assert area[1] == pytest.approx(2048 * max(0.002255, 2 * 0.001779, 4 * 8.034e-05))


@pytest.mark.parametrize(("k", "blocks"), [(32, 1), (100, 4), (4096, 128)])
def test_the_array_takes_a_cycle_for_each_block(k, blocks):
    op = aligned(32, 32, k)
    machine = aligning()
    assert work_of(program_of([[op]]), machine).busy_cycles.tolist() == [k + blocks + 2 * 32 - 2]


def test_the_array_counts_what_it_aligns():
    machine, technology = aligning(), load_technology("28nm")
    activity = counted(machine, aligned(32, 64, 64, accumulate=True))
    assert activity.actions["sums_aligned"] == 32 * 64 * 2
    assert "accumulator_shifts" not in activity.actions
    # Two passes along n read the left operand and its scales twice.
    assert activity.scratchpad_read_bytes == 2 * 32 * (64 + 2) + 64 * (64 + 2)
    assert activity.accumulator_read_bytes == activity.accumulator_write_bytes == 32 * 64 * 4
    macs = 32 * 64 * 64
    by_hand = macs * (4 * 0.03826 + 2.5 * 0.07357) + 32 * 64 * 2 * 0.1787
    joules = energy_by_component(activity, machine, technology)["int_mac"]
    assert joules == pytest.approx(by_hand * 1e-12)
    plain = changed(machine, "int_mac.can_align", lambda _: False)
    area = [arithmetic_area_mm2(each, technology)["int_mac"] for each in (machine, plain)]
    assert area[0] - area[1] == pytest.approx(4096 * 4.08e-05)


def refusal(machine, op):
    with pytest.raises(DoesNotFitError) as error:
        work_of(program_of([[op]]), machine)
    return str(error.value)


def test_a_cube_without_scales_says_so():
    assert refusal(machine_with_scales({}), product(16, 8, 32)) == (
        "machine handmade: its cube applies no e8m0 scales, which handmade uses; it applies no "
        "scales at all; see cube.block_scales"
    )


def test_a_format_of_scales_that_the_cube_lacks_is_named():
    op = product(16, 8, 32, scales=(E8M0, FP8))
    assert refusal(machine_with_scales({E8M0: 32}), op) == (
        "machine handmade: its cube applies no fp8_e4m3 scales, which handmade uses; it applies "
        "e8m0; see cube.block_scales"
    )


def test_blocks_shorter_than_the_cube_is_built_for_are_refused():
    assert refusal(machine_with_scales(), product(16, 8, 32, runs=(32, 16, 1))) == (
        "machine handmade: its cube applies a scale of e8m0 to 32 elements or more, handmade has "
        "one for 16; see cube.block_scales"
    )


@pytest.mark.parametrize("formats", [(FP8, Format.FP6_E2M3), (Format.FP6_E2M3, FP8)])
def test_a_format_of_elements_that_the_cube_lacks_is_named(formats):
    assert refusal(machine_with_scales(), product(16, 8, 32, formats=formats)) == (
        "machine handmade: its cube unit has no fp6_e2m3, which handmade uses; it has fp16, "
        "fp8_e4m3, fp4_e2m1"
    )


def test_a_systolic_array_applies_no_scales():
    array = {"rows": 8, "cols": 8, "dataflow": "output_stationary"}
    machine = machine_of(systolic=array, cube_rates={"fp8_e4m3": 1})
    assert "its cube applies no e8m0 scales" in refusal(machine, product(8, 8, 32))


def test_an_array_that_cannot_align_says_so():
    assert refusal(machine_of(), aligned(32, 32, 32)) == (
        "machine handmade: its int_mac cannot align sums of blocks, which handmade needs; "
        "set int_mac.can_align"
    )


def test_an_array_aligns_by_powers_of_two_alone():
    op = aligned(32, 32, 32, scales=(E8M0, Format.FP32))
    assert refusal(aligning(), op) == (
        "machine handmade: its int_mac aligns sums by scales of e8m0 alone, handmade has scales "
        "of fp32"
    )
