"""How PyTorch normalizes rows on a GPU: a row for a block, read twice.

Source: PyTorch 2.x, aten/src/ATen/native/cuda/layer_norm_kernel.cu (both norms run
vectorized_layer_norm_kernel); its instructions are counted in benchmarks/eager_instructions.
"""

from typing import Literal, NamedTuple

from accelsim.hardware.machine import MachineSpec
from accelsim.library.hopper.plain import MOST_THREADS, PlainCode, instruction_cycles
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import VectorProblem

_BLOCK_THREADS, _VECTOR = 128, 4
"""Threads of a block (thread_constants.h), and elements that a thread loads at a time."""


class _Norm(NamedTuple):
    """What a thread executes."""

    first_pass: float
    """Instructions an element for the statistics."""
    second_pass: float
    """Instructions an element for the results."""
    rest: float
    """Instructions of prologue, reductions over the block, and end."""
    sums: int
    """Sums that the kernel `vector` takes of a row."""
    loads: int
    """Loads that the compiler issues together, in the first pass."""


_NORMS = {
    "layernorm": _Norm(first_pass=140 / 8, second_pass=23 / 4, rest=342, sums=2, loads=1),
    "rmsnorm": _Norm(first_pass=59 / 16, second_pass=19 / 4, rest=165, sums=1, loads=4),
}
"""Welford's update divides by the count, behind a branch: no load is moved above it."""


def norm(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """Return the code of a norm over the rows of a problem."""
    code = _NORMS[problem.function]
    rows = min(MOST_THREADS // _BLOCK_THREADS, ceil_div(problem.rows, machine.cores))
    threads = rows * _BLOCK_THREADS
    own = ceil_div(problem.cols, _BLOCK_THREADS)
    row_bytes = problem.cols * problem.dtype.bits // BITS_PER_BYTE
    share = _share_bytes_per_cycle(machine, ceil_div(problem.rows, rows))
    issue_cycles = instruction_cycles(
        own * (code.first_pass + code.second_pass) + code.rest, threads
    )
    # Blocks begin together and do the same. A memory that serves all alike keeps them in step;
    # where instructions take longer, they drift apart, and some load while others compute.
    in_step = rows == 1 or 2 * rows * row_bytes / share > issue_cycles
    at_once: Literal[1, 2] = 1 if in_step else 2
    return PlainCode(
        settings={
            "tile_rows": ceil_div(rows, at_once),
            "tile_cols": _BLOCK_THREADS * _VECTOR * code.loads,
        },
        instructions=_instructions(code, own),
        items_in_flight=at_once,
        threads=threads,
        loads_in_flight=at_once,
        port_bytes_per_cycle=share if in_step else None,
    )


def _share_bytes_per_cycle(machine: MachineSpec, cores: int) -> float:
    """Return what the memory has for each of the cores that work."""
    return machine.hbm.bandwidth / machine.clock / min(machine.cores, cores)


def _instructions(code: _Norm, own: int) -> dict[str, float]:
    """Return instructions an element, for `own` elements of a thread.

    Conversions, additions and products are one each; sums and divisions take what is left.
    """
    ones = 1 + code.sums
    return {
        "convert": 1,
        "add": 1,
        "multiply": 1,
        "reduce": (code.first_pass + code.rest / own - ones) / code.sums,
        "divide": code.second_pass - ones,
    }
