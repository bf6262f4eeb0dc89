"""What the memory gives a core beside others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.kernels.estimate.banks import piece_bytes
from accelsim.kernels.estimate.memory import (
    hit_cycles,
    miss_cycles,
    supply_of,
    sustained_bytes_per_cycle,
)
from accelsim.kernels.estimate.rates import joined, queued_cycles, rates_of, shared_cycles
from accelsim.loading import load_machine

L2, NO_L2 = load_machine("ascend-910b"), load_machine("ascend-910b-no-l2")
BANKED = load_machine("ascend-910b-banked")


def test_cores_share_the_slower_of_the_memories():
    both, hbm = rates_of(L2), rates_of(NO_L2)
    assert shared_cycles(hbm, 24, 0.5) == pytest.approx(12 / NO_L2.hbm_bytes_per_cycle)
    assert shared_cycles(both, 24, 1.0) == pytest.approx(24 / sustained_bytes_per_cycle(L2))
    assert shared_cycles(both, 24, 0.0) == pytest.approx(24 * L2.clock / L2.l2.bandwidth)


def test_rates_are_those_of_the_machine_that_is_asked_for():
    faster = load_machine("ascend-910b", {"l2.bandwidth": "9.504 TB/s"})
    assert rates_of(faster).l2 == pytest.approx(rates_of(L2).l2 / 2)
    assert rates_of(L2) == rates_of(load_machine("ascend-910b"))


@given(
    active=st.integers(1, 64),
    outstanding=st.floats(1e3, 1e6),
    think=st.floats(1e2, 1e5),
)
def test_queues_of_channels_serve_what_is_outstanding_in_its_own_time(active, outstanding, think):
    """By Little's law all that is outstanding passes in the time to think and to be served."""
    rates = rates_of(BANKED)
    cycles = queued_cycles(rates, active, outstanding, think)
    used = active * rates.hbm / cycles
    assert 0 < used < 1
    backlog = active * outstanding * rates.hbm
    assert used * (think + rates.piece_cycles / (1 - used)) == pytest.approx(backlog, rel=1e-6)


@given(own=st.floats(1, 1e6), shared=st.floats(1, 1e6), by_others=st.floats(0, 1))
def test_joined_times_are_no_shorter_than_either(own, shared, by_others):
    found = joined(own, shared, by_others)
    assert found >= max(own, shared) * (1 - 1e-12)
    assert found <= max(shared, 2**0.25 * max(own, shared * by_others)) * (1 + 1e-12)


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
    assert supply_of(L2, 1.0, 900.0).begin_cycles == 900


def test_the_hbm_may_be_done_with_others_sooner_than_a_slow_l2():
    """No sooner than a miss takes longer than a hit."""
    slow = load_machine("ascend-910b", {"l2.bandwidth": "100 GB/s"})
    away = miss_cycles(slow) - hit_cycles(slow)
    busy = slow.l2.bandwidth / slow.clock / sustained_bytes_per_cycle(slow)
    short, long = 100.0, 5000.0
    supply = supply_of(slow, 1.0, np.array([short, long]))
    assert supply.begin_cycles == pytest.approx([short * busy, long - away])


def test_a_channel_serves_the_piece_of_a_core_while_others_serve_theirs():
    channels = BANKED.hbm.channels * BANKED.hbm.dram.shape.pseudo_channels
    piece = piece_bytes(BANKED.hbm) * channels / BANKED.hbm_bytes_per_cycle
    supply = supply_of(BANKED, 1.0, piece * np.array([0.0, 0.25, 1.0, 3.0]))
    more = np.asarray(supply.latency_cycles) - miss_cycles(BANKED)
    assert more == pytest.approx(piece * np.array([1, 0.75, 0, 0]))
