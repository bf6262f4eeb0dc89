"""What blocks of threads make of a machine: norms by where they wait, copies by their size."""

import pytest

from accelsim.bench import Bench
from accelsim.library.base import Hardware
from accelsim.library.hopper.plain import (
    HBM_LATENCY_CYCLES,
    L1_BYTES,
    L1_LATENCY_CYCLES,
    L2_LATENCY_CYCLES,
    TWICE_READ_L2_SHARE,
    PlainCode,
    instruction_cycles,
    reread_cycles,
)
from accelsim.library.hopper.vector import plain_code
from accelsim.loading import load_machine, load_technology
from accelsim.validation.problems import vector

H200 = load_machine("h200-sxm")


def code_of(function, rows, cols):
    return plain_code(vector(function, rows, cols), H200)


def seen_by(function, rows, cols):
    """Return the kernel's parameters, and the machine that its code sees."""
    code = code_of(function, rows, cols)
    return code.settings, code.on(Hardware(H200, load_technology(H200.technology))).machine


def seconds(function, rows, cols):
    return Bench(H200).execute(vector(function, rows, cols))[0].time_s


def test_a_warp_alone_waits_four_cycles_after_each_instruction():
    """Of 128 threads each of four schedulers has one warp; of 2,048 it has sixteen."""
    assert instruction_cycles(100, threads=128) == 100 * (1 + 4)
    assert instruction_cycles(100, threads=2048) == 100 * (16 + 4)


def test_plain_code_never_asks_a_machine_for_more_than_it_has():
    slow = H200.model_copy(
        update={
            "hbm": H200.hbm.model_copy(update={"bandwidth": 1e12, "latency": 1e-9}),
            "load": H200.load.model_copy(update={"bandwidth": 8.0}),
            "store": H200.store.model_copy(update={"bandwidth": 8.0}),
            "l2": H200.l2.model_copy(update={"latency": 1e-9}),
        }
    )
    code = PlainCode({}, {}, port_bytes_per_cycle=64.0, hbm_bytes_per_s=2e12)
    machine = code.on(Hardware(slow, load_technology(slow.technology))).machine
    assert (machine.hbm, machine.store, machine.l2) == (slow.hbm, slow.store, slow.l2)
    assert machine.load == slow.load


@pytest.mark.parametrize("cols", [4096, 8192])
def test_blocks_that_wait_for_the_memory_go_in_step(cols):
    """A row of rmsnorm issues for less time than a share of the memory moves it; layernorm not."""
    settings, machine = seen_by("rmsnorm", 65536, cols)
    share = H200.hbm.bandwidth / H200.clock / H200.cores
    assert (machine.items_in_flight, settings["tile_rows"]) == (1, 16)
    assert machine.load.bandwidth == machine.store.bandwidth == pytest.approx(share)
    settings, machine = seen_by("layernorm", 65536, cols)
    assert (machine.items_in_flight, settings["tile_rows"]) == (2, 8)
    assert machine.load.bandwidth == H200.load.bandwidth


def test_a_row_alone_waits_for_each_of_its_loads():
    """Steps of 512 elements: a latency and the instructions of four elements, 5 cycles each."""
    steps, instructions = 262144 // 512, 5 * 19
    cycles = steps * (HBM_LATENCY_CYCLES + L2_LATENCY_CYCLES + 2 * instructions)
    expected_s = H200.launch + cycles / H200.clock
    assert seconds("rmsnorm", 1, 262144) == pytest.approx(expected_s, rel=0.03)


def test_rows_of_different_blocks_cost_the_time_of_one_until_all_cores_have_a_row():
    one, all_cores, more = (seconds("softmax", rows, 32768) for rows in (1, 132, 133))
    assert one <= all_cores < 1.15 * one
    assert more > 1.2 * one


def test_rows_that_the_l1_holds_are_read_again_from_it():
    assert reread_cycles(L1_BYTES / 2) == L1_LATENCY_CYCLES
    assert reread_cycles(L1_BYTES) == L2_LATENCY_CYCLES
    between = (L1_LATENCY_CYCLES + L2_LATENCY_CYCLES) / 2
    assert reread_cycles(L1_BYTES / 1.5) == pytest.approx(between)
    # A row of 64 KiB for each core is there again, four of them are not.
    quick, slow = (code_of("rmsnorm", rows, 32768).later_read_cycles for rows in (132, 528))
    assert slow - quick == L2_LATENCY_CYCLES - L1_LATENCY_CYCLES


@pytest.mark.parametrize(
    ("cols", "settings", "threads"),
    [
        (1024, {"tile_rows": 20}, 1280),  # 48 registers: ten blocks of four warps
        (2048, {"tile_rows": 12}, 768),  # 80: six
        (6144, {"tile_rows": 1}, 2048),  # in registers, two blocks
        (7168, {"tile_rows": 1}, 1024),  # one
        (9217, {"tile_rows": 1, "tile_cols": 8192}, 2048),  # not in words of 16 bytes
        (16384, {"tile_rows": 1}, 2048),  # in shared memory
        (24576, {"tile_rows": 1, "tile_cols": 8192}, 2048),  # too long for it
    ],
)
def test_what_holds_a_row_of_softmax_follows_from_its_length(cols, settings, threads):
    code = code_of("softmax", 65536, cols)
    assert code.settings == settings
    assert code.threads == threads


def test_a_norm_of_rows_that_are_no_fours_launches_two_kernels():
    assert code_of("rmsnorm", 64, 4098).launches == 2
    machine = seen_by("rmsnorm", 64, 4098)[1]
    assert machine.launch == 2 * H200.launch
    assert seen_by("rmsnorm", 64, 4096)[1].launch == H200.launch


def test_rows_that_are_read_twice_and_written_find_four_fifths_of_the_l2():
    """A row for each of 32 cores fits with its result; of 64 half has gone again, of 132 all."""
    capacity = seen_by("rmsnorm", 4096, 8192)[1].l2.capacity
    assert capacity == pytest.approx(TWICE_READ_L2_SHARE * H200.l2.capacity, rel=1e-3)
    reads = {
        rows: Bench(H200).execute(vector("rmsnorm", rows, 262144))[0].hbm_read_bytes
        / (2 * rows * 262144)
        for rows in (32, 64, 132)
    }
    # The board's counters: 1.00, 1.59 and, of 132 rows of the same bytes a core, 2.
    assert reads[32] == 1
    assert 1.3 < reads[64] < 1.7
    assert reads[132] > 1.95


def test_copies_of_a_gigabyte_run_at_the_rate_of_long_copies():
    """4096 x 8192 moves 134 MB, 65536 x 8192 moves 2.1 GB."""
    moved_bytes = 2 * 2 * 65536 * 8192
    assert moved_bytes / seconds("copy", 65536, 8192) == pytest.approx(2.7e12, rel=0.01)
    assert moved_bytes / 16 / seconds("copy", 4096, 8192) > 4e12


def test_copies_that_end_within_a_page_run_at_the_rate_of_long_copies():
    """30 million elements are no multiple of 4 KiB; 8192 x 4096 are one."""
    assert 2 * 2 * 150 * 200000 / seconds("copy", 150, 200000) == pytest.approx(2.7e12, rel=0.06)
    assert 2 * 2 * 8192 * 4096 / seconds("copy", 8192, 4096) > 3.5e12


def test_an_odd_row_alone_takes_the_chains_of_both_kernels():
    """9,001 elements: 18 loads of 512 threads, 36 of 256, and what merges: issued, then a chain.

    Hand-overs between ops of the vector unit come on top, 224 cycles each.
    """
    moments = 18 * (HBM_LATENCY_CYCLES + 5 * 29) + (220 * 16 / 17) * (8 + 5)
    forward = 36 * (L2_LATENCY_CYCLES + 6 * 19) + 6 * 23.1 + L2_LATENCY_CYCLES
    expected_s = 2 * H200.launch + (moments + forward) / H200.clock
    assert expected_s < seconds("rmsnorm", 1, 9001) < expected_s + 8 * 224 / H200.clock


def test_odd_rows_that_the_l2_does_not_hold_are_read_twice_from_the_memory():
    def reads(rows):
        report = Bench(H200).execute(vector("layernorm", rows, 3001))[0]
        return report.hbm_read_bytes / (2 * rows * 3001)

    # 25 MB and 101 MB beside an L2 of 60 MiB. Steps of 1,024 bytes of odd rows begin within a
    # sector, so that they touch 33 in the place of 32 where the next step finds none again.
    assert reads(4224) == pytest.approx(1, rel=0.01)
    assert 2 <= reads(16896) <= 2 * 33 / 32
