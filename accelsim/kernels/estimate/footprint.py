"""Which candidates fit on chip: a kernel declares its buffers, with arrays for their sizes."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.tiling import MEMORIES, capacity_bytes
from accelsim.numerics.formats import Format
from accelsim.program.program import Memory
from accelsim.program.recording import Buffer, Tensor
from accelsim.units import BITS_PER_BYTE, ceil_div

Sizes = npt.NDArray[np.int64]
_NO_TENSOR = Tensor(0, 0, 0, 0, 0, 0, None)


class Footprint:
    """Stands for a `ProgramBuilder` where only the bytes on chip are asked."""

    def __init__(self) -> None:
        self._bits: dict[tuple[Memory, int, int], list[Any]] = {}
        """Of all buffers of a shape: its rows and columns, and bits for each of its elements."""
        self._uneven_bytes: dict[Memory, Any] = dict.fromkeys(MEMORIES, 0)

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
        bits = fmt.bits
        if bits % BITS_PER_BYTE == 0:
            shape = self._bits.setdefault((memory, id(rows), id(cols)), [rows, cols, 0])
            shape[2] = shape[2] + bits * slots
        else:
            size = slots * ceil_div(rows * cols * bits, BITS_PER_BYTE)
            self._uneven_bytes[memory] = self._uneven_bytes[memory] + size
        return self.no_buffer(fmt)

    @property
    def used_bytes(self) -> dict[Memory, Any]:
        """Bytes in each memory."""
        used = self._uneven_bytes.copy()
        for (memory, *_), (rows, cols, bits) in self._bits.items():
            used[memory] = used[memory] + rows * cols * (bits // BITS_PER_BYTE)
        return used

    def no_buffer(self, fmt: Format = Format.FP32) -> Buffer:
        """Take no room on chip."""
        return _no_buffer(fmt)

    def tensor(self, *_: Any) -> Tensor:
        """Take no room on chip."""
        return _NO_TENSOR

    def no_tensor(self, fmt: Format = Format.FP32) -> Tensor:
        """Take no room on chip."""
        return _NO_TENSOR

    def index_buffer(self, name: str, capacity: Any, *, slots: Any = 1) -> Buffer:
        """Add the bytes of `slots` tiles of `capacity` row numbers."""
        return self.buffer(name, 1, capacity, Format.INT32, slots=slots)


@cache
def _no_buffer(fmt: Format) -> Buffer:
    return Buffer(0, 1, 0, 0, fmt.code, fmt.bits, None)


def fitting(
    machine: MachineSpec, declare: Callable[..., object], *sizes: Any
) -> npt.NDArray[np.bool_]:
    """Return which candidates fit: declare(builder, *sizes) declares the buffers of all of them."""
    footprint = Footprint()
    declare(footprint, *sizes)
    fits = np.ones(len(sizes[0]), bool)
    for memory, used in footprint.used_bytes.items():
        fits &= used <= capacity_bytes(machine, memory)
    return fits


def larger(a: Any, b: Any) -> Any:
    """Return the larger of two sizes, of which either may be an array."""
    is_single = isinstance(a, int) and isinstance(b, int)
    return max(a, b) if is_single else np.maximum(a, b)
