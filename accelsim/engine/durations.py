"""Program and machine to what each op takes, whenever it runs: cycles of its unit, and actions."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.limits import Longest, check_length, longest_of
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import UNITS, MachineSpec
from accelsim.hardware.units.base import FIRST_OWN, Counts
from accelsim.hardware.units.dispatch import by_unit
from accelsim.numerics.formats import Format
from accelsim.program.ops import FIRST_MEMORY_UNIT, NUM_UNITS, OPERAND_SHIFT, UNIT_NAMES
from accelsim.program.program import Program
from accelsim.program.shared import content_of
from accelsim.program.words import format_in, words_of
from accelsim.runtime.jit import borrow, jit
from accelsim.runtime.kept import once_for_each

_FORMATS = list(Format)
_NUM_FORMATS = len(Format)
_MODELS = sorted(UNITS, key=lambda model: model.unit)
_SECOND_FORMATS = np.array([model.second_format_shift for model in _MODELS])
_cycles = by_unit([model.busy_cycles for model in _MODELS[:FIRST_MEMORY_UNIT]])
_count = by_unit([model.count for model in _MODELS], "counts")
NUM_COLUMNS = FIRST_OWN + max(model.num_actions for model in UNITS)
"""Of the table of actions."""


class Work(NamedTuple):
    """What the ops of a program take on a machine."""

    busy_cycles: npt.NDArray[np.int64]
    """Cycles that every compute op occupies its unit; 0 for DMA ops."""
    actions: Counts
    """Rows of the units in the table of actions: see `UnitModel.count`."""
    longest: Longest


def work_of(program: Program, machine: MachineSpec) -> Work:
    """Return what the ops of a program take on a machine.

    Raises DoesNotFitError when a unit of the machine lacks a format or an op that the program uses,
    or when the program could take more cycles than an engine can count.
    """
    _check_units(program, machine)
    shapes, content = _shapes_of(machine)
    worked = partial(_worked, program, shapes)
    cycles, actions, used, busy_cycles = program.find(content, worked)
    _check_formats(program.name, machine, used)
    longest = longest_of(program, machine, busy_cycles)
    check_length(program.name, machine, longest)
    return Work(cycles, actions, longest)


def _worked(
    program: Program, shapes: tuple[Any, ...]
) -> tuple[npt.NDArray[np.int64], Counts, npt.NDArray[np.bool_], float]:
    """Return cycles and actions of the ops on units of some shapes, the formats used, and the
    cycles of all."""
    cycles = np.zeros(program.num_ops, np.int64)
    actions = np.zeros((NUM_UNITS, NUM_COLUMNS), np.int64)
    used = np.zeros((NUM_UNITS, _NUM_FORMATS), np.bool_)
    _work(program.ops, program.units, shapes, cycles, actions, used)
    return cycles, actions, used, float(cycles.sum(dtype=np.float64))


def latency_cycles(machine: MachineSpec) -> npt.NDArray[np.int64]:
    """Return, for each unit, the cycles from the end of an op on it until others see its result."""
    latency = np.zeros(NUM_UNITS, np.int64)
    for model, spec in machine.units.items():
        latency[model.unit] = spec.latency_cycles
    return latency


def launch_cycles(
    has_items: npt.NDArray[np.bool_], phases_with: npt.NDArray[np.bool_], machine: MachineSpec
) -> npt.NDArray[np.int64]:
    """Return, for each phase, the cycles from the end of the one before to its first claim.

    A phase without items takes none. has_items: [phase]. phases_with: see `Totals`.
    """
    seconds = np.where(has_items, machine.launch, 0.0)
    for model, spec in machine.units.items():
        seconds[phases_with[:, model.unit]] += spec.setup_s
    return np.rint(seconds * machine.clock).astype(np.int64)


def launches_of(program: Program, machine: MachineSpec) -> npt.NDArray[np.int64]:
    """Return the launches of all phases of a program."""
    has_items = np.bincount(program.item_phase) > 0
    return launch_cycles(has_items, program.totals.phases_with, machine)


@once_for_each
def _shapes_of(machine: MachineSpec) -> tuple[tuple[Any, ...], bytes | None]:
    """Return what compiled code needs of every unit, in the order of `Unit`, and its content."""
    port = float(machine.scratchpad.bandwidth)
    shapes = tuple(model.shape_of(getattr(machine, model.key), port) for model in _MODELS)
    return shapes, content_of(shapes)


def _check_units(program: Program, machine: MachineSpec) -> None:
    """Refuse ops that no unit of the machine runs."""
    phases_with = program.totals.phases_with
    for model in UNITS:
        if phases_with[:, model.unit].any():
            machine.unit_for(model, program.name).check(program, machine.name)


def _check_formats(name: str, machine: MachineSpec, used: npt.NDArray[np.bool_]) -> None:
    """Refuse formats that a unit does not list; used: [unit, format code]."""
    formats = {model.unit: spec.number_formats for model, spec in machine.units.items()}
    for unit in sorted(formats):
        own = formats[unit]
        for code in np.flatnonzero(used[unit]):
            if _FORMATS[code] not in own:
                raise DoesNotFitError(
                    f"machine {machine.name}: its {UNIT_NAMES[unit]} unit has no "
                    f"{_FORMATS[code]}, which {name} uses; it has {', '.join(own)}"
                )


@jit
def _work(ops, units, shapes, cycles, actions, used):
    """Fill in the cycles of all ops, the actions of units, and the formats [unit, format] used."""
    ops, shapes, rows = borrow(ops), borrow(shapes), borrow(actions)
    for i in range(len(ops)):
        unit, op = units[i], words_of(ops, i)
        _count(unit, op, shapes, rows)
        if unit < FIRST_MEMORY_UNIT:
            used[unit, format_in(op, OPERAND_SHIFT)] = True
            used[unit, format_in(op, _SECOND_FORMATS[unit])] = True
            cycles[i] = _cycles(unit, op, shapes)
