"""Which candidates fit on chip: a kernel declares its buffers, with arrays for their sizes."""

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.tiling import capacity_bytes
from accelsim.numerics.formats import Format
from accelsim.program.program import Memory
from accelsim.program.recording import Buffer, Tensor
from accelsim.units import BITS_PER_BYTE, ceil_div

Sizes = npt.NDArray[np.int64]
_NO_TENSOR = Tensor(0, 0, 0, 0, 0, 0, None)


class Size(NamedTuple):
    """Stands for a size of all candidates where a footprint is found once for many of them."""

    place: int
    """Which of the sizes that are given later."""


class Footprint:
    """Stands for a `ProgramBuilder` where only the bytes on chip are asked."""

    with_numbers = False

    def __init__(self) -> None:
        self._even: dict[tuple[Memory, int, int], list[Any]] = {}
        """Of buffers of whole bytes: two sizes, of which the second one may be the number 1, and
        the bytes for each product of them."""
        self._uneven: list[tuple[Memory, Any, Any, Any]] = []
        """Others: two sizes, and slots of so many bits."""

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
        if bits % BITS_PER_BYTE:
            self._uneven.append((memory, rows, cols, (slots, bits)))
            return self.no_buffer(fmt)
        element_bytes = bits // BITS_PER_BYTE * slots
        if isinstance(rows, int):
            rows, cols = cols, rows
        if isinstance(cols, int):
            cols, element_bytes = 1, element_bytes * cols
        known = self._even.setdefault((memory, id(rows), id(cols)), [rows, cols, 0])
        known[2] = known[2] + element_bytes
        return self.no_buffer(fmt)

    def used_bytes(self, sizes: tuple[Any, ...] = ()) -> dict[Memory, Any]:
        """Return the bytes in each memory; sizes: those that were given as `Size` before."""
        used: dict[Memory, Any] = {}

        def given(size: Any) -> Any:
            return sizes[size.place] if isinstance(size, Size) else size

        for (memory, *_), (rows, cols, num_bytes) in self._even.items():
            size = given(rows) if isinstance(cols, int) else given(rows) * given(cols)
            used[memory] = used.get(memory, 0) + size * num_bytes
        for memory, rows, cols, (slots, bits) in self._uneven:
            size = ceil_div(given(rows) * given(cols) * bits, BITS_PER_BYTE)
            used[memory] = used.get(memory, 0) + slots * size
        return used

    def fits(self, machine: MachineSpec, sizes: tuple[Any, ...]) -> npt.NDArray[np.bool_]:
        """Return which candidates fit; sizes: of all of them."""
        fits = np.ones(len(sizes[0]), bool)
        for memory, used in self.used_bytes(sizes).items():
            fits &= used <= capacity_bytes(machine, memory)
        return fits

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
    return footprint.fits(machine, sizes)


def fitting_again(
    machine: MachineSpec, declare: Callable[..., object], known: tuple[Any, ...], *sizes: Any
) -> npt.NDArray[np.bool_]:
    """Return the same of declare(builder, *known, *sizes), which is called once for all sizes.

    It does nothing with sizes but declare buffers of them.
    """
    return _declared(declare, known, len(sizes)).fits(machine, sizes)


def bytes_again(
    declare: Callable[..., object], known: tuple[Any, ...], *sizes: Any
) -> dict[Memory, Any]:
    """Return the bytes of the same in each memory."""
    return _declared(declare, known, len(sizes)).used_bytes(sizes)


@lru_cache(256)
def _declared(declare: Callable[..., object], known: tuple[Any, ...], num_sizes: int) -> Footprint:
    footprint = Footprint()
    declare(footprint, *known, *(Size(place) for place in range(num_sizes)))
    return footprint


def larger(a: Any, b: Any) -> Any:
    """Return the larger of two sizes, of which either may be an array."""
    is_single = isinstance(a, int) and isinstance(b, int)
    return max(a, b) if is_single else np.maximum(a, b)
