"""Which candidates fit on chip: a kernel declares its buffers, with arrays for their sizes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.tiling import MEMORIES, capacity_bytes
from accelsim.numerics.formats import Format
from accelsim.program.program import Memory
from accelsim.program.recording import Buffer
from accelsim.units import BITS_PER_BYTE, ceil_div

Sizes = npt.NDArray[np.int64]


class Footprint:
    """Stands for a `ProgramBuilder` where only the bytes on chip are asked."""

    def __init__(self) -> None:
        self.used_bytes: dict[Memory, Any] = dict.fromkeys(MEMORIES, 0)

    def buffer(
        self,
        name: str,
        rows: Any,
        cols: Any,
        fmt: Format,
        *,
        slots: Any = 1,
        memory: Memory = "scratchpad",
    ) -> Buffer:
        """Add the bytes of `slots` tiles of rows x cols elements."""
        size = slots * ceil_div(rows * cols * fmt.bits, BITS_PER_BYTE)
        self.used_bytes[memory] = self.used_bytes[memory] + size
        return self.no_buffer(fmt)

    def no_buffer(self, fmt: Format = Format.FP32) -> Buffer:
        """Take no room on chip."""
        return Buffer(0, 1, 0, 0, fmt.code, fmt.bits, None)

    def tensor(self, *_: Any) -> None:
        """Take no room on chip."""

    def index_buffer(self, name: str, capacity: Any, *, slots: Any = 1) -> Buffer:
        """Add the bytes of `slots` tiles of `capacity` row numbers."""
        return self.buffer(name, 1, capacity, Format.INT32, slots=slots)


def fitting(
    machine: MachineSpec, declare: Callable[..., object], *sizes: Any
) -> npt.NDArray[np.bool_]:
    """Return which candidates fit: declare(builder, *sizes) declares the buffers of all of them."""
    footprint = Footprint()
    declare(footprint, *sizes)
    fits = [
        np.asarray(used <= capacity_bytes(machine, memory))
        for memory, used in footprint.used_bytes.items()
    ]
    return np.logical_and.reduce(np.broadcast_arrays(*fits, *(np.ones(len(sizes[0]), bool),)))


def larger(a: Any, b: Any) -> Any:
    """Return the larger of two sizes, of which either may be an array."""
    is_single = isinstance(a, int) and isinstance(b, int)
    return max(a, b) if is_single else np.maximum(a, b)
