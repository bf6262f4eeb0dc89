"""Program and machine to the cycles that each compute op occupies its unit."""

from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.engine.limits import check_length
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import UNITS, MachineSpec
from accelsim.hardware.units.dispatch import by_unit
from accelsim.numerics.formats import Format
from accelsim.program.ops import FIRST_MEMORY_UNIT, NUM_UNITS, OPERAND_SHIFT, UNIT_NAMES
from accelsim.program.program import Program
from accelsim.program.words import format_in, words_of
from accelsim.runtime.jit import borrow, jit

_FORMATS = list(Format)
_NUM_FORMATS = len(Format)
_MODELS = sorted(UNITS, key=lambda model: model.unit)
_SECOND_FORMATS = np.array([model.second_format_shift for model in _MODELS])
_cycles = by_unit([model.busy_cycles for model in _MODELS[:FIRST_MEMORY_UNIT]])


def busy_cycles(program: Program, machine: MachineSpec) -> npt.NDArray[np.int64]:
    """Return the cycles every compute op occupies its unit; 0 for DMA ops.

    Raises DoesNotFitError when a unit of the machine lacks a format or an op that the program uses,
    or when the program could take more cycles than an engine can count.
    """
    _check_units(program, machine)
    cycles, used = _busy(program.ops, program.units, shapes_of(machine))
    _check_formats(program.name, machine, used)
    check_length(program, machine, cycles)
    return cycles


def latency_cycles(machine: MachineSpec) -> npt.NDArray[np.int64]:
    """Return, for each unit, the cycles from the end of an op on it until others see its result."""
    latency = np.zeros(NUM_UNITS, np.int64)
    for model, spec in machine.units.items():
        latency[model.unit] = spec.latency_cycles
    return latency


def launch_cycles(program: Program, machine: MachineSpec) -> npt.NDArray[np.int64]:
    """Return, for each phase, the cycles from the end of the one before to its first claim.

    A phase without items takes none.
    """
    seconds = np.zeros(int(program.item_phase.max(initial=-1)) + 1)
    seconds[program.item_phase] = machine.launch
    for model, spec in machine.units.items():
        seconds[program.totals.phases_with[:, model.unit]] += spec.setup_s
    return np.rint(seconds * machine.clock).astype(np.int64)


def shapes_of(machine: MachineSpec) -> tuple[Any, ...]:
    """Return what compiled code needs of every unit, in the order of `Unit`."""
    port = float(machine.scratchpad.bandwidth)
    return tuple(model.shape_of(getattr(machine, model.key), port) for model in _MODELS)


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
def _busy(ops, units, shapes):
    cycles = np.zeros(len(ops), np.int64)
    used = np.zeros((NUM_UNITS, _NUM_FORMATS), np.bool_)
    ops, shapes = borrow(ops), borrow(shapes)
    for i in range(len(ops)):
        unit = units[i]
        if unit < FIRST_MEMORY_UNIT:
            op = words_of(ops, i)
            used[unit, format_in(op, OPERAND_SHIFT)] = True
            used[unit, format_in(op, _SECOND_FORMATS[unit])] = True
            cycles[i] = _cycles(unit, op, shapes)
    return cycles, used
