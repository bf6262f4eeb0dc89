"""How PyTorch normalizes rows that do not lie in fours: statistics first, then another kernel.

Source: PyTorch 2.x, aten/src/ATen/native/cuda/layer_norm_kernel.cu: RowwiseMomentsCUDAKernel, a row
for 512 threads, and LayerNormForwardCUDAKernel, a row for 256. A thread has an element a load. The
instructions were counted by the board (smsp__inst_executed of 132 rows of 301 to 30,001 elements,
PyTorch 2.x on an H200), per warp: those that grow with the row, and the rest.
"""

from typing import NamedTuple

from accelsim.hardware.machine import MachineSpec
from accelsim.library.hopper.plain import (
    HBM_LATENCY_CYCLES,
    L2_LATENCY_CYCLES,
    MOST_THREADS,
    READ_ONCE_L2_SHARE,
    PlainCode,
    chain_cycles,
    instruction_cycles,
)
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import VectorProblem

_WARP = 32
_NO_L2_SHARE = 0.01
"""Room of an L2 in which nothing is found again: less than the rows that are read at a time."""


class _Kernel(NamedTuple):
    """A block of threads for each row."""

    threads: int
    step: float
    """Instructions of a thread for each of its elements."""
    rest: float
    """Instructions of a thread before and behind its elements."""
    alone: float = 0.0
    """Instructions at the end that one warp executes while the others wait."""

    def rows_at_once(self, rows: int) -> int:
        """Return how many of its rows a multiprocessor has at a time."""
        return min(MOST_THREADS // self.threads, rows)

    def own(self, cols: int) -> int:
        """Return the most elements of a thread."""
        return ceil_div(cols, self.threads)

    def wave_cycles(self, rows: int, cols: int, step_cycles: float) -> float:
        """Return the cycles of all rows at a time, where a step of all takes so many."""
        threads = self.threads * self.rows_at_once(rows)
        rest_cycles = instruction_cycles(self.rest, threads) + chain_cycles(self.alone)
        return self.own(cols) * step_cycles + rest_cycles


_MERGE = 220 * 16 / 17
"""Of the statistics of 16 warps: each of them merges those of its threads, then one warp those of
the warps, with the same instructions. 220 are counted for a warp in the mean."""
_MOMENTS = _Kernel(threads=512, step=29.0, rest=_MERGE, alone=_MERGE)
_FORWARD = {
    "layernorm": _Kernel(threads=256, step=22.0, rest=29.1),
    "rmsnorm": _Kernel(threads=256, step=19.0, rest=23.1),
}


def norm_in_two(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """Return the code of both kernels over the rows of a problem.

    It is that of one kernel in blocks of the first one, which reads each step twice: all rows are
    read again when all were read, so from the L2 only where it holds them all.
    """
    forward, cols = _FORWARD[problem.function], problem.cols
    rows = ceil_div(problem.rows, machine.cores)
    is_held = _is_held(problem, machine)
    first = _step_cycles_of_moments(rows, cols)
    later = _step_cycles_of_forward(forward, rows, cols, is_held=is_held)
    if not is_held:
        first = later = (first + later) / 2
    return PlainCode(
        settings={"tile_rows": _MOMENTS.rows_at_once(rows), "tile_cols": _MOMENTS.threads},
        instructions=_instructions(forward, cols),
        items_in_flight=1,
        threads=_MOMENTS.threads * _MOMENTS.rows_at_once(rows),
        loads_in_flight=1,
        first_read_cycles=first,
        later_read_cycles=later,
        l2_share=READ_ONCE_L2_SHARE if is_held else _NO_L2_SHARE,
        launches=2,
    )


def _is_held(problem: VectorProblem, machine: MachineSpec) -> bool:
    """Whether the L2 holds what the first kernel read until the second one reads it."""
    matrix_bytes = problem.rows * problem.cols * problem.dtype.bits // BITS_PER_BYTE
    return machine.l2 is not None and matrix_bytes <= READ_ONCE_L2_SHARE * machine.l2.capacity


def _step_cycles_of_moments(rows: int, cols: int) -> float:
    """Return what a step of the first kernel waits, with its share of what is no step.

    Warps drift apart, as a step has more instructions than others fill: it takes its own chain.
    """
    step_cycles = HBM_LATENCY_CYCLES + chain_cycles(_MOMENTS.step)
    wave_cycles = _MOMENTS.wave_cycles(rows, cols, step_cycles)
    computed_cycles = _computed_cycles(_MOMENTS.step + _merging(cols), rows, cols)
    return (wave_cycles - computed_cycles) / _MOMENTS.own(cols)


def _step_cycles_of_forward(forward: _Kernel, rows: int, cols: int, *, is_held: bool) -> float:
    """Return what the second kernel waits for each step of the first one.

    Its blocks are short, begin together and stay in step: all wait, then all compute.
    """
    at_once = forward.rows_at_once(rows)
    latency = L2_LATENCY_CYCLES if is_held else HBM_LATENCY_CYCLES
    step_cycles = latency + instruction_cycles(forward.step, at_once * forward.threads)
    wave_cycles = forward.wave_cycles(rows, cols, step_cycles) + L2_LATENCY_CYCLES
    waves = ceil_div(rows, at_once) / ceil_div(rows, _MOMENTS.rows_at_once(rows))
    computed_cycles = _computed_cycles(forward.step + _framing(forward, cols), rows, cols)
    return (waves * wave_cycles - computed_cycles) / _MOMENTS.own(cols)


def _computed_cycles(instructions: float, rows: int, cols: int) -> float:
    """Return what the last step computes when all that was loaded is there.

    instructions: for each of its elements. What other steps compute is behind the next load.
    """
    last = cols - (_MOMENTS.own(cols) - 1) * _MOMENTS.threads
    threads = _MOMENTS.threads * _MOMENTS.rows_at_once(rows)
    return instruction_cycles(instructions * last / _MOMENTS.threads, threads)


def _merging(cols: int) -> float:
    """Return instructions that merge statistics, for each element of a row."""
    return (_MOMENTS.threads // _WARP + 1) * _MERGE * _WARP / cols


def _framing(forward: _Kernel, cols: int) -> float:
    """Return instructions around the elements of the second kernel, for each element of a row."""
    return forward.rest * forward.threads / cols


def _instructions(forward: _Kernel, cols: int) -> dict[str, float]:
    """Return instructions an element of both kernels, as the ops of the kernel `vector` are."""
    sums = 2 if forward is _FORWARD["layernorm"] else 1
    ones = 1 + sums
    return {
        "convert": 1,
        "add": 1,
        "multiply": 1,
        "reduce": (_MOMENTS.step + _merging(cols) - ones) / sums,
        "divide": forward.step + _framing(forward, cols) - ones,
    }
