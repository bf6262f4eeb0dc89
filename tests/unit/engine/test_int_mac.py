"""The integer array: cycles, counts and energy of its products, by hand."""

import pytest

from accelsim.accounts.activity import count_activity
from accelsim.accounts.area import arithmetic_area_mm2
from accelsim.accounts.energy import energy_by_component
from accelsim.engine import compiled
from accelsim.engine.durations import latency_cycles, work_of
from accelsim.errors import DoesNotFitError
from accelsim.loading import load_machine, load_technology
from accelsim.numerics.formats import Format
from accelsim.program.ops import Unit
from accelsim.report.matrix_peak import peak_macs_per_s
from tests.handmade import changed, int_matmul, machine_of, program_of


def busy(*ops, **machine):
    return work_of(program_of([ops]), machine_of(**machine)).busy_cycles.tolist()


@pytest.mark.parametrize(("channels", "groups"), [(4096, 1), (4096, 8), (11008, 16), (1, 16)])
def test_one_tile_takes_its_channels_its_shifts_and_the_skew_of_the_array(channels, groups):
    op = int_matmul(3, 1, 2, 64, 64, channels, shifts=groups - 1)
    assert busy(op) == [channels + (groups - 1) + 2 * 63]


def test_wider_operands_take_more_rows_or_columns():
    shapes = [((4, 4), 64 + 64), ((8, 4), 32 + 64), ((4, 8), 64 + 32), ((8, 8), 32 + 32)]
    for bits, sides in shapes:
        blocks = bits[0] // 4 * (bits[1] // 4)
        assert busy(int_matmul(3, 1, 2, 64, 64, 100, bits=bits)) == [blocks * (98 + sides)]


def test_an_edge_tile_costs_a_whole_pass():
    assert busy(int_matmul(3, 1, 2, 65, 1, 10)) == [2 * (10 + 126)]


def test_a_narrow_port_holds_the_array_up():
    # Two passes along the columns read the left operand twice: 2 x 64 x 10 / 2 + 10 x 128 / 2.
    op = int_matmul(3, 1, 2, 64, 128, 10)
    assert busy(op, scratchpad_bytes_per_cycle=1) == [1280]


def test_the_pipeline_adds_to_what_others_wait_for():
    assert latency_cycles(machine_of(int_mac=(8, 8, 5)))[Unit.INT_MAC] == 5


def test_actions_are_counted_for_each_pass():
    ops = [
        int_matmul(3, 1, 2, 64, 128, 10, shifts=3, order=4),
        int_matmul(3, 1, 2, 64, 128, 10, bits=(8, 8), accumulate=True),
    ]
    machine = machine_of()
    activity = count_activity(compiled.schedule(program_of([ops]), machine), machine)
    assert activity.int_macs == {
        (Format.INT4, Format.INT4): 64 * 128 * 10,
        (Format.INT8, Format.INT8): 64 * 128 * 10,
    }
    assert activity.actions["accumulator_shifts"] == 3 * 64 * 128
    assert activity.index_buffer_read_bytes == 2 * 10 * 4
    assert activity.accumulator_write_bytes == 2 * 64 * 128 * 4
    assert activity.accumulator_read_bytes == 64 * 128 * 4
    narrow, wide = 2 * 320 + 640, 4 * 640 + 2 * 1280
    assert activity.scratchpad_read_bytes == narrow + wide


def test_energy_is_paid_by_product_sum_and_shift():
    op = int_matmul(3, 1, 2, 64, 64, 10, bits=(8, 8), shifts=3)
    machine, technology = machine_of(), load_technology("28nm")
    activity = count_activity(compiled.schedule(program_of([[op]]), machine), machine)
    macs, shifts = 64 * 64 * 10, 3 * 64 * 64
    by_hand = macs * (4 * 0.03826 + 2.5 * 0.07357) + shifts * 0.01839
    joules = energy_by_component(activity, machine, technology)
    assert joules["int_mac"] == pytest.approx(by_hand * 1e-12)


def test_the_shift_takes_area_only_where_there_is_one():
    machine, technology = load_machine("tender-asic"), load_technology("28nm")
    plain = changed(machine, "int_mac.can_shift", lambda _: False)
    area = [arithmetic_area_mm2(each, technology) for each in (machine, plain)]
    assert area[0]["int_mac"] - area[1]["int_mac"] == pytest.approx(4096 * 1.515e-5)
    assert "cube" not in area[0]


@pytest.mark.parametrize(("bits", "per_cycle"), [((4, 4), 4096), ((8, 4), 2048), ((8, 8), 1024)])
def test_the_peak_is_that_of_the_operands(bits, per_cycle):
    machine = machine_of()
    run = compiled.schedule(program_of([[int_matmul(3, 1, 2, 64, 64, 10, bits=bits)]]), machine)
    peak = peak_macs_per_s(count_activity(run, machine), machine)
    assert peak == pytest.approx(per_cycle * machine.clock)


def refusal(machine, *ops):
    with pytest.raises(DoesNotFitError) as error:
        work_of(program_of([ops]), machine)
    return str(error.value)


def test_a_machine_without_the_array_says_so():
    machine = changed(machine_of(), "int_mac", lambda _: None)
    assert refusal(machine, int_matmul(3, 1, 2, 1, 1, 1)) == (
        "machine handmade has no int_mac, which handmade uses; give machine.int_mac to add one"
    )


def test_a_format_that_the_array_lacks_is_named():
    machine = changed(machine_of(), "int_mac.formats", lambda _: (Format.INT4,))
    assert refusal(machine, int_matmul(3, 1, 2, 1, 1, 1, bits=(4, 8))) == (
        "machine handmade: its int_mac unit has no int8, which handmade uses; it has int4"
    )


def test_shifts_need_an_array_that_can_shift():
    machine = changed(machine_of(), "int_mac.can_shift", lambda _: False)
    assert work_of(program_of([[int_matmul(3, 1, 2, 1, 1, 1)]]), machine).busy_cycles.tolist() == [
        127
    ]
    assert refusal(machine, int_matmul(3, 1, 2, 1, 1, 1, shifts=1)) == (
        "machine handmade: its int_mac cannot shift its accumulators, which handmade needs; "
        "set int_mac.can_shift"
    )
