"""The kernel language in one place, for kernels written outside accelsim.

    from accelsim import language as al

Ops, formats, what a kernel declares, and how it is made known; see docs/kernel-language.md.
"""

from accelsim.config.spec import Size, SizeOrZero, Spec
from accelsim.errors import DoesNotFitError
from accelsim.kernels.base import Kernel
from accelsim.kernels.registry import register
from accelsim.kernels.tiling import first_fit, fit_error
from accelsim.numerics.formats import (
    BF16,
    FP8_E4M3,
    FP8_E5M2,
    FP16,
    FP32,
    INT4,
    INT8,
    INT32,
    Format,
)
from accelsim.numerics.integer import Accumulator
from accelsim.numerics.rounding import round_tile
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import *
from accelsim.program.language import __all__ as _OPS
from accelsim.program.ops import Op
from accelsim.program.program import Program
from accelsim.program.recording import (
    Buffer,
    Tensor,
    Tile,
    record_map,
    record_pair,
    record_reduction,
    record_with_column,
    record_with_row,
)
from accelsim.runtime.jit import jit, jit_inner

__all__ = [
    *_OPS,
    "BF16",
    "FP8_E4M3",
    "FP8_E5M2",
    "FP16",
    "FP32",
    "INT4",
    "INT8",
    "INT32",
    "Accumulator",
    "Buffer",
    "DoesNotFitError",
    "Format",
    "Kernel",
    "Op",
    "Program",
    "ProgramBuilder",
    "Size",
    "SizeOrZero",
    "Spec",
    "Tensor",
    "Tile",
    "first_fit",
    "fit_error",
    "jit",
    "jit_inner",
    "record_map",
    "record_pair",
    "record_reduction",
    "record_with_column",
    "record_with_row",
    "register",
    "round_tile",
]
