"""The shape of a matrix unit as plain numbers, in the form that compiled code takes."""

from enum import IntEnum
from typing import NamedTuple


class Dataflow(IntEnum):
    """Which operand a matrix unit holds while the others stream past; a cube holds all of them."""

    CUBE = 0
    OUTPUT_STATIONARY = 1
    WEIGHT_STATIONARY = 2
    INPUT_STATIONARY = 3


class MatrixUnit(NamedTuple):
    """Sizes in elements: the tile m, n, k of a cube; rows, columns and 1 of a systolic array."""

    dataflow: int
    rows: int
    cols: int
    depth: int
    overlaps_folds: bool


NO_MATRIX_UNIT = MatrixUnit(Dataflow.CUBE, 1, 1, 1, overlaps_folds=False)
"""Stands in for the unit of a machine without one, whose programs have no products."""


def pass_cycles(unit: MatrixUnit) -> int:
    """Cycles of a systolic array from the start of a fold to its last result, but for streaming.

    A stationary operand is filled in row by row; what enters a corner leaves at the other one.
    """
    fill = 0 if unit.dataflow == Dataflow.OUTPUT_STATIONARY.value else unit.rows
    return fill + unit.rows + unit.cols - 2
