"""A machine at another clock: what follows it, and what does not."""

from accelsim.loading import load_machine


def test_an_l2_has_the_clock_of_the_die_and_the_memory_its_own():
    machine = load_machine("h200-sxm")
    slower = machine.at_clock(machine.clock / 2)
    assert slower.clock == machine.clock / 2
    assert slower.l2.bandwidth == machine.l2.bandwidth / 2
    assert slower.l2_latency_cycles == machine.l2_latency_cycles
    assert slower.hbm == machine.hbm
    assert slower.at_clock(machine.clock) == machine


def test_a_machine_without_an_l2_has_another_clock_and_nothing_else():
    machine = load_machine("edge-npu")
    assert machine.at_clock(1e9) == machine.model_copy(update={"clock": 1e9})
