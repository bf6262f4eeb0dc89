"""Plain code: blocks of threads load what they need themselves, without asynchronous copies."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from accelsim.hardware.l2 import L2Spec
from accelsim.library.base import Hardware
from accelsim.library.hopper.hardware import with_instructions
from accelsim.numerics.formats import Format

MOST_THREADS, REGISTERS = 2048, 65536
_SCHEDULERS, _WARP = 4, 32
"""Of a multiprocessor: most threads, registers, schedulers; threads of a warp (CUDA C++ Programming
Guide, compute capability 9.0)."""
DEPENDENT_CYCLES = 4
"""From an instruction to the next one that needs its result (Jia et al., "Dissecting the NVIDIA
Volta GPU Architecture via Microbenchmarking", 2018, and generations since)."""
HBM_LATENCY_CYCLES, L2_LATENCY_CYCLES, L1_LATENCY_CYCLES = 693, 286, 41
"""Of a load by a thread: measured on the H200 by a chain of loads, where h200-vector.csv was
measured (data/NOTICE); L1: Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU
Architecture via Microbenchmarking", 2024, H100."""
L1_BYTES = 224 * 1024
"""Of a multiprocessor beside 32 KiB of shared memory for 16 blocks (CUDA C++ Programming Guide,
compute capability 9.0: 256 KiB for both)."""
READ_ONCE_L2_SHARE = 1 / 1.5
"""Room of the L2 for what is read, where a line takes 1.5 places (see below)."""
TWICE_READ_L2_SHARE = 0.8
"""Room of the L2 for rows that are read, read again and written. It has two halves. A line that the
half of another memory controller holds is held by the reader's half too (the chain of loads finds
286 cycles in 28 MB and 518 in 36 to 52), so a line that is read takes 1.5 places, and one that
is written 1: 2.5 for 2."""


class PlainCode(NamedTuple):
    """A kernel of plain code: how it cuts its matrix, and what it makes of a multiprocessor."""

    settings: Mapping[str, Any]
    """Parameters of the kernel `vector`."""
    instructions: Mapping[str, float]
    """Instructions an element for each key of the vector costs."""
    items_in_flight: Literal[1, 2] = 2
    """1 where what a multiprocessor holds goes in step."""
    threads: int = MOST_THREADS
    """Threads of a multiprocessor whose instructions do not wait for each other."""
    loads_in_flight: int | None = None
    """Steps that are on their way at a time; None: all that follow."""
    port_bytes_per_cycle: float | None = None
    """What each core reads and writes at most; None: what the machine has."""
    hbm_bytes_per_s: float | None = None
    """What the memory moves at most; None: what the machine has."""
    first_read_cycles: float = HBM_LATENCY_CYCLES
    """From one load of a thread to the next one where data comes from the memory: the latency, and
    instructions that no load is moved above."""
    later_read_cycles: float = L2_LATENCY_CYCLES
    """The same where data was read before, and comes from a cache."""
    l2_share: float = 1.0
    """Share of the L2 that data finds room in."""
    launches: int = 1
    """Kernels, one after the other."""

    def on(self, gpu: Hardware) -> Hardware:
        """Return the machine as such code sees it."""
        slots = instruction_cycles(1.0, self.threads) / warps_of_a_scheduler(self.threads)
        machine, technology = with_instructions(gpu, self.instructions, slots, Format.FP32)
        hbm, load, store = machine.hbm, machine.load, machine.store
        port = self.port_bytes_per_cycle or load.bandwidth
        in_flight = self.loads_in_flight or load.in_flight
        update: dict[str, Any] = {
            "items_in_flight": self.items_in_flight,
            "launch": self.launches * machine.launch,
            "hbm": hbm.model_copy(
                update={
                    "latency": _latency_s(
                        hbm.latency, HBM_LATENCY_CYCLES, self.first_read_cycles, machine.clock
                    ),
                    "bandwidth": min(hbm.bandwidth, self.hbm_bytes_per_s or hbm.bandwidth),
                }
            ),
            "load": load.model_copy(
                update={"bandwidth": min(load.bandwidth, port), "in_flight": in_flight}
            ),
            "store": store.model_copy(update={"bandwidth": min(store.bandwidth, port)}),
        }
        if machine.l2:
            update["l2"] = self._cache(machine.l2, machine.clock)
        return Hardware(machine.model_copy(update=update), technology)

    def _cache(self, l2: L2Spec, clock: float) -> L2Spec:
        """Return the cache that data which was read before comes from."""
        set_bytes = l2.line * l2.ways
        capacity = max(1, int(self.l2_share * l2.capacity) // set_bytes) * set_bytes
        latency_s = _latency_s(l2.latency, L2_LATENCY_CYCLES, self.later_read_cycles, clock)
        return l2.model_copy(update={"latency": latency_s, "capacity": capacity})


def _latency_s(
    latency_s: float, measured_cycles: float, read_cycles: float, clock_hz: float
) -> float:
    """Return what a read takes, instructions included, on a machine whose latency may be lower.

    measured_cycles: the latency of a load of a thread; read_cycles holds it.
    """
    load_s = min(latency_s, measured_cycles / clock_hz)
    return max(0.0, load_s + (read_cycles - measured_cycles) / clock_hz)


def warps_of_a_scheduler(threads: int) -> float:
    """Return how many warps each of the schedulers of a multiprocessor has of so many threads."""
    return threads / (_SCHEDULERS * _WARP)


def instruction_cycles(instructions: float, threads: int) -> float:
    """Return the cycles in which a multiprocessor issues so many instructions of each thread."""
    return instructions * (warps_of_a_scheduler(threads) + DEPENDENT_CYCLES)


def chain_cycles(instructions: float) -> float:
    """Return the cycles in which one warp executes instructions that each need the one before."""
    return instructions * (1 + DEPENDENT_CYCLES)


def reread_cycles(rows_bytes: float) -> float:
    """Return the latency of a second read of rows that a multiprocessor has read once.

    Results pass through the L1, too: when a share of them is written, that much of the rows is no
    longer there, if rows and share are more than it holds.
    """
    left = min(1.0, max(0.0, L1_BYTES / rows_bytes - 1))
    return left * L1_LATENCY_CYCLES + (1 - left) * L2_LATENCY_CYCLES
