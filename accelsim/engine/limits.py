"""The longest run that the engines can count without leaving their 64-bit integers."""

from typing import NamedTuple

import numpy as np

from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.program.program import Program

_MAX_CYCLES = 1 << 43
"""The compiled engine sorts events by one integer that has 43 bits for the cycle."""
_MAX_TRANSFER_CYCLES = 1 << 32
"""The memory multiplies bytes by subcycles per 2^20 bytes: 30 bits more than the cycles."""


class Longest(NamedTuple):
    """The most cycles that the ops of a program, or of a piece of one, can take."""

    transfer: float
    """Of the largest transfer."""
    total: float
    """All ops one after the other."""


def longest_of(program: Program, machine: MachineSpec, busy_cycles: float) -> Longest:
    """Return the most cycles that ops can take; busy_cycles: of all compute ops.

    Every transfer is taken to go through its slowest part: one channel, one slice of the L2 or one
    queue.
    """
    slowest_hbm = machine.hbm.slowest_bytes_per_s / machine.clock
    slowest = min([slowest_hbm, *(queue.bandwidth for queue in machine.queues.values())])
    if machine.l2 is not None:
        slowest = min(slowest, machine.l2.bandwidth / machine.clock / machine.l2.slices)
    with np.errstate(divide="ignore", over="ignore"):
        cycles_per_byte = 1 / np.float64(slowest)
    depths = sum(spec.latency_cycles for spec in machine.units.values())
    latency = float(machine.hbm_latency_cycles + machine.l2_latency_cycles + depths)
    longest = cycles_per_byte * program.totals.most_bytes
    moved_bytes = float(program.read_bytes + program.write_bytes)
    total = busy_cycles + cycles_per_byte * moved_bytes
    total += program.num_ops * latency
    launch = machine.launch + sum(spec.setup_s for spec in machine.units.values())
    num_phases = program.find("phases", lambda: len(np.unique(program.item_phase)))
    total += num_phases * launch * machine.clock
    return Longest(float(longest), float(total))


def check_length(name: str, machine: MachineSpec, found: Longest) -> None:
    """Refuse a program that could take more cycles than can be counted; raises DoesNotFitError."""
    for cycles, limit, what in (
        (found.transfer, _MAX_TRANSFER_CYCLES, "one transfer"),
        (found.total, _MAX_CYCLES, "all ops one after the other"),
    ):
        if cycles > limit:
            raise DoesNotFitError(
                f"{name} is too slow to simulate on machine {machine.name}: {what} would "
                f"take {cycles:.3g} cycles, allowed: {limit}; look for a rate, a latency or a "
                f"clock with the wrong unit"
            )
