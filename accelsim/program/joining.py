"""Several programs as one: phases one after another, tensors and slots side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from accelsim.errors import DoesNotFitError
from accelsim.program.ops import (
    HEAD,
    MAX_OPS,
    MAX_SLOTS,
    NO_TENSOR,
    READS,
    SLOT_BITS,
    SLOT_MASK,
    SLOTS_PER_WORD,
    TENSOR_SHIFT,
    WORDS,
    WRITES,
    A,
    D,
    Op,
    Unit,
)
from accelsim.program.program import BufferInfo, Program, TensorInfo, Words


class Stored(NamedTuple):
    """What an earlier part stored, in the last of its runs."""

    part: int
    """Number of the part."""
    tensor: str
    first_byte: int = 0
    """Where in the tensor it begins."""


class Part(NamedTuple):
    """A sound program that runs `runs` times in a row."""

    name: str
    program: Program
    runs: int = 1
    reads: Mapping[str, Stored] = MappingProxyType({})
    """Input -> what it is; it must be readable from there, see `can_read`."""


class _Place(NamedTuple):
    """Where a tensor of a part lies in the program of all."""

    tensor: int
    first_byte: int = 0


def can_read(program: Program, name: str, stored: TensorInfo, size_bytes: int) -> bool:
    """Return whether an input can be `size_bytes` of what another program stored.

    It has elements of that width in as many bytes, and, where rows are picked by their numbers, in
    the same rows. False where the program has no such input.
    """
    for number, own in enumerate(program.tensors):
        if (own.name, own.role) == (name, "input"):
            gathered = program.tensor_indices[program.op_codes == Op.GATHER]
            has_rows = number not in gathered or own.row_bytes == stored.row_bytes
            return (own.size_bytes, own.bits) == (size_bytes, stored.bits) and has_rows
    return False


def joined(name: str, parts: Sequence[Part]) -> Program:
    """Return the program of parts that run one after another.

    The tensor `a` of the first part, qkv, is `0.qkv.a`, and so are buffers named. Runs of one part
    have their inputs and buffers in common, and every run its own `0.qkv[1].c`. Buffers of
    different parts take turns in the memories on chip. An input that is the output of an earlier
    part is that tensor. Raises DoesNotFitError for more ops, slots or tensors than a program
    may have.
    """
    _check_limits(name, parts)
    joint = _Joint(name, sum(part.runs * part.program.num_ops for part in parts))
    for part in parts:
        joint.add(part)
    return joint.program()


def _check_limits(name: str, parts: Sequence[Part]) -> None:
    totals = {
        "ops": (sum(part.runs * part.program.num_ops for part in parts), MAX_OPS),
        "slots of buffers": (sum(part.program.num_slots for part in parts), MAX_SLOTS - 1),
        "tensors": (sum(map(_num_tensors, parts)), NO_TENSOR),
    }
    for what, (found, most) in totals.items():
        if found > most:
            raise DoesNotFitError(
                f"{name}: found {found} {what} as one program, allowed: {most}; "
                f"run its parts one by one, or give it fewer or smaller ones"
            )


def _num_tensors(part: Part) -> int:
    inputs = sum(tensor.role == "input" for tensor in part.program.tensors)
    return inputs + part.runs * (len(part.program.tensors) - inputs)


class _Joint:
    """A program that grows run by run."""

    def __init__(self, name: str, num_ops: int) -> None:
        self.name = name
        self.ops = np.empty((num_ops, WORDS), np.int64)
        self.item_ends: list[Words] = [np.zeros(1, np.int64)]
        self.item_phases: list[Words] = [np.zeros(0, np.int64)]
        self.gathered_rows: list[Words] = [np.zeros(0, np.int64)]
        self.tensors: list[TensorInfo] = []
        self.buffers: list[BufferInfo] = []
        self.overflows = 0
        self._num_parts = self._num_ops = self._num_phases = 0
        self._num_slots = self._num_gathered = 0
        self._next_address = 0
        self._stored: list[dict[str, int]] = []
        """Numbers of the tensors of each part, in its last run, by their own names."""

    def add(self, part: Part) -> None:
        """Append all runs of a part."""
        program, name = part.program, f"{self._num_parts}.{part.name}"
        ops = self._with_own_slots(program)
        places: list[_Place] = []
        for run in range(part.runs):
            own = f"{name}[{run}]" if part.runs > 1 else name
            places = self._placed(part, name, own, places)
            self._append(program, ops, places)
        named = zip(program.tensors, places, strict=True)
        self._stored.append({tensor.name: place.tensor for tensor, place in named})
        self._add_buffers(program, name)
        self.gathered_rows.append(program.gathered_rows)
        self._num_gathered += len(program.gathered_rows)
        self.overflows += part.runs * program.overflows
        self._num_parts += 1

    def program(self) -> Program:
        """Return what has grown."""
        return Program(
            name=self.name,
            ops=self.ops,
            item_start=np.concatenate(self.item_ends),
            item_phase=np.concatenate(self.item_phases),
            tensors=tuple(self.tensors),
            buffers=tuple(self.buffers),
            gathered_rows=np.concatenate(self.gathered_rows),
            overflows=self.overflows,
        )

    def _with_own_slots(self, program: Program) -> Words:
        """Return the ops with slots and gathered rows counted from those that are there."""
        ops = program.ops.copy()
        for word in (READS, WRITES):
            ops[:, word] += _shifts_of_slots(program.ops[:, word], self._num_slots)
        ops[program.op_codes == Op.GATHER, D] += self._num_gathered
        return ops

    def _placed(self, part: Part, name: str, own: str, earlier: list[_Place]) -> list[_Place]:
        """Return where the tensors of a run lie, after placing those that it begins with.

        earlier: of the run before, which had the same inputs; empty for the first run.
        """
        places = []
        for number, tensor in enumerate(part.program.tensors):
            if tensor.role != "input":
                places.append(self._place(tensor, own))
            elif earlier:
                places.append(earlier[number])
            elif tensor.name in part.reads:
                source, stored, first_byte = part.reads[tensor.name]
                places.append(_Place(self._stored[source][stored], first_byte))
            else:
                places.append(self._place(tensor, name))
        return places

    def _place(self, tensor: TensorInfo, prefix: str) -> _Place:
        placed = replace(tensor, name=f"{prefix}.{tensor.name}", address=self._next_address)
        self.tensors.append(placed)
        self._next_address = placed.next_address
        return _Place(len(self.tensors) - 1)

    def _append(self, program: Program, ops: Words, places: list[_Place]) -> None:
        """Append a run; places: of its tensors."""
        end = self._num_ops + len(ops)
        own = self.ops[self._num_ops : end]
        own[:] = ops
        moves = np.flatnonzero(program.units >= Unit.LOAD)
        tensors = program.tensor_indices[moves]
        numbers = np.array([place.tensor for place in places], np.int64)
        own[moves, HEAD] += (numbers[tensors] - tensors) << TENSOR_SHIFT
        own[moves, A] += self._address_shifts(program, places)[tensors]
        self.item_ends.append(program.item_start[1:] + self._num_ops)
        self.item_phases.append(program.item_phase + self._num_phases)
        self._num_ops = end
        self._num_phases += int(program.item_phase.max(initial=-1)) + 1

    def _address_shifts(self, program: Program, places: list[_Place]) -> Words:
        """Return how many bytes every tensor lies behind where it lay."""
        shifts = [
            self.tensors[number].address + first_byte - tensor.address
            for tensor, (number, first_byte) in zip(program.tensors, places, strict=True)
        ]
        return np.array(shifts, np.int64)

    def _add_buffers(self, program: Program, name: str) -> None:
        self.buffers += [
            replace(
                buffer,
                name=f"{name}.{buffer.name}",
                first_slot=buffer.first_slot + self._num_slots,
                part=self._num_parts,
            )
            for buffer in program.buffers
        ]
        self._num_slots += program.num_slots


def _shifts_of_slots(words: Words, shift: int) -> Words:
    """Return what to add to words of packed slots so that every slot is `shift` further on."""
    shifts = np.zeros_like(words)
    for place in range(SLOTS_PER_WORD):
        is_used = (words >> (SLOT_BITS * place)) & SLOT_MASK != 0
        shifts += np.where(is_used, np.int64(shift) << (SLOT_BITS * place), 0)
    return shifts
