"""How PyTorch runs vector functions of a bf16 matrix on a GPU: eager kernels, `silu_mul` compiled.

The kernels are plain code: a block of threads has some rows or elements, loads them itself, without
asynchronous copies, and a multiprocessor holds as many blocks as its registers allow. What an
element takes in them is counted in code compiled for the same algorithms (docs/h200.md). Sources:
PyTorch 2.x, aten/src/ATen/native/cuda: SoftMax.cu (cunn_SoftMaxForwardReg), layer_norm_kernel.cu
(vectorized_layer_norm_kernel), CUDALoops.cuh.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from accelsim.hardware.machine import MachineSpec
from accelsim.numerics.formats import Format
from accelsim.units import ceil_div
from accelsim.validation.gpu import Gpu, GpuRun, with_instructions
from accelsim.workload.problem import VectorProblem

HALF_FILLING_WARPS = 5.0
"""Warps of a scheduler with which plain code fills half of its slots; calibrated (docs/h200.md)."""
_HBM_LATENCY_CYCLES, _L2_LATENCY_CYCLES = 479, 263
"""Of a load by a thread (Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU
Architecture via Microbenchmarking", 2024, latencies of H100)."""
_THREADS, _REGISTERS, _SCHEDULERS, _WARP = 2048, 65536, 4, 32
"""Of a multiprocessor: most threads, registers, schedulers; threads of a warp (CUDA C++ Programming
Guide, compute capability 9.0)."""
_BLOCK_THREADS, _MOST_SOFTMAX_THREADS = 128, 1024
"""Threads of a block: of norms and element-wise kernels (thread_constants.h), of a softmax."""
_BLOCK_ELEMENTS = 1024
"""Elements of a block of an element-wise kernel: eight a thread, as 16 bytes are loaded at once."""
_NORM_VECTOR = 4
"""Elements that a thread of a norm loads at a time (vec_size of layer_norm_kernel.cu)."""


class PlainCode(NamedTuple):
    """A kernel of plain code: how it cuts its matrix, and what it takes an element."""

    settings: Mapping[str, Any]
    """Parameters of the kernel `vector`."""
    instructions: Mapping[str, float]
    """Instructions an element for each key of the vector costs."""
    items_in_flight: Literal[1, 2] = 2
    """1 where a multiprocessor has room for one block."""
    threads: int = _THREADS
    """Threads that a multiprocessor can hold, as far as registers go, even if rows are few."""

    def on(self, gpu: Gpu) -> Gpu:
        """Return the machine as such code sees it."""
        slots = 1 + HALF_FILLING_WARPS * _SCHEDULERS * _WARP / self.threads
        machine, technology = with_instructions(gpu, self.instructions, slots, Format.FP32)
        latency_s = min(machine.hbm.latency, _HBM_LATENCY_CYCLES / machine.clock)
        update: dict[str, Any] = {
            "items_in_flight": self.items_in_flight,
            "hbm": machine.hbm.model_copy(update={"latency": latency_s}),
        }
        if machine.l2:
            latency_s = min(machine.l2.latency, _L2_LATENCY_CYCLES / machine.clock)
            update["l2"] = machine.l2.model_copy(update={"latency": latency_s})
        return Gpu(machine.model_copy(update=update), technology)


def vector(function: str, rows: int, cols: int, machine: MachineSpec) -> GpuRun:
    """Return a function of a bf16 matrix."""
    problem = VectorProblem.model_validate(
        {
            "kind": "vector",
            "name": function,
            "function": function,
            "rows": rows,
            "cols": cols,
            "dtype": "bf16",
        }
    )
    code = _plain_code(problem, machine)
    return GpuRun(problem, "vector", code.settings, code.on)


def _plain_code(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    match problem.function:
        case "softmax":
            return _softmax(problem, machine)
        case "rmsnorm" | "layernorm":
            return _norm(problem, machine)
    return _element_wise(problem, machine)


def _softmax(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """A row for a block, in registers; every exponential is computed twice."""
    threads = min(_MOST_SOFTMAX_THREADS, problem.cols)
    own = ceil_div(problem.cols, threads)
    # 30 registers a thread for 4 elements and 41 for 8, in the compiled code.
    registers = threads * (19 + 2.75 * own)
    blocks = max(1, min(_THREADS // threads, int(_REGISTERS / registers)))
    # With two blocks and more, some compute while others wait for their rows.
    at_once: Literal[1, 2] = 2 if blocks > 1 else 1
    rows = min(max(1, blocks // at_once), ceil_div(problem.rows, machine.cores))
    # Two reductions over the block take 44 instructions of every thread.
    reduce = 2 + 22 / own
    counts = {"convert": 10, "reduce": reduce, "add": 1, "exp": 23, "divide": 14}
    return PlainCode({"tile_rows": rows}, counts, at_once, blocks * threads)


def _norm(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """A row for a block, read twice, a step of the whole block after the other."""
    # All that fit are one item; the next one begins to load as blocks of this one end.
    blocks = _THREADS // _BLOCK_THREADS
    rows = min(blocks, ceil_div(problem.rows, machine.cores))
    settings = {
        "tile_rows": rows,
        "tile_cols": _BLOCK_THREADS * _NORM_VECTOR,
        # Assumption: a few blocks wait for their loads, more than half of what fits covers them.
        "stages": 2 if rows > blocks // 2 else 1,
    }
    own = ceil_div(problem.cols, _BLOCK_THREADS)
    counts = {"convert": 1.0, "add": 1.0, "multiply": 1.0, "divide": 2.75}
    # Two sums of Welford's update and its reciprocal; one of squares. Each thread has its share
    # of the reductions over the block.
    reduce = 9.1 + 160 / own if problem.function == "layernorm" else 1.7 + 200 / own
    return PlainCode(settings, counts | {"reduce": reduce})


def _element_wise(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """Blocks of neighboring elements, many of them at a time."""
    share = ceil_div(problem.rows * problem.cols, machine.cores * _BLOCK_ELEMENTS)
    blocks = min(_THREADS // _BLOCK_THREADS // 2, share)
    counts: Mapping[str, float] = {}
    if problem.function == "gelu":
        # The error function of the library: 30 in all, spread over the steps of the tanh form.
        counts = {"convert": 2.0, "multiply": 1.0, "add": 1.0, "exp": 11.0, "divide": 10.0}
    elif problem.function == "silu_mul":
        counts = {"convert": 1.0, "multiply": 1.0, "add": 1.0, "exp": 5.0, "divide": 7.0}
    return PlainCode({"tile_elements": blocks * _BLOCK_ELEMENTS}, counts)
