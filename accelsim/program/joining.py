"""Several programs as one: phases one after another, tensors and slots side by side."""

from collections.abc import Sequence
from dataclasses import replace
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


class Part(NamedTuple):
    """A sound program that runs `runs` times in a row."""

    name: str
    program: Program
    runs: int = 1


def joined(name: str, parts: Sequence[Part]) -> Program:
    """Return the program of parts that run one after another.

    The tensor `a` of the first part, qkv, is `0.qkv.a`, and so are buffers named. Runs of one part
    have their inputs and buffers in common, and every run its own `0.qkv[1].c`. Buffers of
    different parts take turns in the memories on chip. Raises DoesNotFitError for more ops, slots
    or tensors than a program may have.
    """
    _check_limits(name, parts)
    joint = _Joint(sum(part.runs * part.program.num_ops for part in parts))
    for part in parts:
        joint.add(part)
    return joint.program(name)


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

    def __init__(self, num_ops: int) -> None:
        self.ops = np.empty((num_ops, WORDS), np.int64)
        self.item_ends: list[Words] = [np.zeros(1, np.int64)]
        self.item_phases: list[Words] = [np.zeros(0, np.int64)]
        self.gathered_rows: list[Words] = [np.zeros(0, np.int64)]
        self.tensors: list[TensorInfo] = []
        self.buffers: list[BufferInfo] = []
        self.overflows = 0
        self._num_parts = self._num_ops = self._num_phases = 0
        self._num_slots = self._num_gathered = 0

    def add(self, part: Part) -> None:
        """Append all runs of a part."""
        program, name = part.program, f"{self._num_parts}.{part.name}"
        ops = self._with_own_slots(program)
        numbers: list[int] = []
        for run in range(part.runs):
            own = f"{name}[{run}]" if part.runs > 1 else name
            numbers = self._placed(program, name, own, numbers)
            self._append(program, ops, numbers)
        self._add_buffers(program, name)
        self.gathered_rows.append(program.gathered_rows)
        self._num_gathered += len(program.gathered_rows)
        self.overflows += part.runs * program.overflows
        self._num_parts += 1

    def program(self, name: str) -> Program:
        """Return what has grown."""
        return Program(
            name=name,
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

    def _placed(self, program: Program, name: str, own: str, earlier: list[int]) -> list[int]:
        """Return the numbers of the tensors of a run, after placing those that it begins with.

        earlier: of the run before, which had the same inputs; empty for the first run.
        """
        return [
            earlier[number]
            if earlier and tensor.role == "input"
            else self._place(tensor, name if tensor.role == "input" else own)
            for number, tensor in enumerate(program.tensors)
        ]

    def _place(self, tensor: TensorInfo, prefix: str) -> int:
        address = self.tensors[-1].next_address if self.tensors else 0
        self.tensors.append(replace(tensor, name=f"{prefix}.{tensor.name}", address=address))
        return len(self.tensors) - 1

    def _append(self, program: Program, ops: Words, numbers: list[int]) -> None:
        """Append a run; numbers: of its tensors."""
        end = self._num_ops + len(ops)
        own = self.ops[self._num_ops : end]
        own[:] = ops
        moves = np.flatnonzero(program.units >= Unit.LOAD)
        tensors = program.tensor_indices[moves]
        own[moves, HEAD] += (np.array(numbers, np.int64)[tensors] - tensors) << TENSOR_SHIFT
        own[moves, A] += self._address_shifts(program, numbers)[tensors]
        self.item_ends.append(program.item_start[1:] + self._num_ops)
        self.item_phases.append(program.item_phase + self._num_phases)
        self._num_ops = end
        self._num_phases += int(program.item_phase.max(initial=-1)) + 1

    def _address_shifts(self, program: Program, numbers: list[int]) -> Words:
        """Return how many bytes every tensor lies behind where it lay."""
        earlier = zip(program.tensors, numbers, strict=True)
        shifts = [self.tensors[number].address - tensor.address for tensor, number in earlier]
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
