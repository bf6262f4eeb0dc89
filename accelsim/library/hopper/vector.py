"""How PyTorch runs vector functions of a bf16 matrix on a GPU: eager kernels, `silu_mul` compiled.

The kernels are plain code: a block of threads has some rows or elements, and a multiprocessor holds
as many blocks as its registers allow. What an element takes in them is counted in code compiled for
the same algorithms (docs/h200.md). Source: PyTorch 2.x, aten/src/ATen/native/cuda, CUDALoops.cuh;
rows: `accelsim.library.hopper.norms` and `softmax`.
"""

from collections.abc import Mapping

from accelsim.hardware.machine import MachineSpec
from accelsim.library.hopper.norms import norm
from accelsim.library.hopper.plain import MOST_THREADS, PlainCode
from accelsim.library.hopper.softmax import softmax
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import VectorProblem

EAGER_FUNCTIONS = ("copy", "softmax", "rmsnorm", "layernorm", "gelu", "silu_mul")
"""Functions whose eager kernels were measured; others run fused, as kernels of serving engines."""
_BLOCK_THREADS = 128
"""Threads of a block (thread_constants.h)."""
_BLOCK_ELEMENTS = 1024
"""Elements of a block of an element-wise kernel: eight a thread, as 16 bytes are loaded at once."""
_LONG_COPY_BYTES, _COPY_PAGE_BYTES, _SLOW_COPY_BYTES_PER_S = 10**9, 4096, 2.7e12
"""Copies that read and write this much, and those whose bytes are no multiple of a page, run as
another kernel of the driver (how the kernels of h200.csv were measured: copies reach 4.0 TB/s,
those of 1 GB and more 2.7 TB/s; h200-vector.csv: multiples of 8 KiB reach 4.2 TB/s, those of 2 KiB
and less 2.7 TB/s)."""


def plain_code(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """Return the code of a function of a matrix."""
    match problem.function:
        case "softmax":
            return softmax(problem, machine)
        case "rmsnorm" | "layernorm":
            return norm(problem, machine)
    return _element_wise(problem, machine)


def _element_wise(problem: VectorProblem, machine: MachineSpec) -> PlainCode:
    """Blocks of neighboring elements, many of them at a time."""
    share = ceil_div(problem.rows * problem.cols, machine.cores * _BLOCK_ELEMENTS)
    blocks = min(MOST_THREADS // _BLOCK_THREADS // 2, share)
    counts: Mapping[str, float] = {}
    if problem.function == "gelu":
        # The error function of the library: 30 in all, spread over the steps of the tanh form.
        counts = {"convert": 2.0, "multiply": 1.0, "add": 1.0, "exp": 11.0, "divide": 10.0}
    elif problem.function == "silu_mul":
        counts = {"convert": 1.0, "multiply": 1.0, "add": 1.0, "exp": 5.0, "divide": 7.0}
    # The elements of a thread are independent of each other: few threads fill the slots, too.
    code = PlainCode({"tile_elements": blocks * _BLOCK_ELEMENTS}, counts)
    if problem.function == "copy" and _is_slow_copy(problem):
        return code._replace(hbm_bytes_per_s=_SLOW_COPY_BYTES_PER_S)
    return code


def _is_slow_copy(problem: VectorProblem) -> bool:
    """Whether the driver copies a matrix with the slower one of its kernels."""
    matrix_bytes = problem.rows * problem.cols * problem.dtype.bits // BITS_PER_BYTE
    return 2 * matrix_bytes >= _LONG_COPY_BYTES or matrix_bytes % _COPY_PAGE_BYTES > 0
