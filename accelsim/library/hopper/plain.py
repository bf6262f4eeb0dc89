"""Plain code: blocks of threads load what they need themselves, without asynchronous copies."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from accelsim.library.base import Hardware
from accelsim.library.hopper.hardware import with_instructions
from accelsim.numerics.formats import Format

MOST_THREADS, REGISTERS = 2048, 65536
_SCHEDULERS, _WARP = 4, 32
"""Of a multiprocessor: most threads, registers, schedulers; threads of a warp (CUDA C++ Programming
Guide, compute capability 9.0)."""
_DEPENDENT_CYCLES = 4
"""From an instruction to the next one that needs its result (Jia et al., "Dissecting the NVIDIA
Volta GPU Architecture via Microbenchmarking", 2018, and generations since)."""
_HBM_LATENCY_CYCLES, _L2_LATENCY_CYCLES = 479, 263
"""Of a load by a thread (Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU
Architecture via Microbenchmarking", 2024, latencies of H100)."""


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

    def on(self, gpu: Hardware) -> Hardware:
        """Return the machine as such code sees it."""
        slots = 1 + _DEPENDENT_CYCLES * _SCHEDULERS * _WARP / self.threads
        machine, technology = with_instructions(gpu, self.instructions, slots, Format.FP32)
        hbm, load, store = machine.hbm, machine.load, machine.store
        port = self.port_bytes_per_cycle or load.bandwidth
        in_flight = self.loads_in_flight or load.in_flight
        update: dict[str, Any] = {
            "items_in_flight": self.items_in_flight,
            "hbm": hbm.model_copy(
                update={
                    "latency": min(hbm.latency, _HBM_LATENCY_CYCLES / machine.clock),
                    "bandwidth": min(hbm.bandwidth, self.hbm_bytes_per_s or hbm.bandwidth),
                }
            ),
            "load": load.model_copy(
                update={"bandwidth": min(load.bandwidth, port), "in_flight": in_flight}
            ),
            "store": store.model_copy(update={"bandwidth": min(store.bandwidth, port)}),
        }
        if machine.l2:
            latency_s = min(machine.l2.latency, _L2_LATENCY_CYCLES / machine.clock)
            update["l2"] = machine.l2.model_copy(update={"latency": latency_s})
        return Hardware(machine.model_copy(update=update), technology)


def instruction_cycles(instructions: float, threads: int) -> float:
    """Return the cycles in which a multiprocessor issues so many instructions of each thread."""
    warps = threads / (_SCHEDULERS * _WARP)
    return instructions * (warps + _DEPENDENT_CYCLES)
