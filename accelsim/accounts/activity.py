"""Program and schedule to action counts: what every unit did, for the energy account."""

from collections.abc import Iterator
from dataclasses import asdict

from accelsim.engine.schedule import Accounted
from accelsim.hardware.machine import UNITS, MachineSpec
from accelsim.hardware.units.base import (
    ACCUMULATOR_READ,
    ACCUMULATOR_WRITE,
    SCRATCHPAD_READ,
    SCRATCHPAD_WRITE,
    Counts,
    UnitModel,
)
from accelsim.program.activity import Activity


def count_activity(schedule: Accounted, machine: MachineSpec) -> Activity:
    """Return the action counts of a run."""
    counts = schedule.actions
    of_all = counts.sum(axis=0)
    own = {name: n for model in UNITS for name, n in model.actions(counts[model.unit]).items()}
    return Activity(
        **own,
        actions={name: n for model in UNITS for name, n in _named(model, counts) if n},
        scratchpad_read_bytes=int(of_all[SCRATCHPAD_READ]),
        scratchpad_write_bytes=int(of_all[SCRATCHPAD_WRITE]),
        accumulator_read_bytes=int(of_all[ACCUMULATOR_READ]),
        accumulator_write_bytes=int(of_all[ACCUMULATOR_WRITE]),
        **asdict(schedule.traffic),
        seconds=schedule.cycles / machine.clock,
        dram=schedule.dram,
    )


def _named(model: UnitModel, counts: Counts) -> Iterator[tuple[str, int]]:
    """Yield the actions of a unit that have names."""
    for name, column in model.named_actions.items():
        yield name, int(counts[model.unit, column])
