"""Program and machine to the cycles that each compute op occupies its unit."""

import numpy as np
import numpy.typing as npt

from accelsim.engine.limits import check_length
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.matrix_unit import NO_MATRIX_UNIT
from accelsim.hardware.timing import int_mac_cycles, matrix_cycles, move_cycles, vector_cycles
from accelsim.jit import jit
from accelsim.numerics.formats import Format
from accelsim.program.ops import (
    BITS_B_SHIFT,
    FIELD_MASK,
    FIRST_VECTOR_OP,
    HEAD,
    NUM_OPS,
    NUM_UNITS,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    SHIFTS_SHIFT,
    VECTOR_OPS,
    A,
    B,
    C,
    D,
    Op,
    Unit,
)
from accelsim.program.program import Program

_MATMUL, _MOVE, _INT_MATMUL = Op.MATMUL.value, Op.MOVE.value, Op.INT_MATMUL.value
_CUBE, _VECTOR, _INT_MAC = Unit.CUBE.value, Unit.VECTOR.value, Unit.INT_MAC.value
_FORMATS = list(Format)


def busy_cycles(program: Program, machine: MachineSpec) -> npt.NDArray[np.int64]:
    """Return the cycles every compute op occupies its unit; 0 for DMA ops.

    Raises DoesNotFitError when a unit of the machine lacks a format or an op that the program uses,
    or when the program could take more cycles than an engine can count.
    """
    cube, int_mac = machine.cube, machine.int_mac
    array = (int_mac.rows, int_mac.cols) if int_mac else (1, 1)
    rates = np.array([cube.rates.get(fmt, 1.0) if cube else 1.0 for fmt in Format])
    lanes = np.array([machine.vector.lanes.get(fmt, 1) for fmt in Format], np.int64)
    _check_ops(program, machine)
    costs = np.ones(NUM_OPS)
    for op in VECTOR_OPS:
        costs[op] = getattr(machine.vector.costs, op.name.lower()) or 1.0
    cycles, used = _busy(
        program.ops,
        cube.unit if cube else NO_MATRIX_UNIT,
        array,
        rates,
        lanes,
        costs,
        cube.issue_cycles if cube else 0,
        machine.vector.issue_cycles,
        float(machine.scratchpad.bandwidth),
        float(machine.accumulator.bandwidth),
    )
    _check_formats(program.name, machine, used)
    check_length(program, machine, cycles)
    return cycles


def latency_cycles(machine: MachineSpec) -> npt.NDArray[np.int64]:
    """Return, for each unit, the cycles from the end of an op on it until others see its result."""
    latency = np.zeros(NUM_UNITS, np.int64)
    if machine.cube:
        latency[Unit.CUBE] = machine.cube.latency_cycles
    if machine.int_mac:
        latency[Unit.INT_MAC] = machine.int_mac.pipeline_depth_cycles
    latency[Unit.VECTOR] = machine.vector.pipeline_depth_cycles
    return latency


def launch_cycles(program: Program, machine: MachineSpec) -> npt.NDArray[np.int64]:
    """Return, for each phase, the cycles from the end of the one before to its first claim.

    A phase without items takes none.
    """
    launches = np.zeros(int(program.item_phase.max(initial=-1)) + 1, np.int64)
    launches[program.item_phase] = round(machine.launch * machine.clock)
    if machine.cube:
        with_setup = round((machine.launch + machine.cube.setup) * machine.clock)
        launches[program.totals.has_product] = with_setup
    return launches


def _check_ops(program: Program, machine: MachineSpec) -> None:
    """Refuse ops that no unit of the machine runs."""
    counts = program.totals.counts
    if counts[Op.MATMUL]:
        machine.cube_for(program.name)
    if counts[Op.INT_MATMUL]:
        _check_shifts(program, machine)
    for op in VECTOR_OPS:
        name = op.name.lower()
        if counts[op] and getattr(machine.vector.costs, name) is None:
            raise DoesNotFitError(
                f"machine {machine.name}: its vector unit has no {name}, which {program.name} "
                f"uses; give vector.costs.{name} to add it"
            )


def _check_shifts(program: Program, machine: MachineSpec) -> None:
    int_mac = machine.int_mac_for(program.name)
    is_product = program.op_codes == Op.INT_MATMUL
    if not int_mac.can_shift and np.any(program.ops[is_product, D] >> SHIFTS_SHIFT):
        raise DoesNotFitError(
            f"machine {machine.name}: its int_mac cannot shift its accumulators, which "
            f"{program.name} needs; set int_mac.can_shift"
        )


def _check_formats(name: str, machine: MachineSpec, used: npt.NDArray[np.bool_]) -> None:
    """Refuse formats that a unit does not list; used: [unit, format code]."""
    formats = {
        Unit.CUBE: tuple(machine.cube.rates) if machine.cube else (),
        Unit.VECTOR: tuple(machine.vector.lanes),
        Unit.INT_MAC: machine.int_mac.formats if machine.int_mac else (),
    }
    for unit, own in formats.items():
        for code in np.flatnonzero(used[unit]):
            if _FORMATS[code] not in own:
                raise DoesNotFitError(
                    f"machine {machine.name}: its {unit.name.lower()} unit has no "
                    f"{_FORMATS[code]}, which {name} uses; it has {', '.join(own)}"
                )


@jit
def _busy(
    ops,
    unit,
    array,
    rates,
    lanes,
    costs,
    cube_issue,
    vector_issue,
    scratchpad_rate,
    accumulator_rate,
):
    cycles = np.zeros(len(ops), np.int64)
    used = np.zeros((NUM_UNITS, len(rates)), np.bool_)
    for i in range(len(ops)):
        op = ops[i, HEAD] & FIELD_MASK
        fmt = (ops[i, HEAD] >> OPERAND_SHIFT) & FIELD_MASK
        if op == _MATMUL:
            used[_CUBE, fmt] = True
            m, n, k = ops[i, A], ops[i, B], ops[i, C]
            bits_a, bits_b = ops[i, D] & FIELD_MASK, ops[i, D] >> BITS_B_SHIFT
            operand_bytes = (m * k * bits_a + k * n * bits_b) / 8
            steps = matrix_cycles(m, n, k, operand_bytes, unit, rates[fmt], scratchpad_rate)
            cycles[i] = cube_issue + steps
        elif op == _INT_MATMUL:
            used[_INT_MAC, fmt] = used[_INT_MAC, (ops[i, HEAD] >> OUTPUT_SHIFT) & FIELD_MASK] = True
            d = ops[i, D]
            cycles[i] = int_mac_cycles(
                ops[i, A],
                ops[i, B],
                ops[i, C],
                d >> SHIFTS_SHIFT,
                d & FIELD_MASK,
                (d >> BITS_B_SHIFT) & FIELD_MASK,
                array[0],
                array[1],
                scratchpad_rate,
            )
        elif op == _MOVE:
            cycles[i] = move_cycles(ops[i, C], ops[i, D], accumulator_rate, scratchpad_rate)
        elif op >= FIRST_VECTOR_OP:
            used[_VECTOR, fmt] = True
            elements, moved_bytes = ops[i, A] * ops[i, B], ops[i, C] + ops[i, D]
            cycles[i] = vector_cycles(
                elements, moved_bytes, lanes[fmt], costs[op], vector_issue, scratchpad_rate
            )
    return cycles, used
