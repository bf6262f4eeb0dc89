"""How many cycles ops occupy their unit, for many candidates at once.

The formulas are those of `hardware.timing`, for sizes as floating-point numbers, which are exact.
A kernel says once what its ops are: a cost is a tuple of ops, so `2 * cost + other` means what it
says. Compiled code fills in the cycles of all costs for all candidates.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.units.cube import Dataflow, MatrixUnit, pass_cycles
from accelsim.hardware.units.int_mac import IntMacSpec
from accelsim.numerics.formats import Format
from accelsim.runtime.jit import jit
from accelsim.units import BITS_PER_BYTE

_SUM_BITS = 32
_BYTES, _ELEMENTS, _PRODUCT = range(3)
"""Kinds of ops: bytes that a queue moves, ops on elements, and products."""
ONE = 0
"""The extent that is 1 for all candidates; the others count from 1 on, in the order in which they
are given."""
SPARE_ROWS = 5
"""Rows behind those of the costs, for what the memory gives each candidate."""


class OpCost(NamedTuple):
    """One op: extents are numbers of rows of what all candidates are asked with."""

    unit: str
    """bytes, move, cube, int_mac, or the name of a vector op."""
    extents: tuple[int, ...]
    """Rows and columns, or m, n and k."""
    bits: tuple[int, int]
    """Of each element: all that are moved, in the first; or of both operands."""
    fmt: Format = Format.FP32
    source: Format | None = None
    """The format that a convert changes from, where that is known."""
    shifts: int = 0
    """How often the accumulators of the integer array are doubled."""


Cost = tuple[OpCost, ...]
"""Ops one after the other on one unit."""


def moved_bytes(rows: int, cols: int, bits: int) -> Cost:
    """Return the bytes of rows x cols elements, which a queue loads or stores."""
    return (OpCost("bytes", (rows, cols), (bits, 0)),)


def vector_op(op: str, fmt: Format, rows: int, cols: int, moved_bits: int) -> Cost:
    """Return a vector op on rows x cols elements; moved_bits: read and written for each of them."""
    return (OpCost(op, (rows, cols), (moved_bits, 0), fmt),)


def widen_op(stored: Format, operand: Format, rows: int, cols: int) -> Cost:
    """Return what the vector unit does so that the matrix unit takes rows x cols elements."""
    if operand == stored:
        return ()
    (op,) = vector_op("convert", operand, rows, cols, stored.bits + operand.bits)
    return (op._replace(source=stored),)


def product(m: int, n: int, k: int, fmt: Format, bits: tuple[int, int]) -> Cost:
    """Return a product on the matrix unit, operands multiplied in `fmt` and stored in `bits`."""
    return (OpCost("cube", (m, n, k), bits, fmt),)


def int_product(m: int, n: int, k: int, shifts: int, bits: tuple[int, int]) -> Cost:
    """Return a product on the integer array, whose accumulators are doubled `shifts` times."""
    return (OpCost("int_mac", (m, n, k), bits, shifts=shifts),)


def move(rows: int, cols: int, written: Format) -> Cost:
    """Return a move of rows x cols sums from the accumulator to the scratchpad."""
    return (OpCost("move", (rows, cols), (written.bits, 0)),)


class _Row(NamedTuple):
    """What compiled code knows of an op on a machine, one number each."""

    kind: int
    cost: int
    """Which it is a part of."""
    times: int
    """How often; 0: the machine lacks the unit, and the engine refuses the op."""
    m: int
    """Extents; of elements rows and columns."""
    n: int
    k: int
    bits_a: int
    bits_b: int
    bandwidth: float
    """Of the port, in bytes a cycle."""
    issue_cycles: int = 0
    lanes: int = 1
    factor: float = 1.0
    """Steps of a group of lanes."""
    rate: float = 1.0
    """Steps a cycle."""
    held_rows: int = 0
    """Extents along the rows and columns of the array, and of what streams past."""
    held_cols: int = 0
    streamed: int = 0
    rows: int = 1
    """Sizes of the unit, see `MatrixUnit`."""
    cols: int = 1
    depth: int = 1
    pass_cycles: int = 0
    least: int = 0
    """Of the steps of a fold."""
    reads_again: bool = False
    """Whether operands are read for every fold."""


class CostTable:
    """The ops of costs, as compiled code takes them.

    room: rows behind those of the costs for what else is known of candidates.
    """

    def __init__(self, costs: Sequence[Cost], room: int = 0) -> None:
        self._costs = [Counter(cost) for cost in costs]
        self._num_rows = len(costs) + room + SPARE_ROWS
        self._last: tuple[MachineSpec | None, Any] = None, None
        """The machine that was asked for last, and the ops on it."""

    def of(self, machine: MachineSpec, *extents: Any) -> Any:
        """Return the cycles or bytes of all costs, [costs + room + SPARE_ROWS, candidates].

        extents: of each candidate, or numbers where all have the same; the last one is an array.
        """
        return self.of_shape((len(extents[-1]),), machine, *extents)

    def of_shape(self, shape: tuple[int, ...], machine: MachineSpec, *extents: Any) -> Any:
        """Return the same of candidates in any shape, [costs + room + SPARE_ROWS, *shape]."""
        sizes = np.empty((len(extents) + 1, *shape))
        sizes[ONE] = 1
        for row, extent in enumerate(extents):
            sizes[row + 1] = extent
        return self.filled(machine, sizes.reshape(len(sizes), -1)).reshape(-1, *shape)

    def filled(self, machine: MachineSpec, sizes: npt.NDArray[np.float64]) -> Any:
        """Return the same; sizes: ones and all extents, [extents, candidates]."""
        found = np.empty((self._num_rows, sizes.shape[1]))
        _fill(self._on(machine), sizes, found[: len(self._costs)])
        return found

    def _on(self, machine: MachineSpec) -> npt.NDArray[np.float64]:
        known, rows = self._last
        if known is not machine:
            rows = [
                _row_of(machine, op, number, times)
                for number, cost in enumerate(self._costs)
                for op, times in cost.items()
            ]
            rows = np.array(rows, float).reshape(len(rows), len(_Row._fields))
            self._last = machine, rows
        return np.asarray(rows)


def _row_of(machine: MachineSpec, op: OpCost, number: int, times: int) -> _Row:
    m, n, k = (*op.extents, ONE)[:3]
    own = _Row(_PRODUCT, number, times, m, n, k, *op.bits, machine.scratchpad.bandwidth)
    match op.unit:
        case "bytes":
            return own._replace(kind=_BYTES)
        case "move":
            factor, rate = _SUM_BITS / BITS_PER_BYTE, machine.accumulator.bandwidth
            return own._replace(kind=_ELEMENTS, factor=factor, rate=rate)
        case "cube" if machine.cube:
            rate, issue_cycles = machine.cube.rates.get(op.fmt, 1.0), machine.cube.issue_cycles
            own = own._replace(rate=rate, issue_cycles=issue_cycles)
            return _on_matrix_unit(own, machine.cube.unit)
        case "int_mac" if machine.int_mac:
            return _on_integer_array(own, machine.int_mac, op.shifts)
        case "cube" | "int_mac":
            return own._replace(times=0)
    vector = machine.vector
    lanes, factor = vector.lanes.get(op.fmt, 1), vector.costs.of(op.unit) or 1.0
    if op.source is not None:
        factor = vector.conversion(op.source, op.fmt)
    own = own._replace(kind=_ELEMENTS, lanes=lanes, factor=factor)
    return own._replace(issue_cycles=vector.issue_cycles)


def _on_matrix_unit(row: _Row, unit: MatrixUnit) -> _Row:
    """Return a product as `timing.matrix_steps` counts it."""
    m, n, k = row.m, row.n, row.k
    held_rows, held_cols, streamed = {
        Dataflow.WEIGHT_STATIONARY.value: (k, n, m),
        Dataflow.INPUT_STATIONARY.value: (k, m, n),
    }.get(unit.dataflow, (m, n, k))
    row = row._replace(held_rows=held_rows, held_cols=held_cols, streamed=streamed)
    row = row._replace(rows=unit.rows, cols=unit.cols, depth=unit.depth)
    if unit.overlaps_folds:
        return row._replace(least=unit.rows)
    is_cube = unit.dataflow == Dataflow.CUBE.value
    return row._replace(pass_cycles=0 if is_cube else pass_cycles(unit))


def _on_integer_array(row: _Row, unit: IntMacSpec, shifts: int) -> _Row:
    rows = max(1, unit.rows // unit.block(row.bits_a))
    cols = max(1, unit.cols // unit.block(row.bits_b))
    row = row._replace(held_rows=row.m, held_cols=row.n, streamed=row.k, reads_again=True)
    return row._replace(rows=rows, cols=cols, pass_cycles=shifts + rows + cols - 2)


_KIND, _COST, _TIMES, _M, _N, _K, _BITS_A, _BITS_B, _BANDWIDTH, _ISSUE = range(10)
_LANES, _FACTOR, _RATE, _HELD_ROWS, _HELD_COLS, _STREAMED = range(10, 16)
_ROWS, _COLS, _DEPTH, _PASS, _LEAST, _READS_AGAIN = range(16, 22)


@jit
def _fill(table, sizes, found):
    """Add up the ops of a table; sizes: [extents, candidates]."""
    for cost in range(len(found)):
        for i in range(found.shape[1]):
            found[cost, i] = 0.0
    for op in range(len(table)):
        cost, m, n, k = (
            int(table[op, _COST]),
            int(table[op, _M]),
            int(table[op, _N]),
            int(table[op, _K]),
        )
        times, issue_cycles = table[op, _TIMES], table[op, _ISSUE]
        rate, bandwidth = table[op, _RATE], table[op, _BANDWIDTH]
        bytes_a, bytes_b = table[op, _BITS_A] / BITS_PER_BYTE, table[op, _BITS_B] / BITS_PER_BYTE
        if table[op, _KIND] == _BYTES:
            for i in range(found.shape[1]):
                found[cost, i] += times * (sizes[m, i] * sizes[n, i] * bytes_a)
        elif table[op, _KIND] == _ELEMENTS:
            lanes, factor = table[op, _LANES], table[op, _FACTOR]
            for i in range(found.shape[1]):
                elements = sizes[m, i] * sizes[n, i]
                steps, moved_bytes = np.ceil(elements / lanes) * factor, elements * bytes_a
                busy = issue_cycles + np.ceil(max(steps / rate, moved_bytes / bandwidth))
                found[cost, i] += times * busy if elements > 0 else 0.0
        else:
            rows, cols, depth = table[op, _ROWS], table[op, _COLS], table[op, _DEPTH]
            held_rows, held_cols = int(table[op, _HELD_ROWS]), int(table[op, _HELD_COLS])
            streamed, reads_again = int(table[op, _STREAMED]), table[op, _READS_AGAIN] != 0
            for i in range(found.shape[1]):
                along_rows = np.ceil(sizes[held_rows, i] / rows)
                along_cols = np.ceil(sizes[held_cols, i] / cols)
                fold = np.ceil(sizes[streamed, i] / depth) + table[op, _PASS]
                steps = along_rows * along_cols * max(fold, table[op, _LEAST])
                left, right = sizes[m, i] * sizes[k, i], sizes[k, i] * sizes[n, i]
                if reads_again:
                    left, right = along_cols * left, along_rows * right
                moved_bytes = left * bytes_a + right * bytes_b
                busy = issue_cycles + np.ceil(max(steps / rate, moved_bytes / bandwidth))
                found[cost, i] += times * busy if left * right > 0 else 0.0


@cache
def _alone(cost: Cost) -> CostTable:
    return CostTable([cost])


class OpCosts:
    """Cycles of single ops on one machine, whose extents are arrays or numbers."""

    def __init__(self, machine: MachineSpec) -> None:
        self._machine = machine

    def vector(self, op: str, fmt: Format, rows: Any, cols: Any, moved_bits: int) -> Any:
        """As `vector_op`."""
        return self._of(vector_op(op, fmt, 1, 2, moved_bits), rows, cols)

    def product(self, m: Any, n: Any, k: Any, fmt: Format, bits: tuple[int, int]) -> Any:
        """As `product`."""
        return self._of(product(1, 2, 3, fmt, bits), m, n, k)

    def scaled_product(self, m: Any, n: Any, k: Any, elements: tuple[Format, Format]) -> Any:
        """One product with shared scales, which take no time of the matrix unit."""
        rates = self._machine.cube.rates if self._machine.cube else {}
        slower = min(elements, key=lambda fmt: rates.get(fmt, 1.0))
        return self.product(m, n, k, slower, (elements[0].bits, elements[1].bits))

    def int_product(self, m: Any, n: Any, k: Any, shifts: Any, bits: tuple[int, int]) -> Any:
        """As `int_product`; shifts may be an array too."""
        shifts, *extents = np.broadcast_arrays(shifts, m, n, k)
        cycles = np.empty(shifts.shape)
        for each in np.unique(shifts).tolist():
            own, cost = shifts == each, int_product(1, 2, 3, each, bits)
            cycles[own] = self._of(cost, *(extent[own] for extent in extents))
        return cycles

    def move(self, rows: Any, cols: Any, written: Format) -> Any:
        """As `move`."""
        return self._of(move(1, 2, written), rows, cols)

    def _of(self, cost: Cost, *extents: Any) -> Any:
        return _alone(cost).of_shape(np.broadcast(*extents).shape, self._machine, *extents)[0]
