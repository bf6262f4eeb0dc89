"""What the memory supplies to a core, and the least time that a kernel's bytes take."""

from typing import Any

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.banks import piece_bytes
from accelsim.kernels.estimate.timeline import Supply

_BANKED_SHARE = 0.9
"""Of the peak that a memory with banks and refresh sustains (assumption)."""
_STEPS_PER_POWER = 8
_POWERS = (3.0, 8.0)
"""Least and largest exponent by which times that overlap are joined: of two equal ones 26 % and 9 %
are lost (assumption, as is the one above)."""


def miss_cycles(machine: MachineSpec) -> int:
    """Return the latency of the HBM; with banks that of a row behind another of the same bank."""
    if machine.hbm.kind == "flat":
        return machine.hbm_latency_cycles
    timing = machine.hbm.dram.timing
    clocks = timing.t_rp + timing.t_rcd_read + timing.t_cl + timing.burst
    return machine.hbm_latency_cycles + round(clocks * timing.t_ck * machine.clock)


def hit_cycles(machine: MachineSpec) -> int:
    """Return the latency of what is on the chip, if anything is."""
    return machine.l2_latency_cycles if machine.l2 else miss_cycles(machine)


def sustained_bytes_per_cycle(machine: MachineSpec) -> float:
    """Return what the HBM gives all cores together."""
    share = 1.0 if machine.hbm.kind == "flat" else _BANKED_SHARE
    return share * machine.hbm_bytes_per_cycle


def supply_of(machine: MachineSpec, first_share: Any, begin_cycles: Any = 0.0) -> Supply:
    """Return what one core gets that asks alone, or behind what others ask for at the same time.

    begin_cycles: when the memory has served them. With an L2, first_share of the loads waits for
    the HBM: those of what comes for the first time, and of cores that ask for the same at the same
    time.
    """
    hit = float(hit_cycles(machine))
    # While a channel serves the bytes in a row of others, this core's channel serves its own.
    miss = miss_cycles(machine) + np.maximum(0, piece_cycles(machine) - begin_cycles)
    if machine.l2 is None:
        return Supply(1 / machine.hbm_bytes_per_cycle, miss, miss, begin_cycles)
    cycles_per_byte, away = machine.clock / machine.l2.bandwidth, first_share * (miss - hit)
    # The HBM fetches while the L2 serves others, and may be done with it sooner.
    busy = np.minimum(1, 1 / sustained_bytes_per_cycle(machine) / cycles_per_byte)
    begin_cycles = np.maximum(begin_cycles * busy, begin_cycles - away)
    return Supply(cycles_per_byte, hit + away, hit, begin_cycles)


def piece_cycles(machine: MachineSpec) -> float:
    """Return the time of the bytes in a row that one channel of a banked HBM serves alone."""
    hbm = machine.hbm
    if hbm.kind == "flat":
        return 0.0
    channels = hbm.channels * hbm.dram.shape.pseudo_channels
    return piece_bytes(hbm) * channels / machine.hbm_bytes_per_cycle


def contended(own: Any, shared: Any, by_others: Any, steps: Any) -> Any:
    """Return the time of loads that take `own` alone, where cores share the memory.

    by_others: the part of `shared` that other cores take; steps: that a core works through in all.
    Where both are alike, a core waits for the memory at times and the memory for the cores at
    others, so it takes longer than either; over many steps the waits even out.
    """
    least, most = _POWERS
    power = np.minimum(np.maximum(steps / _STEPS_PER_POWER, least), most)
    joined = (own**power + (shared * by_others) ** power) ** (1 / power)
    return np.maximum(shared, joined)


def least_cycles(machine: MachineSpec, moved_bytes: Any, compulsory_bytes: float) -> Any:
    """Return the time that the memory needs for the bytes of a kernel at its full rate."""
    rate = sustained_bytes_per_cycle(machine)
    if machine.l2 is None:
        return miss_cycles(machine) + moved_bytes / rate
    by_l2 = moved_bytes * machine.clock / machine.l2.bandwidth
    return miss_cycles(machine) + np.maximum(by_l2, compulsory_bytes / rate)


def launch_cycles(machine: MachineSpec, *, with_products: bool = True) -> int:
    """Return the time from the start of a phase to the first claim, as the engine takes it."""
    setup = machine.cube.setup if machine.cube and with_products else 0.0
    return round((machine.launch + setup) * machine.clock)
