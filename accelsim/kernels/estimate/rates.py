"""What the memory of a machine gives its cores, as numbers for compiled code and for arrays."""

from typing import Any, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.memory import (
    hit_cycles,
    launch_cycles,
    miss_cycles,
    piece_cycles,
    sustained_bytes_per_cycle,
)
from accelsim.runtime.kept import once_for_each


class Rates(NamedTuple):
    """Numbers of one machine."""

    cores: int
    items_in_flight: int
    has_l2: bool
    hit_cycles: float
    """Latency of what is on the chip, if anything is."""
    miss_cycles: float
    hbm: float
    """Cycles of a byte at the peak of the HBM."""
    sustained: float
    """The same of what banks and refresh leave."""
    l2: float
    """The same of the L2; 0 without one."""
    port: float
    """The same of the queue of one core."""
    piece_cycles: float
    """Time in which one channel serves the bytes of a row that lie in it; 0 for a flat HBM."""
    launch_cycles: float


@once_for_each
def rates_of(machine: MachineSpec) -> Rates:
    """Return the numbers of a machine."""
    return Rates(
        cores=machine.cores,
        items_in_flight=machine.items_in_flight,
        has_l2=machine.l2 is not None,
        hit_cycles=float(hit_cycles(machine)),
        miss_cycles=float(miss_cycles(machine)),
        hbm=1 / machine.hbm_bytes_per_cycle,
        sustained=1 / sustained_bytes_per_cycle(machine),
        l2=machine.clock / machine.l2.bandwidth if machine.l2 else 0.0,
        port=1 / machine.load.bandwidth,
        piece_cycles=piece_cycles(machine),
        launch_cycles=float(launch_cycles(machine)),
    )


def shared_cycles(rates: Rates, active: Any, fetched: Any) -> Any:
    """Return the time of a byte for each of `active` cores that share the memory.

    fetched: share of the bytes that comes from the HBM.
    """
    return np.maximum(active * fetched * rates.sustained, active * rates.l2)


def queued_cycles(rates: Rates, active: Any, outstanding: Any, think: Any) -> Any:
    """Return the same of bytes that come from an HBM whose channels have queues of their own.

    outstanding: bytes that a core has asked for at a time; think: cycles from when some arrive to
    the request for the next ones. Pieces of bytes are the customers of a closed network: where one
    takes s cycles, the share u of the peak is that for which u (think + s / (1 - u)) is the time
    of all outstanding bytes at the peak (Reiser and Lavenberg, "Mean-value analysis of closed
    multichain queuing networks", 1980, for many customers).
    """
    backlog = active * outstanding * rates.hbm
    total = think + rates.piece_cycles + backlog
    used = (total - np.sqrt(total * total - 4 * think * backlog)) / (2 * think)
    return active * rates.hbm / used


def joined(own: Any, shared: Any, by_others: Any) -> Any:
    """Return the time of loads that take `own` alone, where cores share the memory.

    by_others: the part of `shared` that other cores take. Where both are alike, a core waits for
    the memory at times and the memory for the cores at others, so it takes longer than either: of
    two equal ones 19 % are lost (simulated: 3 to 15 %, less with many items on each core).
    """
    waiting = shared * by_others
    both = np.sqrt(np.sqrt(own * own * own * own + waiting * waiting * waiting * waiting))
    return np.maximum(shared, both)
