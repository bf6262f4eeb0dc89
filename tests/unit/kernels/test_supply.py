"""What the memory gives a core beside others, and what an item asks for at the start."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.kernels.attention.flash.online_estimate import Ahead
from accelsim.kernels.estimate.banks import piece_bytes
from accelsim.kernels.estimate.memory import (
    crowd_share,
    hit_cycles,
    miss_cycles,
    shared_cycles_per_byte,
    supply_of,
    sustained_bytes_per_cycle,
)
from accelsim.loading import load_machine

L2, NO_L2 = load_machine("ascend-910b"), load_machine("ascend-910b-no-l2")
BANKED = load_machine("ascend-910b-banked")


def test_a_core_waits_for_all_others_where_the_memory_is_the_slowest():
    machine = load_machine("ascend-910b-no-l2", {"hbm.bandwidth": "100 GB/s"})
    share = crowd_share(machine, shared_cycles_per_byte(machine, 10, 1.0), 10)
    assert share == pytest.approx(0.9)


def test_a_core_waits_for_nobody_where_the_memory_serves_all_ports_at_their_rate():
    machine = load_machine("ascend-910b", {"l2.bandwidth": "400 TB/s", "hbm.bandwidth": "400 TB/s"})
    assert crowd_share(machine, shared_cycles_per_byte(machine, 24, 1.0), 24) == 0


@given(cores=st.integers(1, 64), bandwidth=st.integers(50, 20_000))
def test_what_a_core_waits_is_what_neither_it_nor_its_port_takes(cores, bandwidth):
    machine = load_machine("ascend-910b-no-l2", {"hbm.bandwidth": f"{bandwidth} GB/s"})
    cycles = shared_cycles_per_byte(machine, cores, 1.0)
    share = crowd_share(machine, cycles, cores)
    assert 0 <= share <= 1 - 1 / cores
    passed = max(1 / machine.load.bandwidth, cycles / cores)
    assert cycles * share == pytest.approx(max(0.0, cycles - passed))


def test_without_an_l2_all_comes_from_the_hbm_behind_what_others_asked_for():
    supply = supply_of(NO_L2, 0.3, np.array([0.0, 700.0]))
    assert supply.cycles_per_byte == 1 / NO_L2.hbm_bytes_per_cycle
    assert supply.latency_cycles.tolist() == [miss_cycles(NO_L2)] * 2
    assert supply.port_latency_cycles is supply.latency_cycles
    assert supply.begin_cycles.tolist() == [0, 700]


def test_loads_that_come_for_the_first_time_wait_for_the_hbm():
    supply = supply_of(L2, np.array([0.0, 0.5, 1.0]))
    hit, miss = hit_cycles(L2), miss_cycles(L2)
    assert supply.latency_cycles.tolist() == [hit, (hit + miss) / 2, miss]
    assert supply.port_latency_cycles == hit


def test_an_l2_that_waits_for_the_hbm_begins_when_that_has_served_the_others():
    """Everything comes from the HBM, which is the slower one."""
    assert supply_of(L2, 1.0, 900.0, 1.0).begin_cycles == 900


def test_the_hbm_may_be_done_with_others_sooner_than_the_l2():
    """It fetches few bytes; no sooner than a miss takes longer than a hit."""
    fetched = 0.01
    away = miss_cycles(L2) - hit_cycles(L2)
    busy = fetched / sustained_bytes_per_cycle(L2) * L2.l2.bandwidth / L2.clock
    short, long = 100.0, 5000.0
    supply = supply_of(L2, 1.0, np.array([short, long]), fetched)
    assert supply.begin_cycles == pytest.approx([short * busy, long - away])


def test_a_channel_serves_the_piece_of_a_core_while_others_serve_theirs():
    channels = BANKED.hbm.channels * BANKED.hbm.dram.shape.pseudo_channels
    piece = piece_bytes(BANKED.hbm) * channels / BANKED.hbm_bytes_per_cycle
    supply = supply_of(BANKED, 1.0, piece * np.array([0.0, 0.25, 1.0, 3.0]))
    more = np.asarray(supply.latency_cycles) - miss_cycles(BANKED)
    assert more == pytest.approx(piece * np.array([1, 0.75, 0, 0]))


def test_what_is_asked_for_at_the_start():
    """Of one query tile the keys that wait for a slot come before the second values."""
    tiles = np.array([1, 2, 3, 9])
    alone, in_turn = (Ahead.of(tiles, np.full(4, each)) for each in (False, True))
    assert alone.keys.tolist() == in_turn.keys.tolist() == [1, 2, 2, 2]
    assert alone.values.tolist() == [1, 2, 1, 1]
    assert in_turn.values.tolist() == [1, 2, 2, 2]
