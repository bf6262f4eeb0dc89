"""How many cycles each compute unit is occupied by an op: the formulas of the units.

Scalars only, so that both engines and plain Python share one definition.
"""

from accelsim import units
from accelsim.hardware.machine import PE_BITS
from accelsim.hardware.matrix_unit import Dataflow, MatrixUnit
from accelsim.jit import jit

ceil_div = jit(units.ceil_div)

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
def cube_cycles(
    m: int,
    n: int,
    k: int,
    operand_bytes: float,
    tile_m: int,
    tile_n: int,
    tile_k: int,
    rate: float,
    port_bytes_per_cycle: float,
) -> int:
    """Steps of the matrix unit over an m x n x k product, or the time to read its operands."""
    steps = ceil_div(m, tile_m) * ceil_div(n, tile_n) * ceil_div(k, tile_k)
    return max(ceil_cycles(steps, rate), ceil_cycles(operand_bytes, port_bytes_per_cycle))


@jit
def systolic_cycles(m: int, n: int, k: int, unit: MatrixUnit) -> int:
    """Cycles of an m x n x k product on a systolic array of R x C, one beat a cycle.

    A fold is what the array holds at once: a tile of the output, or a stationary tile that takes R
    cycles to fill. The third size streams past it and leaves R + C - 2 cycles after it entered. One
    after the other, a fold costs what SCALE-Sim v3 (Raj et al., 2025) counts, also at an edge.
    Where folds overlap, each follows the one before as soon as its operand has streamed past or,
    if that takes longer, as its own R rows are in place; the pass through the array is latency.
    """
    if unit.dataflow == _OUTPUT_STATIONARY:
        folds, streamed = ceil_div(m, unit.rows) * ceil_div(n, unit.cols), k
    elif unit.dataflow == _WEIGHT_STATIONARY:
        folds, streamed = ceil_div(k, unit.rows) * ceil_div(n, unit.cols), m
    else:
        folds, streamed = ceil_div(k, unit.rows) * ceil_div(m, unit.cols), n
    if unit.overlaps_folds:
        return folds * max(streamed, unit.rows)
    return folds * (streamed + pass_cycles(unit))


@jit
def pass_cycles(unit: MatrixUnit) -> int:
    """Cycles of a systolic array from the start of a fold to its last result, without streaming."""
    fill = 0 if unit.dataflow == _OUTPUT_STATIONARY else unit.rows
    return fill + unit.rows + unit.cols - 2


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
