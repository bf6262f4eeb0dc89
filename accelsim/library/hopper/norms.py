"""How PyTorch normalizes rows on a GPU: a row for a block, read twice.

Source: PyTorch 2.x, aten/src/ATen/native/cuda/layer_norm_kernel.cu: vectorized_layer_norm_kernel,
of both norms. Rows whose elements do not lie in fours: `accelsim.library.hopper.norms_in_two`.
Instructions are counted in benchmarks/eager_instructions; the counters of the board say that every
pass has one load of a thread in flight.
"""

from typing import Literal, NamedTuple

from accelsim.hardware.machine import MachineSpec
from accelsim.library.hopper.norms_in_two import norm_in_two
from accelsim.library.hopper.plain import (
    HBM_LATENCY_CYCLES,
    L2_LATENCY_CYCLES,
    MOST_THREADS,
    TWICE_READ_L2_SHARE,
    PlainCode,
    chain_cycles,
    instruction_cycles,
    reread_cycles,
)
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import VectorProblem


class _Norm(NamedTuple):
    """What a thread executes."""

    first_pass: float
    """Instructions an element for the statistics."""
    second_pass: float
    """Instructions an element for the results."""
    rest: float
    """Instructions of prologue, reductions over the block, and end."""


_THREADS, _VECTOR = 128, 4
"""Threads of a block (thread_constants.h), and elements that a thread loads at a time."""
_NORMS = {
    "layernorm": _Norm(first_pass=140 / 8, second_pass=23 / 4, rest=342),
    "rmsnorm": _Norm(first_pass=19 / 4, second_pass=19 / 4, rest=165),
}
"""Welford's update divides by the count, behind a branch: no load is moved above it. Of rmsnorm the
board counts 38 instructions for four elements, 19 of them in the second pass."""
_SUMS = {"layernorm": 2, "rmsnorm": 1}
"""Sums that the kernel `vector` takes of a row."""


def norm(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """Return the code of a norm over the rows of a problem."""
    if problem.cols % _VECTOR:
        return norm_in_two(problem, machine)
    code = _NORMS[problem.function]
    rows = min(MOST_THREADS // _THREADS, ceil_div(problem.rows, machine.cores))
    threads = rows * _THREADS
    own = ceil_div(problem.cols, _THREADS)
    rows_bytes = rows * problem.cols * problem.dtype.bits // BITS_PER_BYTE
    share = _share_bytes_per_cycle(machine, ceil_div(problem.rows, rows))
    issue_cycles = instruction_cycles(
        own * (code.first_pass + code.second_pass) + code.rest, threads
    )
    waits = ceil_div(own, _VECTOR) * (HBM_LATENCY_CYCLES + L2_LATENCY_CYCLES)
    # Blocks begin together and do the same. A memory that serves all alike keeps them in step;
    # where instructions take longer, they drift apart, and some load while others compute.
    in_step = rows == 1 or max(2 * rows_bytes / share, waits) > issue_cycles
    at_once: Literal[1, 2] = 1 if in_step else 2
    return PlainCode(
        settings={
            "tile_rows": ceil_div(rows, at_once),
            "tile_cols": _THREADS * _VECTOR,
        },
        instructions=_instructions(code, own, _SUMS[problem.function]),
        items_in_flight=at_once,
        threads=threads,
        loads_in_flight=at_once,
        port_bytes_per_cycle=share if in_step else None,
        first_read_cycles=HBM_LATENCY_CYCLES + chain_cycles(_VECTOR * code.first_pass),
        later_read_cycles=reread_cycles(rows_bytes) + chain_cycles(_VECTOR * code.second_pass),
        l2_share=TWICE_READ_L2_SHARE,
    )


def _share_bytes_per_cycle(machine: MachineSpec, cores: int) -> float:
    """Return what the memory has for each of the cores that work."""
    return machine.hbm.bandwidth / machine.clock / min(machine.cores, cores)


def _instructions(code: _Norm, own: int, sums: int) -> dict[str, float]:
    """Return instructions an element, for `own` elements of a thread.

    Conversions, additions and products are one each; sums and divisions take what is left.
    """
    ones = 1 + sums
    return {
        "convert": 1,
        "add": 1,
        "multiply": 1,
        "reduce": (code.first_pass + code.rest / own - ones) / sums,
        "divide": code.second_pass - ones,
    }
