"""What blocks of threads make of a machine: norms by where they wait, copies by their size."""

import pytest

from accelsim.bench import Bench
from accelsim.library.base import Hardware
from accelsim.library.hopper.plain import PlainCode, instruction_cycles
from accelsim.library.hopper.vector import plain_code
from accelsim.loading import load_machine, load_technology
from accelsim.validation.problems import vector

H200 = load_machine("h200-sxm")


def seen_by(function, rows, cols):
    """Return the kernel's parameters, and the machine that its code sees."""
    code = plain_code(vector(function, rows, cols), H200)
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


def test_a_norm_whose_loads_go_together_waits_less():
    """A row alone: rmsnorm loads four vectors at a time, layernorm divides before the next one."""
    assert seconds("layernorm", 16, 4096) > 1.5 * seconds("rmsnorm", 16, 4096)


def test_copies_of_a_gigabyte_run_at_the_rate_of_long_copies():
    """4096 x 8192 moves 134 MB, 65536 x 8192 moves 2.1 GB."""
    moved_bytes = 2 * 2 * 65536 * 8192
    assert moved_bytes / seconds("copy", 65536, 8192) == pytest.approx(2.7e12, rel=0.01)
    assert moved_bytes / 16 / seconds("copy", 4096, 8192) > 4e12
