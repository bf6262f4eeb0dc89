"""A program of any length: its ops are recorded again, piece by piece, for whoever asks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.errors import DoesNotFitError, ProgramError
from accelsim.program.ops import (
    BYTES_PER_OP,
    ENOUGH,
    HAND_OVER,
    HEADER_WORDS,
    ITEM_CAPACITY,
    ITEM_LOOP,
    ITEM_PHASE,
    ITEM_START,
    ITEM_WORDS,
    LEAVES_OUT,
    MAX_OPS,
    MOST_PERIODS,
    MOST_RECORDED,
    NEXT_CUT,
    NUM_BEGUN,
    NUM_INDICES,
    NUM_ITEMS,
    NUM_RECORDED,
    REFUSED_OP,
    WORDS,
)
from accelsim.program.program import BufferInfo, Declared, Program, TensorInfo
from accelsim.program.refusal import refusal
from accelsim.runtime.callback import Callback

_GIGABYTE = 1e9
_PIECE_ITEMS = 1 << 16
"""Most items of a piece."""
_NEVER = -1
Segments = Sequence[tuple[int, int]]
"""First item of each, and the one after its last."""


class TooLargeItemError(Exception):
    """A work item does not fit a piece; `num_ops` is how many ops a piece then has, or more."""

    def __init__(self, num_ops: int) -> None:
        super().__init__(num_ops)
        self.num_ops = num_ops


class Recording(NamedTuple):
    """A kernel with all that it takes, which records the same ops whenever it runs."""

    kernel: Callable[..., None]
    num_items: int
    """Work items that it begins."""
    arguments: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class LongProgram(Declared):
    """A program of more than HELD_OPS ops; it gathers no rows, and computes nothing."""

    name: str
    recording: Recording
    tensors: tuple[TensorInfo, ...]
    buffers: tuple[BufferInfo, ...]
    overflows: int = 0
    statistics: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, int | str | bool | float] = field(default_factory=dict)

    def play(
        self,
        take: Callable[[Program], None],
        piece_ops: int,
        most_periods: int = 0,
        wanted: Segments | None = None,
    ) -> None:
        """Record ops again and hand them to `take` in pieces, each a program of whole items.

        The arrays of a piece are used again for the next one. piece_ops: from how many on a piece
        is handed over; an item may have as many. most_periods: that are recorded of a loop that
        repeats itself, see `Program.loops`; 0: all. wanted: segments of items, in order, of which
        a piece has no more than one; None: all items are. Raises what `take` raises,
        TooLargeItemError, and ProgramError when an op asks for more than a tile or tensor has.
        """
        if wanted is None:
            wanted = [(0, self.recording.num_items)]
        _Player(self, take, piece_ops, wanted, most_periods=most_periods).run()

    @cached_property
    def num_ops(self) -> int | None:
        """Number of ops, counted when it is asked for; None: more than can be held, MAX_OPS."""
        kernel, num_items, arguments = self.recording
        recorder = new_recorder(num_items, 0)
        with suppress(OverflowError):
            kernel(recorder, *arguments)
        counted = int(recorder[NUM_RECORDED])
        return counted if counted <= MAX_OPS else None

    @cached_property
    def item_phase(self) -> npt.NDArray[np.int64]:
        """Phase of every work item."""
        phases: list[npt.NDArray[np.int64]] = []
        _Player(self, lambda piece: None, MAX_OPS >> 5, [], leave=phases.append).run()
        return np.concatenate(phases)

    def whole(self, num_ops: int) -> Program:
        """Return the same program with its ops, of which there are so many; raises ProgramError."""
        kernel, num_items, arguments = self.recording
        recorder = new_recorder(num_items, num_ops * WORDS)
        # A kernel stops behind an op that asks for too much.
        with suppress(OverflowError):
            kernel(recorder, *arguments)
        program = whole_program(self.name, recorder, self.tensors, self.buffers, num_items)
        return replace(program, statistics=self.statistics, parameters=self.parameters)


AnyProgram = Program | LongProgram


def held(program: AnyProgram, purpose: str) -> Program:
    """Return a program with all its ops; purpose: what needs them. Raises DoesNotFitError."""
    if isinstance(program, Program):
        return program
    if program.num_ops is not None:
        return program.whole(program.num_ops)
    raise DoesNotFitError(
        f"{program.name}: has more than {MAX_OPS} ops, and {purpose} needs all of them at once, "
        f"more than {MAX_OPS * BYTES_PER_OP / _GIGABYTE:.1f} GB; "
        f"choose larger tiles or a smaller problem"
    )


class _Player:
    """One run of a recording."""

    def __init__(
        self,
        program: LongProgram,
        take: Callable[[Program], None],
        piece_ops: int,
        wanted: Segments,
        *,
        most_periods: int = 0,
        leave: Callable[[npt.NDArray[np.int64]], None] | None = None,
    ) -> None:
        """leave: what is given the phases of items that are left out."""
        self._program, self._take, self._leave = program, take, leave
        self._capacity_ops = 2 * piece_ops if wanted else 0
        items = min(program.recording.num_items, _PIECE_ITEMS)
        self._recorder = new_recorder(items, self._capacity_ops * WORDS)
        self._recorder[ENOUGH] = piece_ops
        self._recorder[MOST_PERIODS] = most_periods
        self._cuts = _cuts_of(wanted)
        self._turn_to_next()

    def run(self) -> None:
        recorder, recording = self._recorder, self._program.recording
        callback = Callback(self._hand_over, self._stop)
        recorder[HAND_OVER] = callback.address
        try:
            recording.kernel(recorder, *recording.arguments)
        except OverflowError:
            if callback.failure is None and not recorder[REFUSED_OP]:
                raise DoesNotFitError(
                    f"{self._program.name}: a work item needs more than {MAX_OPS} ops, the most "
                    f"that are held; choose larger tiles or a smaller problem"
                ) from None
        if callback.failure is not None:
            raise callback.failure
        self._hand_over()
        check_items(self._program.name, int(recorder[NUM_BEGUN]), recording.num_items)

    def _stop(self) -> None:
        self._recorder[NUM_RECORDED] = MAX_OPS + 1

    def _hand_over(self) -> None:
        recorder = self._recorder
        self._leave_out() if recorder[LEAVES_OUT] else self._hand_on()
        recorder[NUM_RECORDED] = recorder[NUM_ITEMS] = 0
        if recorder[NUM_BEGUN] == recorder[NEXT_CUT]:
            self._turn_to_next()

    def _turn_to_next(self) -> None:
        """Turn to the next segment of items, wanted or not."""
        self._recorder[LEAVES_OUT], self._recorder[NEXT_CUT] = next(self._cuts)

    def _leave_out(self) -> None:
        if self._leave is not None:
            num_items = int(self._recorder[NUM_ITEMS])
            items = self._recorder[HEADER_WORDS : HEADER_WORDS + num_items * ITEM_WORDS]
            self._leave(items[ITEM_PHASE::ITEM_WORDS].copy())

    def _hand_on(self) -> None:
        recorder, program = self._recorder, self._program
        num_ops = int(recorder[NUM_RECORDED])
        if num_ops > self._capacity_ops:
            raise TooLargeItemError(num_ops)
        piece = recorded_program(program.name, recorder, program.tensors, program.buffers)
        if recorder[REFUSED_OP]:
            raise refusal(piece, recorder)
        self._take(piece)


def _cuts_of(wanted: Segments) -> Iterator[tuple[bool, int]]:
    """Yield whether items are left out, and up to which one: in turn for segments and gaps."""
    end = 0
    for first, after in wanted:
        if first > end:
            yield True, first
        yield False, after
        end = after
    while True:
        yield True, _NEVER


def whole_program(
    name: str,
    recorder: npt.NDArray[np.int64],
    tensors: tuple[TensorInfo, ...],
    buffers: tuple[BufferInfo, ...],
    announced: int,
) -> Program:
    """Return the program in a recorder that has all of it; announced: its work items.

    Raises ProgramError when an op asks for more than a tile or tensor has, and for other items.
    """
    program = recorded_program(name, recorder, tensors, buffers)
    if recorder[REFUSED_OP]:
        raise refusal(program, recorder)
    check_items(name, int(recorder[NUM_ITEMS]), announced)
    return program


def check_items(name: str, begun: int, announced: int) -> None:
    """Refuse a kernel that began another number of work items; raises ProgramError."""
    if begun != announced:
        raise ProgramError(f"{name}: began {begun} work items, but announced {announced}")


def new_recorder(
    num_items: int, capacity_words: int, most_ops: int = MAX_OPS
) -> npt.NDArray[np.int64]:
    """Return an empty recorder for so many items and words of ops; it stops after `most_ops`."""
    # Untouched pages of an empty array cost nothing, so a generous capacity is free.
    recorder = np.empty(HEADER_WORDS + num_items * ITEM_WORDS + capacity_words, np.int64)
    recorder[:HEADER_WORDS] = 0
    recorder[ITEM_CAPACITY], recorder[MOST_RECORDED] = num_items, most_ops
    return recorder


def recorded_program(
    name: str,
    recorder: npt.NDArray[np.int64],
    tensors: tuple[TensorInfo, ...],
    buffers: tuple[BufferInfo, ...],
) -> Program:
    """Return the program in a recorder, whose words of ops it shares."""
    num_ops, capacity = int(recorder[NUM_RECORDED]), int(recorder[ITEM_CAPACITY])
    num_items = min(int(recorder[NUM_ITEMS]), capacity)
    first = HEADER_WORDS + capacity * ITEM_WORDS
    items = recorder[HEADER_WORDS : HEADER_WORDS + num_items * ITEM_WORDS]
    items = items.reshape(num_items, ITEM_WORDS)
    return Program(
        name=name,
        ops=recorder[first : first + num_ops * WORDS].reshape(num_ops, WORDS),
        item_start=np.append(items[:, ITEM_START], num_ops),
        item_phase=items[:, ITEM_PHASE].copy(),
        loops=items[:, ITEM_LOOP:].copy() if recorder[MOST_PERIODS] else None,
        tensors=tensors,
        buffers=buffers,
        gathered_rows=recorder[::-1][: recorder[NUM_INDICES]].copy(),
    )
