"""How many cycles ops occupy their unit: the formulas of `hardware.timing`, for arrays of sizes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.units.cube import Dataflow, MatrixUnit, pass_cycles
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE, ceil_div

_SUM_BITS = 32


class VectorOps(NamedTuple):
    """Equal ops of the vector unit, one after the other."""

    name: str
    size: int
    """Which of several numbers of elements they work on."""
    moved_bits: int
    """Read and written for each element."""
    times: int = 1


class OpCosts:
    """Cycles of ops on one machine. A unit that it lacks costs nothing: the engine refuses it."""

    def __init__(self, machine: MachineSpec) -> None:
        self._cube, self._vector, self._int_mac = machine.cube, machine.vector, machine.int_mac
        self._port = float(machine.scratchpad.bandwidth)
        self._accumulator = float(machine.accumulator.bandwidth)

    def vector(self, op: str, fmt: Format, rows: Any, cols: Any, moved_bits: int) -> Any:
        """One vector op on rows x cols elements; moved_bits: read and written for each of them."""
        return self.vector_on(fmt, rows, cols)(op, moved_bits)

    def vector_on(self, fmt: Format, rows: Any, cols: Any) -> Callable[[str, int], Any]:
        """Return the same for all ops on rows x cols elements, which are counted only once."""
        elements = rows * cols
        groups, is_any = ceil_div(elements, self._vector.lanes.get(fmt, 1)), elements > 0

        def cycles(op: str, moved_bits: int) -> Any:
            compute = np.ceil(groups * (getattr(self._vector.costs, op) or 1.0))
            move = np.ceil(elements * moved_bits / BITS_PER_BYTE / self._port)
            return np.where(is_any, self._vector.issue_cycles + np.maximum(compute, move), 0)

        return cycles

    def vector_sums(
        self, fmt: Format, elements: Sequence[Any], sums: Sequence[Sequence[VectorOps]]
    ) -> Any:
        """Return the cycles of ops one after the other, a row for each of `sums`.

        elements: numbers of elements that ops work on, each of all candidates.
        """
        sizes: Any = np.array(elements)
        ops = [op for each in sums for op in each]
        own = [op.size for op in ops]
        costs = np.array([[getattr(self._vector.costs, op.name) or 1.0] for op in ops])
        bits = np.array([[op.moved_bits] for op in ops])
        groups: Any = ceil_div(sizes, self._vector.lanes.get(fmt, 1))
        compute = np.ceil(groups[own] * costs)
        move = np.ceil(sizes[own] * bits / BITS_PER_BYTE / self._port)
        busy = self._vector.issue_cycles + np.maximum(compute, move)
        busy *= (sizes > 0)[own]
        times = np.zeros((len(sums), len(ops)))
        times[[row for row, each in enumerate(sums) for _ in each], range(len(ops))] = [
            op.times for op in ops
        ]
        return times @ busy

    def product(self, m: Any, n: Any, k: Any, fmt: Format, bits: tuple[int, int]) -> Any:
        """One product on the matrix unit, operands multiplied in `fmt` and stored in `bits`."""
        if self._cube is None:
            return 0 * m * n * k
        steps = _matrix_steps(m, n, k, self._cube.unit) / self._cube.rates.get(fmt, 1.0)
        read = (m * k * bits[0] + k * n * bits[1]) / BITS_PER_BYTE / self._port
        cycles = self._cube.issue_cycles + np.ceil(np.maximum(steps, read))
        return np.where(m * n * k > 0, cycles, 0)

    def scaled_product(self, m: Any, n: Any, k: Any, elements: tuple[Format, Format]) -> Any:
        """One product with shared scales, which take no time of the matrix unit."""
        if self._cube is None:
            return 0 * m * n * k
        slower = min(elements, key=lambda fmt: self._cube.rates.get(fmt, 1.0))  # type: ignore[union-attr]
        return self.product(m, n, k, slower, (elements[0].bits, elements[1].bits))

    def int_product(self, m: Any, n: Any, k: Any, shifts: int, bits: tuple[int, int]) -> Any:
        """One product on the integer array, whose accumulators are doubled `shifts` times."""
        if self._int_mac is None:
            return 0 * m * n * k
        rows = max(1, self._int_mac.rows // self._int_mac.block(bits[0]))
        cols = max(1, self._int_mac.cols // self._int_mac.block(bits[1]))
        along_m, along_n = ceil_div(m, rows), ceil_div(n, cols)
        steps = along_m * along_n * (k + shifts + rows + cols - 2)
        read = (along_n * m * k * bits[0] + along_m * k * n * bits[1]) / BITS_PER_BYTE
        return np.where(m * n * k > 0, np.maximum(steps, np.ceil(read / self._port)), 0)

    def move(self, rows: Any, cols: Any, written: Format) -> Any:
        """Move rows x cols sums from the accumulator to the scratchpad."""
        elements = rows * cols / BITS_PER_BYTE
        read, write = elements * _SUM_BITS / self._accumulator, elements * written.bits / self._port
        return np.ceil(np.maximum(read, write))


def _matrix_steps(m: Any, n: Any, k: Any, unit: MatrixUnit) -> Any:
    """Cycles at rate 1, as `timing.matrix_steps`."""
    if unit.dataflow == Dataflow.CUBE.value:
        # Faster than whole numbers, and as exact.
        return np.ceil(m / unit.rows) * np.ceil(n / unit.cols) * np.ceil(k / unit.depth)
    held, streamed = {
        Dataflow.OUTPUT_STATIONARY.value: ((m, n), k),
        Dataflow.WEIGHT_STATIONARY.value: ((k, n), m),
        Dataflow.INPUT_STATIONARY.value: ((k, m), n),
    }[unit.dataflow]
    folds = ceil_div(held[0], unit.rows) * ceil_div(held[1], unit.cols)
    if unit.overlaps_folds:
        return folds * np.maximum(streamed, unit.rows)
    return folds * (streamed + pass_cycles(unit))
