"""Program and schedule to action counts: what every unit did, for the energy account."""

from dataclasses import asdict

import numpy as np

from accelsim.engine.schedule import Schedule
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.matrix_unit import NO_MATRIX_UNIT
from accelsim.hardware.timing import array_passes, operand_passes
from accelsim.jit import jit, jit_inner
from accelsim.numerics.formats import Format
from accelsim.program.activity import Activity
from accelsim.program.ops import (
    BITS_B_SHIFT,
    FIELD_MASK,
    FIRST_VECTOR_OP,
    HEAD,
    NUM_OPS,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    READS,
    SHIFTS_SHIFT,
    SLOT_BITS,
    SLOT_MASK,
    WRITES,
    A,
    B,
    C,
    D,
    Op,
)

_FORMATS = list(Format)
_MATMUL, _MOVE, _STORE = Op.MATMUL.value, Op.MOVE.value, Op.STORE.value
_INT_MATMUL = Op.INT_MATMUL.value
_ACCUMULATOR_BYTES = 4
_INDEX_BYTES = 4
(
    _SCRATCHPAD_READ,
    _SCRATCHPAD_WRITE,
    _OPERAND_READ,
    _OPERAND_WRITE,
    _ACCUMULATOR_READ,
    _ACCUMULATOR_WRITE,
    _SHIFTED,
    _INDEX_READ,
    _NUM_COUNTS,
) = range(9)


def count_activity(schedule: Schedule, machine: MachineSpec) -> Activity:
    """Return the action counts of a run.

    The matrix unit reads its operands from its operand buffers, which are filled once for each op,
    as often as `operand_passes` says, and adds to the accumulator as often. The integer array
    streams its operands from the scratchpad once for each pass, and keeps its sums inside until a
    pass is over.
    """
    cube, int_mac = machine.cube, machine.int_mac
    unit = cube.unit if cube else NO_MATRIX_UNIT
    array = (int_mac.rows, int_mac.cols) if int_mac else (1, 1)
    counts, macs, int_macs, elements = _count(schedule.program.ops, unit, array, len(_FORMATS))
    return Activity(
        macs={_FORMATS[code]: int(macs[code]) for code in np.flatnonzero(macs)},
        int_macs={
            (_FORMATS[left], _FORMATS[right]): int(int_macs[left, right])
            for left, right in np.argwhere(int_macs)
        },
        accumulator_shifts=int(counts[_SHIFTED]),
        index_buffer_read_bytes=int(counts[_INDEX_READ]),
        vector_elements={
            (Op(op).name.lower(), _FORMATS[code]): int(elements[op, code])
            for op, code in np.argwhere(elements)
        },
        scratchpad_read_bytes=int(counts[_SCRATCHPAD_READ]),
        scratchpad_write_bytes=int(counts[_SCRATCHPAD_WRITE]),
        operand_buffer_read_bytes=int(counts[_OPERAND_READ]),
        operand_buffer_write_bytes=int(counts[_OPERAND_WRITE]),
        accumulator_read_bytes=int(counts[_ACCUMULATOR_READ]),
        accumulator_write_bytes=int(counts[_ACCUMULATOR_WRITE]),
        **asdict(schedule.traffic),
        seconds=schedule.cycles / machine.clock,
        dram=schedule.dram,
    )


@jit
def _count(ops, unit, array, num_formats):
    counts = np.zeros(_NUM_COUNTS, np.int64)
    macs = np.zeros(num_formats, np.int64)
    int_macs = np.zeros((num_formats, num_formats), np.int64)
    elements = np.zeros((NUM_OPS, num_formats), np.int64)
    for i in range(len(ops)):
        op = ops[i, HEAD] & FIELD_MASK
        fmt = (ops[i, HEAD] >> OPERAND_SHIFT) & FIELD_MASK
        a, b, c, d = ops[i, A], ops[i, B], ops[i, C], ops[i, D]
        if op == _MATMUL:
            macs[fmt] += a * b * c
            _count_matmul(counts, a, b, c, d, ops[i, READS] >> (2 * SLOT_BITS), unit)
        elif op == _INT_MATMUL:
            int_macs[fmt, (ops[i, HEAD] >> OUTPUT_SHIFT) & FIELD_MASK] += a * b * c
            _count_int_matmul(counts, a, b, c, d, ops[i, READS], ops[i, WRITES], array)
        elif op == _MOVE:
            counts[_ACCUMULATOR_READ] += c
            counts[_SCRATCHPAD_WRITE] += d
        elif op >= FIRST_VECTOR_OP:
            elements[op, fmt] += a * b
            counts[_SCRATCHPAD_READ] += c
            counts[_SCRATCHPAD_WRITE] += d
        elif op == _STORE:
            counts[_SCRATCHPAD_READ] += b * c
        else:
            counts[_SCRATCHPAD_WRITE] += b * c
    return counts, macs, int_macs, elements


@jit_inner
def _count_matmul(counts, m, n, k, bits, accumulates, unit):
    left = (m * k * (bits & FIELD_MASK) + 7) // 8
    right = (k * n * (bits >> BITS_B_SHIFT) + 7) // 8
    left_passes, right_passes, steps = operand_passes(m, n, k, unit)
    result = m * n * _ACCUMULATOR_BYTES
    counts[_SCRATCHPAD_READ] += left + right
    counts[_OPERAND_WRITE] += left + right
    counts[_OPERAND_READ] += left * left_passes + right * right_passes
    counts[_ACCUMULATOR_WRITE] += steps * result
    counts[_ACCUMULATOR_READ] += (steps if accumulates else steps - 1) * result


@jit_inner
def _count_int_matmul(counts, m, n, k, d, reads, writes, array):
    bits_a, bits_b = d & FIELD_MASK, (d >> BITS_B_SHIFT) & FIELD_MASK
    along_m, along_n, _, _ = array_passes(m, n, bits_a, bits_b, array[0], array[1])
    counts[_SCRATCHPAD_READ] += along_n * ((m * k * bits_a + 7) // 8)
    counts[_SCRATCHPAD_READ] += along_m * ((k * n * bits_b + 7) // 8)
    counts[_SHIFTED] += (d >> SHIFTS_SHIFT) * m * n
    counts[_ACCUMULATOR_WRITE] += m * n * _ACCUMULATOR_BYTES
    third = (reads >> (2 * SLOT_BITS)) & SLOT_MASK
    fourth = (reads >> (3 * SLOT_BITS)) & SLOT_MASK
    accumulates = writes in (third, fourth)
    if accumulates:
        counts[_ACCUMULATOR_READ] += m * n * _ACCUMULATOR_BYTES
    if third and third != writes:
        counts[_INDEX_READ] += along_m * along_n * k * _INDEX_BYTES
