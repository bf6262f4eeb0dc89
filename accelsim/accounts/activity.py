"""Program and schedule to action counts: what every unit did, for the energy account."""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from accelsim.engine.durations import shapes_of
from accelsim.engine.schedule import Schedule
from accelsim.hardware.machine import UNITS, MachineSpec
from accelsim.hardware.units.base import (
    ACCUMULATOR_READ,
    ACCUMULATOR_WRITE,
    FIRST_OWN,
    SCRATCHPAD_READ,
    SCRATCHPAD_WRITE,
    Counts,
    UnitModel,
)
from accelsim.hardware.units.dispatch import by_unit
from accelsim.program.activity import Activity
from accelsim.program.ops import NUM_UNITS
from accelsim.program.words import words_of
from accelsim.runtime.jit import borrow, jit

_MODELS = sorted(UNITS, key=lambda model: model.unit)
_count_op = by_unit([model.count for model in _MODELS], "counts")
_NUM_COLUMNS = FIRST_OWN + max(model.num_actions for model in UNITS)


def count_activity(schedule: Schedule, machine: MachineSpec) -> Activity:
    """Return the action counts of a run."""
    program = schedule.program
    counts = _count(program.ops, program.units, shapes_of(machine))
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


@jit
def _count(ops, units, shapes):
    counts = np.zeros((NUM_UNITS, _NUM_COLUMNS), np.int64)
    ops, shapes, rows = borrow(ops), borrow(shapes), borrow(counts)
    for i in range(len(ops)):
        _count_op(units[i], words_of(ops, i), shapes, rows)
    return counts
