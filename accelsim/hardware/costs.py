"""What a machine has that its technology does not know the cost of."""

from collections.abc import Callable, Iterator
from functools import partial

from accelsim.errors import ConfigError, UnknownNameError
from accelsim.hardware.l2 import L2Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.hardware.units.base import ArithmeticSpec, Path
from accelsim.runtime.kept import once_for_each
from accelsim.units import ceil_div


def sram_capacities(machine: MachineSpec) -> dict[str, tuple[Path, int]]:
    """Return each on-chip memory of a core: the field with its capacity, and the bytes."""
    found: dict[str, tuple[Path, int]] = {
        "scratchpad": (("scratchpad", "capacity"), machine.scratchpad.capacity)
    }
    for model, spec in machine.units.items():
        for memory, sram in spec.srams.items():
            found[memory] = (model.key, *sram.path), sram.capacity_bytes
    return found


@once_for_each
def missing_costs(machine: MachineSpec, technology: TechnologySpec) -> tuple[tuple[Path, str], ...]:
    """Return the fields of a machine that have no energy and area, each with the reason."""
    found = []
    for path, look_up in _needed(machine, technology):
        try:
            look_up()
        except (ConfigError, UnknownNameError) as error:
            found.append((path, str(error)))
    return (*found, *_missing_l2(machine.l2, technology))


def _needed(
    machine: MachineSpec, technology: TechnologySpec
) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Yield the fields that decide on costs, with what looks the cost up or raises."""
    for model, spec in sorted(machine.units.items(), key=lambda each: each[0].unit):
        if isinstance(spec, ArithmeticSpec):
            for path, fmt in spec.costed.items():
                yield (model.key, *path), partial(technology.cost_of, model.key, fmt)
            for path, (key, fmt) in spec.costed_elsewhere.items():
                yield (model.key, *path), partial(technology.cost_of, key, fmt)
    for memory, (path, size) in sram_capacities(machine).items():
        yield path, partial(technology.sram_of, memory, size)
    yield ("hbm", "standard"), partial(technology.memory, machine.hbm.technology_key)


def _missing_l2(l2: L2Spec | None, technology: TechnologySpec) -> list[tuple[Path, str]]:
    """Return what is wrong with the slices of an L2, of which each is one SRAM."""
    points = technology.sram.points
    smallest, largest = points[0].capacity, points[-1].capacity
    if l2 is None or smallest <= l2.capacity // l2.slices <= largest:
        return []
    text = (
        f"found {l2.capacity} B with l2.slices = {l2.slices}, which are slices of "
        f"{l2.capacity // l2.slices} B, allowed: slices of {smallest} to {largest} B, the memories "
        f"of technology '{technology.name}'; {_l2_hint(l2, smallest, largest)}"
    )
    return [(("l2", "capacity"), text)]


def _l2_hint(l2: L2Spec, smallest: int, largest: int) -> str:
    if l2.capacity // l2.slices > largest:
        return (
            f"give l2.slices = {ceil_div(l2.capacity, largest)} or more, "
            f"or l2.capacity = {largest * l2.slices} B or less"
        )
    larger = f"l2.capacity = {smallest * l2.slices} B or more"
    if l2.capacity < smallest:
        return f"give {larger}"
    return f"give l2.slices = {l2.capacity // smallest} or fewer, or {larger}"
