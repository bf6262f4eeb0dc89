"""Several programs as one: phases one after another, tensors and slots side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from accelsim.errors import DoesNotFitError, WorkloadError
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
    reads: Mapping[str, str] = MappingProxyType({})
    """Input -> the earlier part whose output it is, `part.tensor` where that has several; where
    parts have one name the latest, of several runs the last."""


def joined(name: str, parts: Sequence[Part]) -> Program:
    """Return the program of parts that run one after another.

    The tensor `a` of the first part, qkv, is `0.qkv.a`, and so are buffers named. Runs of one part
    have their inputs and buffers in common, and every run its own `0.qkv[1].c`. Buffers of
    different parts take turns in the memories on chip. An input that is the output of an earlier
    part is that tensor. Raises DoesNotFitError for more ops, slots or tensors than a program
    may have, and WorkloadError for an input that is not what it is said to be.
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
        self._outputs: dict[str, dict[str, int]] = {}
        """Numbers of those of each part, in its last run, by their own names."""

    def add(self, part: Part) -> None:
        """Append all runs of a part."""
        program, name = part.program, f"{self._num_parts}.{part.name}"
        ops = self._with_own_slots(program)
        numbers: list[int] = []
        for run in range(part.runs):
            own = f"{name}[{run}]" if part.runs > 1 else name
            numbers = self._placed(part, name, own, numbers)
            self._append(program, ops, numbers)
        self._outputs[part.name] = {
            tensor.name: number
            for tensor, number in zip(program.tensors, numbers, strict=True)
            if tensor.role == "output"
        }
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

    def _placed(self, part: Part, name: str, own: str, earlier: list[int]) -> list[int]:
        """Return the numbers of the tensors of a run, after placing those that it begins with.

        earlier: of the run before, which had the same inputs; empty for the first run.
        """
        sources = {} if earlier else self._sources(part)
        numbers = []
        for number, tensor in enumerate(part.program.tensors):
            if tensor.role != "input":
                numbers.append(self._place(tensor, own))
            elif earlier:
                numbers.append(earlier[number])
            elif tensor.name in sources:
                numbers.append(sources[tensor.name])
            else:
                numbers.append(self._place(tensor, name))
        return numbers

    def _place(self, tensor: TensorInfo, prefix: str) -> int:
        placed = replace(tensor, name=f"{prefix}.{tensor.name}", address=self._next_address)
        self.tensors.append(placed)
        self._next_address = placed.next_address
        return len(self.tensors) - 1

    def _sources(self, part: Part) -> dict[str, int]:
        """Return the numbers of the outputs that are inputs of a part, by names of the inputs."""
        inputs = {each.name: each for each in part.program.tensors if each.role == "input"}
        found = {}
        for name, text in part.reads.items():
            start = f"{self.name}: part {part.name} reads {name} from {text}"
            if name not in inputs:
                raise WorkloadError(f"{start}: found no input {name}, allowed: {', '.join(inputs)}")
            found[name] = self._output(text, start)
            self._check_extents(part.program, inputs[name], self.tensors[found[name]], start)
        return found

    def _check_extents(
        self, program: Program, own: TensorInfo, source: TensorInfo, start: str
    ) -> None:
        """Refuse an output of other bytes than the input, or of other rows if they are picked."""
        is_equal = (own.size_bytes, own.bits) == (source.size_bytes, source.bits)
        gathered = program.tensor_indices[program.op_codes == Op.GATHER]
        has_rows = program.tensors.index(own) in gathered and own.row_bytes != source.row_bytes
        if not is_equal or has_rows:
            rows = ", in the same rows" if has_rows else ""
            raise WorkloadError(
                f"{start}: found {own.rows}x{own.cols} x {own.bits} bit and {source.name} of "
                f"{source.rows}x{source.cols} x {source.bits} bit, "
                f"allowed: equally many elements of equal width{rows}"
            )

    def _output(self, text: str, start: str) -> int:
        """Return the number of the output that a text names: `part`, or `part.tensor`."""
        part, _, tensor = (text, "", "") if text in self._outputs else text.rpartition(".")
        outputs = self._outputs.get(part, {})
        if tensor in outputs:
            return outputs[tensor]
        if len(outputs) == 1 and not tensor:
            return next(iter(outputs.values()))
        allowed = [f"{own}.{each}" for own, tensors in self._outputs.items() for each in tensors]
        raise WorkloadError(
            f"{start}: found no such output, allowed: {', '.join(allowed) or 'none, it is first'}"
        )

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
