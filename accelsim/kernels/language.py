"""What every kernel says, in one place: ops, and what it is given, declares and returns.

    from accelsim.kernels import language as al

Kernels outside accelsim have the same names from `accelsim.language`; see docs/kernel-language.md.
"""

from typing import TYPE_CHECKING

from accelsim.config.spec import PositiveValue, Size, SizeOrZero, Spec
from accelsim.errors import ConfigError, DoesNotFitError, QuantizationError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.tiling import first_fit, fit_error, tile_sizes
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
from accelsim.program.long import AnyProgram as Program
from accelsim.program.ops import Op
from accelsim.program.program import Memory
from accelsim.program.recording import (
    Buffer,
    Recorder,
    Tensor,
    Tile,
    record_map,
    record_pair,
    record_reduction,
    record_with_column,
    record_with_row,
)
from accelsim.runtime.jit import jit, jit_inner
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import (
    AttentionProblem,
    GemmProblem,
    GroupedGemmProblem,
    VectorProblem,
)
from accelsim.workload.tensors import AttentionTensors, GemmTensors, VectorTensors

if TYPE_CHECKING:  # Type checkers do not follow a list of names that is made of lists.
    from accelsim.program.language.blocks import *
    from accelsim.program.language.elementwise import *
    from accelsim.program.language.integer import *
    from accelsim.program.language.matmul import *
    from accelsim.program.language.movement import *
    from accelsim.program.language.reductions import *
    from accelsim.program.language.rotation import *
    from accelsim.program.language.scaled import *
    from accelsim.program.language.selection import *
    from accelsim.program.language.tiles import *
    from accelsim.program.language.turns import *

__all__ = [
    *_OPS,
    "BF16",
    "BITS_PER_BYTE",
    "FP8_E4M3",
    "FP8_E5M2",
    "FP16",
    "FP32",
    "INT4",
    "INT8",
    "INT32",
    "Accumulator",
    "Array",
    "AttentionProblem",
    "AttentionTensors",
    "Buffer",
    "ConfigError",
    "DoesNotFitError",
    "Format",
    "GemmProblem",
    "GemmTensors",
    "GroupedGemmProblem",
    "Kernel",
    "MachineSpec",
    "Memory",
    "Op",
    "PositiveValue",
    "Program",
    "ProgramBuilder",
    "QuantizationError",
    "Recorder",
    "Size",
    "SizeOrZero",
    "Spec",
    "Tensor",
    "Tile",
    "VectorProblem",
    "VectorTensors",
    "WorkloadError",
    "ceil_div",
    "first_fit",
    "fit_error",
    "jit",
    "jit_inner",
    "record_map",
    "record_pair",
    "record_reduction",
    "record_with_column",
    "record_with_row",
    "round_tile",
    "tile_sizes",
]
