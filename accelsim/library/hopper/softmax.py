"""How PyTorch takes the softmax of rows on a GPU: four kernels, by what holds a row.

A warp, a block's registers, its shared memory, or nothing: then a block reads its row three times.
Source: PyTorch 2.x, aten/src/ATen/native/cuda/SoftMax.cu and PersistentSoftmax.cuh. Which kernel
runs, its registers and its executed instructions are the counters' of the board (docs/h200.md).
"""

from typing import Literal

from accelsim.hardware.machine import MachineSpec
from accelsim.library.hopper.plain import (
    MOST_THREADS,
    REGISTERS,
    TWICE_READ_L2_SHARE,
    PlainCode,
    reread_cycles,
)
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import VectorProblem

_WARP, _WARP_ROWS, _MOST_WARP_COLS = 32, 4, 2048
"""Threads of a row, rows of a block, and longest row of softmax_warp_forward."""
_WARP_REGISTERS = {2048: 80, 1024: 48}
"""Of a thread by the columns of a row, a power of two; 32 of shorter rows."""
_THREADS, _MOST_OWN = 1024, 9
"""Threads of a block, and most elements of each in its registers, of cunn_SoftMaxForwardReg."""
_OWN_IN_32_REGISTERS = 6
"""Elements that leave a thread with 32 registers or fewer, so that two blocks fit."""
_SHARED_BYTES, _REDUCTION_BYTES = 48 * 1024, 1152
"""Shared memory of a block, and its part that is not the row (cunn_SoftMaxForwardSmem)."""
_VECTOR_BYTES = 16
"""Of a load of cunn_SoftMaxForwardSmem and of cunn_SoftMaxForward, eight elements."""


def softmax(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """Return the code of a softmax over the rows of a problem."""
    row_bytes = problem.cols * problem.dtype.bits // BITS_PER_BYTE
    if problem.cols <= _MOST_WARP_COLS:
        return _in_warps(problem, machine)
    if ceil_div(problem.cols, _THREADS) <= _MOST_OWN:
        return _in_registers(problem, machine)
    if row_bytes % _VECTOR_BYTES == 0 and row_bytes + _REDUCTION_BYTES < _SHARED_BYTES:
        return _in_shared_memory(problem, machine)
    return _in_passes(problem, machine, row_bytes)


def _in_warps(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """A row for a warp, padded to a power of two: 39 instructions an element."""
    padded = max(_WARP, 1 << (problem.cols - 1).bit_length())
    registers = _WARP_REGISTERS.get(padded, 32)
    blocks = REGISTERS // (registers * _WARP * _WARP_ROWS)
    blocks = min(MOST_THREADS // (_WARP * _WARP_ROWS), blocks)
    rows = min(_WARP_ROWS * blocks, ceil_div(problem.rows, machine.cores))
    at_once: Literal[1, 2] = 2 if rows > 1 else 1
    counts = _counts(39 * padded / problem.cols, converts=2, exponentials=1)
    return PlainCode({"tile_rows": ceil_div(rows, at_once)}, counts, at_once, _WARP * rows)


def _in_registers(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """A row for a block, whose threads execute 76.5 instructions for each own element and 10."""
    own = ceil_div(problem.cols, _THREADS)
    fit = MOST_THREADS // _THREADS if own <= _OWN_IN_32_REGISTERS else 1
    instructions = (76.5 * own + 10) * _THREADS / problem.cols
    return _of_blocks(problem, machine, fit, _counts(instructions, converts=2, exponentials=1))


def _in_shared_memory(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """A row for a block, kept beside it: 40.5 instructions an element and 109 a thread."""
    instructions = 40.5 + 109 * _THREADS / problem.cols
    fit = MOST_THREADS // _THREADS
    return _of_blocks(problem, machine, fit, _counts(instructions, converts=2, exponentials=1))


def _in_passes(problem: VectorProblem, machine: MachineSpec, row_bytes: int) -> PlainCode:
    """A row for a block that reads it again and again: 38.7 instructions an element, 195 a thread.

    The kernel `vector` reads it twice, the board three times.
    """
    instructions = 38.7 + 195 * _THREADS / problem.cols
    counts = _counts(instructions, converts=3, exponentials=2)
    code = _of_blocks(problem, machine, MOST_THREADS // _THREADS, counts)
    step = _THREADS * _VECTOR_BYTES * BITS_PER_BYTE // problem.dtype.bits
    return code._replace(
        settings={**code.settings, "tile_cols": step},
        later_read_cycles=reread_cycles(code.threads // _THREADS * row_bytes),
        l2_share=TWICE_READ_L2_SHARE,
    )


def _of_blocks(
    problem: VectorProblem, machine: MachineSpec, fit: int, counts: dict[str, float]
) -> PlainCode:
    """Return the code of blocks with a row each, of which so many fit on a multiprocessor.

    With two, one computes while the other waits for its row.
    """
    blocks = min(fit, ceil_div(problem.rows, machine.cores))
    at_once: Literal[1, 2] = 2 if blocks > 1 else 1
    return PlainCode({"tile_rows": 1}, counts, at_once, blocks * _THREADS)


def _counts(instructions: float, converts: int, exponentials: int) -> dict[str, float]:
    """Spread the instructions of an element over the ops of the kernel `vector`.

    A conversion and an addition are one each, an exponential 12, a division 10; two reductions take
    what is left.
    """
    left = instructions - converts - exponentials * (1 + 12) - 10
    return {"convert": 1, "add": 1, "exp": 12, "divide": 10, "reduce": left / 2}
