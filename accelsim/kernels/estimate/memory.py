"""What the memory supplies to a core, and the least time that a kernel's bytes take."""

from typing import Any

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.timeline import Supply


def supply_of(
    machine: MachineSpec, tile_bytes: Any, active_cores: Any, fetched_share: Any
) -> Supply:
    """Return the fair share of a core.

    tile_bytes: of the transfers that most bytes come in. active_cores: that load at a time.
    fetched_share: of the bytes asked for, those that a machine with an L2 fetches from its HBM.
    """
    share = machine.hbm.channel_share
    reached = np.vectorize(share, otypes=[float])(tile_bytes)
    hbm = active_cores / machine.hbm_bytes_per_cycle / reached
    if machine.l2 is None:
        return Supply(hbm, float(machine.hbm_latency_cycles))
    l2 = active_cores * machine.clock / machine.l2.bandwidth
    hit, miss = machine.l2_latency_cycles, machine.hbm_latency_cycles
    return Supply(np.maximum(l2, fetched_share * hbm), hit + fetched_share * (miss - hit))


def least_cycles(machine: MachineSpec, moved_bytes: Any, compulsory_bytes: float) -> Any:
    """Return the time that the memory needs for the bytes of a kernel at its full rate."""
    if machine.l2 is None:
        return machine.hbm_latency_cycles + moved_bytes / machine.hbm_bytes_per_cycle
    by_l2 = moved_bytes * machine.clock / machine.l2.bandwidth
    return machine.hbm_latency_cycles + np.maximum(
        by_l2, compulsory_bytes / machine.hbm_bytes_per_cycle
    )


def launch_cycles(machine: MachineSpec, *, with_products: bool = True) -> int:
    """Return the time from the start of a phase to the first claim, as the engine takes it."""
    setup = machine.cube.setup if machine.cube and with_products else 0.0
    return round((machine.launch + setup) * machine.clock)
