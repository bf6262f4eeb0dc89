"""Which tiles fit a machine: shared by all kernels that choose or check tile sizes."""

from collections.abc import Callable, Iterable

from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import BufferInfo, Memory
from accelsim.units import KIB

MEMORIES: tuple[Memory, ...] = ("scratchpad", "accumulator", "index_buffer")


def capacity_bytes(machine: MachineSpec, memory: Memory) -> int:
    """Return the capacity of one of a machine's memories on chip; 0 if it has none."""
    if memory == "index_buffer":
        return int(machine.int_mac.index_buffer) if machine.int_mac else 0
    return int(
        machine.scratchpad.capacity if memory == "scratchpad" else machine.accumulator.capacity
    )


def fit_error(
    name: str, buffers: Iterable[BufferInfo], machine: MachineSpec
) -> DoesNotFitError | None:
    """Return None if the buffers fit, or an error naming them, their bytes and the capacity."""
    for memory in MEMORIES:
        place = memory.replace("_", " ")
        own = [b for b in buffers if b.memory == memory]
        needed, capacity = sum(b.size_bytes for b in own), capacity_bytes(machine, memory)
        if needed > capacity:
            listed = ", ".join(
                f"{b.name} {b.slots} x {b.rows}x{b.cols} = {b.size_bytes} B" for b in own
            )
            return DoesNotFitError(
                f"{name} does not fit the {place} of machine {machine.name}: it needs {needed} B, "
                f"{capacity} B ({capacity / KIB:g} KiB) are there; buffers: {listed}; "
                f"choose smaller tiles or a larger {place}"
            )
    return None


def misfit(
    name: str, machine: MachineSpec, declare: Callable[[ProgramBuilder], object]
) -> DoesNotFitError:
    """Return the error of buffers that do not fit, the smallest that were tried."""
    builder = ProgramBuilder(name, with_numbers=False)
    declare(builder)
    error = fit_error(name, builder.buffers, machine)
    if error is None:
        raise ValueError(f"{name}: no tiles to try")
    return error


def first_fit(
    name: str,
    candidates: Iterable[tuple[int, ...]],
    allocate: Callable[[ProgramBuilder, tuple[int, ...]], object],
    machine: MachineSpec,
) -> tuple[int, ...]:
    """Return the first tile sizes whose buffers fit; if none do, raise the error of the last."""
    error: DoesNotFitError | None = None
    for sizes in candidates:
        builder = ProgramBuilder(name, with_numbers=False)
        allocate(builder, sizes)
        error = fit_error(name, builder.buffers, machine)
        if error is None:
            return sizes
    if error is None:
        raise ValueError(f"{name}: no tile sizes to choose from")
    raise error


def tile_sizes(largest: int, smallest: int) -> list[int]:
    """Return the sizes largest, largest / 2, ... down to `smallest`."""
    sizes = []
    while largest >= smallest:
        sizes.append(largest)
        largest //= 2
    return sizes
