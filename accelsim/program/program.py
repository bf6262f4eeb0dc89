"""The tile program: what a kernel does on any machine, op by op, and never when."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt

from accelsim.numerics.formats import Format
from accelsim.program.ops import (
    ACCUMULATOR_SHIFT,
    FIELD_MASK,
    HEAD,
    NO_TENSOR,
    OP_SHIFT,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    READS,
    SLOT_BITS,
    SLOTS_PER_WORD,
    TENSOR_MASK,
    TENSOR_SHIFT,
    UNIT_OF_OP,
    WRITES,
    A,
    B,
    C,
    D,
    Op,
    Unit,
)
from accelsim.program.totals import Totals, totals_of
from accelsim.units import ceil_div

T = TypeVar("T")
Words = npt.NDArray[np.int64]

Memory = Literal["scratchpad", "accumulator", "index_buffer"]
_FORMATS = list(Format)
_ADDRESS_ALIGNMENT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A matrix in HBM."""

    name: str
    role: Literal["input", "output", "intermediate"]
    rows: int
    cols: int
    bits: int
    address: int
    needed_rows: int | None = None
    """Rows that a run cannot do without, of a table that it touches in parts; None: all."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, rows being packed."""
        return (self.cols * self.bits + 7) // 8

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.rows * self.row_bytes

    @property
    def next_address(self) -> int:
        """Where the tensor after this one begins."""
        blocks = ceil_div(self.address + self.size_bytes, _ADDRESS_ALIGNMENT_BYTES)
        return blocks * _ADDRESS_ALIGNMENT_BYTES

    @property
    def needed_bytes(self) -> int:
        """Bytes that a run cannot do without."""
        rows = self.rows if self.needed_rows is None else self.needed_rows
        return rows * self.row_bytes


@dataclass(frozen=True, slots=True)
class BufferInfo:
    """On-chip memory for `slots` tiles of rows x cols elements."""

    name: str
    memory: Memory
    slots: int
    rows: int
    cols: int
    bits: int
    first_slot: int
    part: int = 0
    """Part of the program that it belongs to: the buffers of each part have the memory in turn."""

    @property
    def slot_bytes(self) -> int:
        """Bytes of one tile."""
        return (self.rows * self.cols * self.bits + 7) // 8

    @property
    def size_bytes(self) -> int:
        """Bytes of all tiles."""
        return self.slots * self.slot_bytes


@dataclass(frozen=True, slots=True)
class OpRecord:
    """One op, decoded; the meaning of a, b, c, d is told in `accelsim.program.ops`."""

    index: int
    op: Op
    unit: Unit
    operand_format: Format
    accumulator_format: Format
    output_format: Format
    tensor: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    a: int
    b: int
    c: int
    d: int


class Declared:
    """What a program says besides its ops: its buffers and tensors, and how they are named."""

    name: str
    tensors: tuple[TensorInfo, ...]
    buffers: tuple[BufferInfo, ...]
    parameters: Mapping[str, int | str | bool | float]

    def with_parameters(self, **chosen: int | str | bool | float) -> Self:
        """Return the same program with more of what its kernel chose."""
        return self._told(parameters={**self.parameters, **chosen})

    def with_statistics(self, statistics: Mapping[str, float]) -> Self:
        """Return the same program with what its kernel says of its values."""
        return self._told(statistics=statistics)

    def _told(self, **fields: Any) -> Self:
        """Return the same program with other words about it."""
        own: Any = self
        return cast(Self, replace(own, **fields))

    @property
    def num_slots(self) -> int:
        """Number of slots of all buffers; they count from 1."""
        return sum(buffer.slots for buffer in self.buffers)

    def memory_bytes(self, memory: str) -> int:
        """Return the bytes allocated in one of the memories on chip, by the part with most."""
        by_part = Counter[int]()
        for buffer in self.buffers:
            by_part[buffer.part] += buffer.size_bytes if buffer.memory == memory else 0
        return max(by_part.values(), default=0)

    def buffer_of(self, slot: int) -> BufferInfo | None:
        """Return the buffer of a slot number; None for a number that is not used."""
        for buffer in self.buffers:
            if buffer.first_slot <= slot < buffer.first_slot + buffer.slots:
                return buffer
        return None

    def slot_name(self, slot: int) -> str:
        """Return `buffer[i]` for a slot number."""
        buffer = self.buffer_of(slot)
        return f"{buffer.name}[{slot - buffer.first_slot}]" if buffer else f"slot {slot}"

    def tensor_name(self, number: int) -> str:
        """Return the name of a tensor by its number."""
        return "nothing" if number == NO_TENSOR else self.tensors[number].name


@dataclass(frozen=True, eq=False)
class Program(Declared):
    """The ops of all work items, with the tensors and buffers they touch.

    ops: int64 [num_ops, 7], see `accelsim.program.ops`. Item i has the ops
    item_start[i]:item_start[i + 1] and the phase item_phase[i], which never falls.
    """

    name: str
    ops: Words
    item_start: Words
    item_phase: Words
    tensors: tuple[TensorInfo, ...]
    buffers: tuple[BufferInfo, ...]
    gathered_rows: Words
    """Row indices of all gathers, in program order."""
    overflows: int = 0
    """Sums that an accumulator of the integer array could not hold."""
    statistics: Mapping[str, float] = field(default_factory=dict)
    """What a kernel says of its values, such as kept_fraction or accumulator_overflows."""
    parameters: Mapping[str, int | str | bool | float] = field(default_factory=dict)
    """What the kernel chose for those of its parameters that nobody gave, such as tile sizes."""

    loops: Words | None = None
    """Of a piece of a long program whose loops were cut short, for each item: the first op of its
    loop, the ops of a period, and the periods left out, or 0. None: no loop was."""
    found: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)
    """What has been found of the words, see `find`; programs of the same words share it."""

    def find(self, what: Hashable | None, make: Callable[[], T]) -> T:
        """Return something that follows from the words and from `what` alone, made once.

        what: None where nothing tells it apart, so that it is made again.
        """
        if what is None:
            return make()
        if what not in self.found:
            self.found[what] = make()
        return cast(T, self.found[what])

    def _told(self, **fields: Any) -> Self:
        """Return the same program with other words about it; what was found of its ops stays."""
        told = super()._told(**fields)
        object.__setattr__(told, "found", self.found)
        return told

    def part(self, first: int, after: int) -> "Program":
        """Return the program of items first..after - 1 alone."""
        begin, end = int(self.item_start[first]), int(self.item_start[after])
        return replace(
            self,
            ops=self.ops[begin:end],
            item_start=self.item_start[first : after + 1] - begin,
            item_phase=self.item_phase[first:after],
        )

    @property
    def num_ops(self) -> int:
        """Number of ops."""
        return len(self.ops)

    @property
    def num_items(self) -> int:
        """Number of work items."""
        return len(self.item_phase)

    @property
    def size_bytes(self) -> int:
        """Bytes that the words take here."""
        words = (self.ops, self.item_start, self.item_phase, self.gathered_rows)
        return sum(each.nbytes for each in words)

    @cached_property
    def op_codes(self) -> Words:
        """Op code of every op."""
        return (self.ops[:, HEAD] >> OP_SHIFT) & FIELD_MASK

    @property
    def totals(self) -> Totals:
        """What one walk over all ops counts."""
        return self.find("totals", self._totals)

    def _totals(self) -> Totals:
        phases = int(self.item_phase.max(initial=-1)) + 1
        return totals_of(self.ops, self.item_start, self.item_phase, phases, len(self.tensors))

    @property
    def units(self) -> npt.NDArray[np.int8]:
        """Unit of every op."""
        return self.totals.units

    @cached_property
    def tensor_indices(self) -> Words:
        """Tensor of every op; meaningful for DMA ops."""
        return (self.ops[:, HEAD] >> TENSOR_SHIFT) & TENSOR_MASK

    @cached_property
    def hbm_bytes(self) -> Words:
        """Bytes that every op moves between HBM and the scratchpad; 0 for compute ops."""
        is_memory = self.units >= Unit.LOAD
        return np.where(is_memory, self.ops[:, B] * self.ops[:, C], 0)

    @property
    def read_bytes(self) -> int:
        """Bytes that all loads and gathers move."""
        return int(self.totals.read_bytes.sum())

    @property
    def write_bytes(self) -> int:
        """Bytes that all stores move."""
        return int(self.totals.write_bytes.sum())

    @property
    def bytes_by_tensor(self) -> tuple[int, ...]:
        """Bytes of each tensor that all DMA ops move."""
        return tuple((self.totals.read_bytes + self.totals.write_bytes).tolist())

    def decode(self, index: int) -> OpRecord:
        """Return op `index` in readable form."""
        words = [int(word) for word in self.ops[index]]
        op = Op((words[HEAD] >> OP_SHIFT) & FIELD_MASK)
        return OpRecord(
            index=index,
            op=op,
            unit=Unit(UNIT_OF_OP[op]),
            operand_format=_FORMATS[(words[HEAD] >> OPERAND_SHIFT) & FIELD_MASK],
            accumulator_format=_FORMATS[(words[HEAD] >> ACCUMULATOR_SHIFT) & FIELD_MASK],
            output_format=_FORMATS[(words[HEAD] >> OUTPUT_SHIFT) & FIELD_MASK],
            tensor=(words[HEAD] >> TENSOR_SHIFT) & TENSOR_MASK,
            reads=slots_of(words[READS]),
            writes=slots_of(words[WRITES]),
            a=words[A],
            b=words[B],
            c=words[C],
            d=words[D],
        )

    def __iter__(self) -> Iterator[OpRecord]:
        return (self.decode(index) for index in range(self.num_ops))


def slots_of(word: int) -> tuple[int, ...]:
    """Return the slot numbers packed in a word, without the empty fields."""
    mask = (1 << SLOT_BITS) - 1
    fields = ((word >> (SLOT_BITS * i)) & mask for i in range(SLOTS_PER_WORD))
    return tuple(slot for slot in fields if slot)
