"""From a kernel's plan to a recorded program: addresses, slots, storage, and the call itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from accelsim.errors import DoesNotFitError, ProgramError
from accelsim.numerics.formats import Format
from accelsim.program.long import (
    AnyProgram,
    LongProgram,
    Recording,
    check_items,
    new_recorder,
    whole_program,
)
from accelsim.program.ops import (
    HELD_OPS,
    MAX_LONG_OPS,
    MAX_OPS,
    MAX_SLOTS,
    NO_SLOT,
    NO_TENSOR,
    NUM_INDICES,
    NUM_ITEMS,
    NUM_OVERFLOWS,
    NUM_RECORDED,
    REFUSED_OP,
    WORDS,
)
from accelsim.program.program import BufferInfo, Memory, Program, TensorInfo
from accelsim.program.recording import Buffer, Tensor
from accelsim.program.shared import PROGRAMS

Array = npt.NDArray[Any]

_FIRST_CAPACITY_OPS = 1 << 20


def too_long(
    name: str, most: int = MAX_LONG_OPS, what: str = "ops, the most a program may have"
) -> DoesNotFitError:
    """Return the error of a program with more ops, or more of something else, than it may have."""
    return DoesNotFitError(
        f"{name}: needs more than {most} {what}; choose larger tiles or a smaller problem"
    )


def too_many_items(name: str) -> DoesNotFitError:
    """Return the error of a program with too many work items."""
    return too_long(name, MAX_OPS, "work items, the most a program may have")


class ProgramBuilder:
    """Declare tensors and buffers, then `record` a kernel over them.

    With `with_numbers` the buffers and outputs hold data, and recording computes it.
    """

    def __init__(self, name: str, *, with_numbers: bool) -> None:
        self.name = name
        self.with_numbers = with_numbers
        self.tensors: list[TensorInfo] = []
        self.buffers: list[BufferInfo] = []
        self.data: dict[str, Array] = {}
        self._next_slot = 1
        self._may_gather = False

    def tensor(
        self,
        name: str,
        role: Literal["input", "output", "intermediate"],
        rows: int,
        cols: int,
        fmt: Format,
        data: Array | None = None,
        needed_rows: int | None = None,
    ) -> Tensor:
        """Place a rows x cols matrix in HBM; inputs bring their data when numbers are computed.

        needed_rows: of a table that is touched in parts, the rows that a run cannot do without.
        """
        self._check_sizes(f"tensor {name}", rows, cols)
        address = self.tensors[-1].next_address if self.tensors else 0
        info = TensorInfo(name, role, rows, cols, fmt.bits, address, needed_rows)
        if self.with_numbers:
            self.data[name] = data if data is not None else _zeros((rows, cols), fmt)
            self._check_shape(name, self.data[name], (rows, cols))
        self.tensors.append(info)
        return Tensor(
            number=len(self.tensors) - 1,
            address=info.address,
            rows=rows,
            cols=cols,
            row_bytes=info.row_bytes,
            bits=fmt.bits,
            data=self.data.get(name),
        )

    def buffer(
        self,
        name: str,
        rows: int,
        cols: int,
        fmt: Format,
        *,
        slots: int = 1,
        memory: Memory = "scratchpad",
    ) -> Buffer:
        """Allocate `slots` tiles of rows x cols elements on chip."""
        self._check_sizes(f"buffer {name}", slots, rows, cols)
        info = BufferInfo(name, memory, slots, rows, cols, fmt.bits, self._next_slot)
        self._next_slot += slots
        if self._next_slot > MAX_SLOTS:
            raise ProgramError(f"{self.name}: more than {MAX_SLOTS - 1} buffer slots")
        self.buffers.append(info)
        data = _zeros((slots, rows, cols), fmt) if self.with_numbers else None
        return Buffer(info.first_slot, slots, rows, cols, fmt.code, fmt.bits, data)

    def index_buffer(self, name: str, capacity: int, *, slots: int = 1) -> Buffer:
        """Allocate tiles of `capacity` 32-bit row numbers in the scratchpad, for `gather`.

        They hold data in any case, because the addresses of a gather follow from it.
        """
        self._may_gather = True
        numberless = self.buffer(name, 1, capacity, Format.INT32, slots=slots)
        return numberless._replace(data=_zeros((slots, 1, capacity), Format.INT32))

    def index_tensor(self, name: str, numbers: Array) -> Tensor:
        """Place 32-bit row numbers in HBM as one row, for tiles of an index buffer.

        It holds data in any case, as those do. numbers: int32 [count].
        """
        row = np.ascontiguousarray(numbers, np.int32).reshape(1, -1)
        return self.tensor(name, "input", *row.shape, Format.INT32, row)._replace(data=row)

    def no_buffer(self, fmt: Format = Format.FP32) -> Buffer:
        """Return what stands for a buffer that a kernel does without: it has no tile.

        fmt: a format whose elements are kept as those of the buffer would be.
        """
        data = _zeros((1, 0, 0), fmt) if self.with_numbers else None
        return Buffer(NO_SLOT, 1, 0, 0, fmt.code, fmt.bits, data)

    def no_tensor(self, fmt: Format = Format.FP32) -> Tensor:
        """Return what stands for a tensor that a kernel does without: nothing can be loaded."""
        data = _zeros((0, 0), fmt) if self.with_numbers else None
        return Tensor(NO_TENSOR, 0, 0, 0, 0, fmt.bits, data)

    def record(self, kernel: Callable[..., None], num_items: int, *arguments: Any) -> AnyProgram:
        """Run `kernel(p, *arguments)`, which begins `num_items` items, and return its program.

        Of more than HELD_OPS ops it is a program that records them again when they are needed,
        unless it computes numbers or gathers rows. Another one without numbers may have been
        recorded before from the same: nobody may write to its words.

        Raises DoesNotFitError for more than MAX_OPS items, or ops of a program with numbers or
        gathers; ProgramError when an op asks for more than a tile or tensor has.
        """
        recording = Recording(kernel, num_items, arguments)
        if self.with_numbers:
            return self._recorded(recording)
        declared = (kernel, self.name, num_items, tuple(self.tensors), tuple(self.buffers))
        return PROGRAMS.recorded(declared, arguments, lambda: self._recorded(recording))

    def _recorded(self, recording: Recording) -> AnyProgram:
        kernel, num_items, arguments = recording
        if num_items > MAX_OPS:
            raise too_many_items(self.name)
        capacity_words = _FIRST_CAPACITY_OPS * WORDS
        # What is not held needs no count.
        most_ops = MAX_OPS if self.with_numbers or self._may_gather else HELD_OPS
        while True:
            recorder = new_recorder(num_items, capacity_words, most_ops)
            try:
                kernel(recorder, *arguments)
            except OverflowError:
                if not recorder[REFUSED_OP]:
                    self._check_can_be_long(recorder)
                    return self._long(recording)
            used_words = int(recorder[NUM_RECORDED] * WORDS + recorder[NUM_INDICES])
            if used_words <= capacity_words:
                return self._finished(recorder, num_items)
            num_ops = int(recorder[NUM_RECORDED])
            must_be_held = self.with_numbers or recorder[NUM_INDICES] or recorder[REFUSED_OP]
            if num_ops > HELD_OPS and not must_be_held:
                check_items(self.name, int(recorder[NUM_ITEMS]), num_items)
                return self._long(recording)
            capacity_words = used_words

    def _check_sizes(self, what: str, *sizes: int) -> None:
        if min(sizes) < 1:
            found = " x ".join(str(size) for size in sizes)
            raise ProgramError(f"{self.name}: {what}: found size {found}, allowed: 1 or more each")

    def _check_shape(self, name: str, data: Array, shape: tuple[int, int]) -> None:
        if data.shape != shape:
            raise ProgramError(
                f"{self.name}: tensor {name}: found data of shape {data.shape}, allowed: {shape}"
            )

    def _check_can_be_long(self, recorder: Array) -> None:
        if self.with_numbers:
            raise too_long(self.name, MAX_OPS, "ops, the most a program with numbers may have")
        if recorder[NUM_INDICES]:
            raise too_long(self.name, MAX_OPS, "ops, the most a program that gathers may have")

    def _long(self, recording: Recording) -> LongProgram:
        return LongProgram(self.name, recording, tuple(self.tensors), tuple(self.buffers))

    def _finished(self, recorder: Array, num_items: int) -> Program:
        declared = tuple(self.tensors), tuple(self.buffers)
        program = whole_program(self.name, recorder, *declared, num_items)
        return replace(program, overflows=int(recorder[NUM_OVERFLOWS]))


def _zeros(shape: tuple[int, ...], fmt: Format) -> Array:
    return np.zeros(shape, np.int32 if fmt.is_integer else np.float32)
