"""Program and machine to the cycles that each compute op occupies its unit."""

import numpy as np
import numpy.typing as npt

from accelsim.engine.limits import check_length
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.timing import cube_cycles, move_cycles, vector_cycles
from accelsim.jit import jit
from accelsim.numerics.formats import Format
from accelsim.program.ops import (
    FIELD_MASK,
    FIRST_VECTOR_OP,
    HEAD,
    NUM_OPS,
    NUM_UNITS,
    OPERAND_SHIFT,
    A,
    B,
    C,
    D,
    Op,
    Unit,
)
from accelsim.program.program import Program

_MATMUL, _MOVE = Op.MATMUL.value, Op.MOVE.value
_CUBE, _VECTOR = Unit.CUBE.value, Unit.VECTOR.value
_FORMATS = list(Format)


def busy_cycles(program: Program, machine: MachineSpec) -> npt.NDArray[np.int64]:
    """Return the cycles every compute op occupies its unit; 0 for DMA ops.

    Raises DoesNotFitError when a unit of the machine lacks a format or an op that the program uses,
    or when the program could take more cycles than an engine can count.
    """
    cube = machine.cube
    tile = np.array([cube.tile_m, cube.tile_n, cube.tile_k], np.int64)
    rates = np.array([cube.rates.get(fmt, 1.0) for fmt in Format])
    lanes = np.array([machine.vector.lanes.get(fmt, 1) for fmt in Format], np.int64)
    _check_ops(program, machine)
    costs = np.ones(NUM_OPS)
    for op in list(Op)[FIRST_VECTOR_OP:]:
        costs[op] = getattr(machine.vector.costs, op.name.lower()) or 1.0
    cycles, used = _busy(
        program.ops,
        tile,
        rates,
        lanes,
        costs,
        cube.issue_cycles,
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
    latency[Unit.CUBE] = machine.cube.pipeline_depth_cycles
    latency[Unit.VECTOR] = machine.vector.pipeline_depth_cycles
    return latency


def _check_ops(program: Program, machine: MachineSpec) -> None:
    """Refuse vector ops that the machine gives no cost for."""
    for code in np.flatnonzero(np.bincount(program.op_codes, minlength=NUM_OPS)[FIRST_VECTOR_OP:]):
        name = Op(int(code) + FIRST_VECTOR_OP).name.lower()
        if getattr(machine.vector.costs, name) is None:
            raise DoesNotFitError(
                f"machine {machine.name}: its vector unit has no {name}, which {program.name} "
                f"uses; give vector.costs.{name} to add it"
            )


def _check_formats(name: str, machine: MachineSpec, used: npt.NDArray[np.bool_]) -> None:
    """Refuse formats that a unit does not list; used: [cube or vector, format code]."""
    for unit, formats in ((Unit.CUBE, machine.cube.rates), (Unit.VECTOR, machine.vector.lanes)):
        for code in np.flatnonzero(used[unit]):
            if _FORMATS[code] not in formats:
                raise DoesNotFitError(
                    f"machine {machine.name}: its {unit.name.lower()} unit has no "
                    f"{_FORMATS[code]}, which {name} uses; it has {', '.join(formats)}"
                )


@jit
def _busy(
    ops, tile, rates, lanes, costs, cube_issue, vector_issue, scratchpad_rate, accumulator_rate
):
    cycles = np.zeros(len(ops), np.int64)
    used = np.zeros((2, len(rates)), np.bool_)
    for i in range(len(ops)):
        op = ops[i, HEAD] & FIELD_MASK
        fmt = (ops[i, HEAD] >> OPERAND_SHIFT) & FIELD_MASK
        if op == _MATMUL:
            used[_CUBE, fmt] = True
            m, n, k = ops[i, A], ops[i, B], ops[i, C]
            bits_a, bits_b = ops[i, D] & FIELD_MASK, ops[i, D] >> 8
            operand_bytes = (m * k * bits_a + k * n * bits_b) / 8
            cycles[i] = cube_issue + cube_cycles(
                m, n, k, operand_bytes, tile[0], tile[1], tile[2], rates[fmt], scratchpad_rate
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
