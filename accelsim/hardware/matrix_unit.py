"""The shape of a matrix unit as plain numbers, in the form that compiled code takes."""

from enum import IntEnum
from typing import NamedTuple


class Dataflow(IntEnum):
    """Which operand a matrix unit holds while the others go past; a cube holds a tile of each."""

    CUBE = 0
    OUTPUT_STATIONARY = 1
    WEIGHT_STATIONARY = 2
    INPUT_STATIONARY = 3


class MatrixUnit(NamedTuple):
    """Sizes in elements; `depth` is the reduction of a step and 1 in a systolic array."""

    dataflow: int
    rows: int
    cols: int
    depth: int
    overlaps_folds: bool
