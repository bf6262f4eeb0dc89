"""How many cycles each compute unit is occupied by an op: the formulas of the units.

Scalars only, so that both engines and plain Python share one definition.
"""

from accelsim import units
from accelsim.hardware import matrix_unit
from accelsim.hardware.machine import PE_BITS
from accelsim.hardware.matrix_unit import Dataflow, MatrixUnit
from accelsim.jit import jit

ceil_div = jit(units.ceil_div)
pass_cycles = jit(matrix_unit.pass_cycles)

_CUBE = Dataflow.CUBE.value
_OUTPUT_STATIONARY = Dataflow.OUTPUT_STATIONARY.value
_WEIGHT_STATIONARY = Dataflow.WEIGHT_STATIONARY.value

_LONGEST_CYCLES = 2.0**53
"""Longer is not counted: beyond it the conversion to an integer would mean nothing."""


@jit
def ceil_cycles(amount: float, per_cycle: float) -> int:
    """Whole cycles to process `amount` at a rate that need not be a whole number, up to 2^53."""
    whole = int(min(amount / per_cycle, _LONGEST_CYCLES))
    return whole if whole * per_cycle >= amount else whole + 1


@jit
def matrix_cycles(
    m: int,
    n: int,
    k: int,
    operand_bytes: float,
    unit: MatrixUnit,
    rate: float,
    port_bytes_per_cycle: float,
) -> int:
    """Steps of the matrix unit over an m x n x k product, or the time to read its operands."""
    steps = matrix_steps(m, n, k, unit)
    return max(ceil_cycles(steps, rate), ceil_cycles(operand_bytes, port_bytes_per_cycle))


@jit
def matrix_steps(m: int, n: int, k: int, unit: MatrixUnit) -> int:
    """Cycles at rate 1 for which an m x n x k product occupies the matrix unit."""
    if unit.dataflow == _CUBE:
        return ceil_div(m, unit.rows) * ceil_div(n, unit.cols) * ceil_div(k, unit.depth)
    folds, streamed = _folds(m, n, k, unit)
    if unit.overlaps_folds:
        # The next fold fills in and streams behind this one; the pass through is latency.
        return folds * max(streamed, unit.rows)
    # What SCALE-Sim v3 (Raj et al., 2025) counts: an edge fold costs as much as any other.
    return folds * (streamed + pass_cycles(unit))


@jit
def _folds(m, n, k, unit):
    """Tiles of what a systolic array holds at once, and the size that streams past each."""
    if unit.dataflow == _OUTPUT_STATIONARY:
        return ceil_div(m, unit.rows) * ceil_div(n, unit.cols), k
    if unit.dataflow == _WEIGHT_STATIONARY:
        return ceil_div(k, unit.rows) * ceil_div(n, unit.cols), m
    return ceil_div(k, unit.rows) * ceil_div(m, unit.cols), n


@jit
def operand_passes(m: int, n: int, k: int, unit: MatrixUnit) -> tuple[int, int, int]:
    """How often a product reads its left and right operand, and how often it adds to its result.

    A cube reads each operand once for each tile of the other and adds once for each step along k;
    an array reads what is stationary once, and adds inside itself where that is the output.
    """
    if unit.dataflow == _CUBE:
        return ceil_div(n, unit.cols), ceil_div(m, unit.rows), ceil_div(k, unit.depth)
    if unit.dataflow == _OUTPUT_STATIONARY:
        return ceil_div(n, unit.cols), ceil_div(m, unit.rows), 1
    if unit.dataflow == _WEIGHT_STATIONARY:
        return ceil_div(n, unit.cols), 1, ceil_div(k, unit.rows)
    return 1, ceil_div(m, unit.cols), ceil_div(k, unit.rows)


@jit
def vector_cycles(
    elements: int,
    moved_bytes: float,
    lanes: int,
    cost: float,
    issue_cycles: int,
    port_bytes_per_cycle: float,
) -> int:
    """Groups of lanes times the cost of the op, or the time to move its tiles, plus the issue."""
    compute = ceil_cycles(ceil_div(elements, lanes) * cost, 1.0)
    return issue_cycles + max(compute, ceil_cycles(moved_bytes, port_bytes_per_cycle))


@jit
def move_cycles(
    read_bytes: float,
    written_bytes: float,
    accumulator_bytes_per_cycle: float,
    port_bytes_per_cycle: float,
) -> int:
    """Cycles to read an accumulator tile and write it to the scratchpad."""
    return max(
        ceil_cycles(read_bytes, accumulator_bytes_per_cycle),
        ceil_cycles(written_bytes, port_bytes_per_cycle),
    )


@jit
def array_passes(
    m: int, n: int, bits_a: int, bits_b: int, rows: int, cols: int
) -> tuple[int, int, int, int]:
    """Return how often an m x n result covers an integer array, and the part of one covering.

    As (passes along m, passes along n, rows of the result per pass, columns of it per pass); an
    operand of 8 bits takes two rows or columns of 4-bit elements.
    """
    pass_rows = max(1, rows // ceil_div(bits_a, PE_BITS))
    pass_cols = max(1, cols // ceil_div(bits_b, PE_BITS))
    return ceil_div(m, pass_rows), ceil_div(n, pass_cols), pass_rows, pass_cols


@jit
def int_mac_cycles(
    m: int,
    n: int,
    k: int,
    shifts: int,
    bits_a: int,
    bits_b: int,
    rows: int,
    cols: int,
    port_bytes_per_cycle: float,
) -> int:
    """Passes of an output-stationary integer array over an m x n x k product, or its operand reads.

    A pass takes a cycle for each channel and each shift of all accumulators, and the skew of rows
    and columns to fill and drain: k + shifts + rows + cols - 2 (Tender, ISCA 2024, section on the
    Multi-Scale Systolic Array). Each pass streams its operands from the scratchpad.
    """
    along_m, along_n, pass_rows, pass_cols = array_passes(m, n, bits_a, bits_b, rows, cols)
    steps = along_m * along_n * (k + shifts + pass_rows + pass_cols - 2)
    operand_bytes = (along_n * m * k * bits_a + along_m * k * n * bits_b) / 8
    return max(steps, ceil_cycles(operand_bytes, port_bytes_per_cycle))
