"""The compiled engine for programs of any length: a window of items, and sums over those before.

Items at the begin of the window that are over are accounted and dropped. Ops and items are counted
from the begin of the window on (docs/decisions/0050-programs-of-any-length.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from accelsim.engine import compiled
from accelsim.engine.account import Accounts, Ledger, Run
from accelsim.engine.compiled import UNRESOLVED, OfOps, State, advance, new_items, new_state
from accelsim.engine.durations import NUM_COLUMNS, Work, launch_cycles, work_of
from accelsim.engine.events import has_events, next_time
from accelsim.engine.hazards import NONE, hazards_of
from accelsim.engine.limits import Longest, check_length
from accelsim.engine.memory.door import Memory, Room, ended, new_memory, room_for
from accelsim.engine.schedule import Accounted, items_by_core
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.units.base import Counts
from accelsim.program.activity import DramCommands, MemoryTraffic
from accelsim.program.long import AnyProgram, LongProgram, TooLargeItemError
from accelsim.program.ops import NUM_UNITS
from accelsim.program.program import Declared, Program
from accelsim.program.totals import Requested

PIECE_OPS = 1 << 17
"""Ops from which on a piece is scheduled: a few times what is in flight."""

_Found = TypeVar("_Found")


def schedule(program: AnyProgram, machine: MachineSpec, piece_ops: int = PIECE_OPS) -> Accounted:
    """Return the schedule of a program, or the sums over one that is too long to be held.

    Raises DoesNotFitError.
    """
    if isinstance(program, Program):
        return compiled.schedule(program, machine)
    return in_pieces(program, machine, Window, piece_ops)


def in_pieces(
    program: LongProgram,
    machine: MachineSpec,
    kind: "type[Window]",
    piece_ops: int = PIECE_OPS,
    most_periods: int = 0,
) -> "LongSchedule":
    """Return the sums over a program through a kind of window; most_periods: see `play`.

    Raises DoesNotFitError.
    """

    def run(known: Known) -> LongSchedule:
        window = kind(program, machine, known)
        program.play(window.take, known.piece_ops, most_periods)
        return window.finished(program)

    return informed(run, piece_ops)


def informed(run: Callable[["Known"], _Found], piece_ops: int = PIECE_OPS) -> _Found:
    """Return what a run finds, which begins anew when it learns what it should have known."""
    known = Known(piece_ops)
    while True:
        try:
            return run(known)
        except TooLargeItemError as error:
            known = known._replace(piece_ops=error.num_ops)
        except _LearnedError as error:
            known = error.known


@dataclass(frozen=True, eq=False)
class LongSchedule(Accounted):
    """What is known of a run whose ops were not kept."""

    program: AnyProgram
    cores: int
    sums: "Sums"
    actions: Counts
    cycles: int
    traffic: MemoryTraffic
    dram: DramCommands | None

    @property
    def accounts(self) -> Accounts:
        """What all ops added up to."""
        return self.sums.accounts

    @property
    def num_ops(self) -> int:
        """Ops of the program."""
        return self.sums.num_ops

    @property
    def requested(self) -> Requested:
        """Bytes that its transfers asked for."""
        return self.sums.requested


class Sums(NamedTuple):
    """Sums over the ops of a program."""

    accounts: Accounts
    num_ops: int
    requested: Requested


class Known(NamedTuple):
    """What must be known before the first event."""

    piece_ops: int
    room: Room | None = None
    """None: what the first piece takes."""
    phases_with: npt.NDArray[np.bool_] = np.zeros((0, NUM_UNITS), np.bool_)
    """See `Totals`."""


class _LearnedError(Exception):
    """A piece says what should have been known before."""

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.known = known


class Window:
    """The items of a long program from the first one that is not over to the last one recorded."""

    def __init__(self, program: Declared, machine: MachineSpec, known: Known) -> None:
        self._program, self._machine, self._known = program, machine, known
        self._state = new_state(program, machine)
        self._memory: Memory | None = None
        self._of_ops = OfOps(*self._state[: len(OfOps._fields)])
        self._items = self._state.items
        self._has_items = np.zeros(0, np.bool_)
        self._ledger = Ledger(program, machine.cores)
        self._longest = Longest(0.0, 0.0)
        self._actions = np.zeros((NUM_UNITS, NUM_COLUMNS), np.int64)
        self._moved = np.zeros((2, len(program.tensors)), np.int64)
        self._num_ops = self._last_end = 0

    def take(self, piece: Program) -> None:
        """Schedule as far as the next items allow."""
        work = work_of(piece, self._machine)
        self._add_up(piece, work)
        self._learn(piece)
        self._append(piece, work)
        self._advance()
        self._drop()

    def finished(self, program: LongProgram) -> LongSchedule:
        """Schedule what is left and return the sums."""
        memory = self._finish()
        requested = requested_of(*self._moved)
        sums = Sums(self._accounts(), self._num_ops, requested)
        run = ended(memory, requested, self._machine, self._end_cycles())
        return LongSchedule(program, self._machine.cores, sums, self._actions, *run)

    def _finish(self) -> Memory:
        """Schedule and account what is left; return the memory."""
        if self._memory is None:
            raise ValueError("a long program has pieces")
        self._state.run.is_complete = True
        self._advance()
        self._account(0, len(self._state.items), None)
        return self._memory

    def _advance(self) -> None:
        """Schedule as far as the items that are there allow."""
        advance(self._state, self._memory)

    def _end_cycles(self) -> int:
        """Return when the last op has ended."""
        return self._last_end

    def _accounts(self) -> Accounts:
        """Return what all ops added up to."""
        return self._ledger.accounts

    def _add_up(self, piece: Program, work: Work) -> None:
        """Add what the ops are to the sums; raises DoesNotFitError for too long a run."""
        transfer, total = work.longest
        self._longest = Longest(max(self._longest.transfer, transfer), self._longest.total + total)
        check_length(self._program.name, self._machine, self._longest)
        self._actions = self._actions + work.actions
        self._moved += [piece.totals.read_bytes, piece.totals.write_bytes]
        self._num_ops += piece.num_ops

    def _learn(self, piece: Program) -> None:
        """Note what a piece says of the whole; raises _LearnedError if that is too late."""
        room, known = room_for(self._machine, piece), self._known
        both = Room(*map(max, room, known.room or room))
        with_units = _either(known.phases_with, piece.totals.phases_with)
        self._known = known._replace(room=both, phases_with=with_units)
        self._has_items = _either(self._has_items, np.bincount(piece.item_phase) > 0)
        launches = launch_cycles(
            _either(self._has_items, np.zeros(len(with_units), np.bool_)), with_units, self._machine
        )
        run, before = self._state.run[0], self._state.launches
        opened = min(int(run.phase) + 1, len(before)) if run.has_begun else 0
        is_late = not np.array_equal(before[:opened], launches[:opened])
        if is_late or (self._memory is not None and both != known.room):
            raise _LearnedError(self._known)
        if self._memory is None:
            self._memory = new_memory(self._machine, piece, both)
        self._state = self._state._replace(launches=launches)

    def _append(self, piece: Program, work: Work) -> None:
        """Put the items of a piece behind those that are there."""
        state = self._state
        num_ops, num_items = len(state.ops), len(state.items)
        end = num_ops + piece.num_ops
        self._of_ops = OfOps(*(with_room_for(each, num_ops, end) for each in self._of_ops))
        self._of_ops.words[num_ops:end] = piece.ops
        self._of_ops.kinds[num_ops:end] = piece.units
        self._of_ops.busy_cycles[num_ops:end] = work.busy_cycles
        waits, marks, steps = hazards_of(piece)
        self._of_ops.waits[num_ops:end] = np.where(waits == NONE, NONE, waits + num_ops)
        self._of_ops.marks[num_ops:end] = marks
        self._of_ops.steps[num_ops:end] = steps
        # A sample asks for the ends of all ops of the items that are claimed.
        self._of_ops.ops["end"][num_ops:end] = UNRESOLVED
        self._items = with_room_for(self._items, num_items, num_items + piece.num_items)
        items = self._items[num_items : num_items + piece.num_items]
        items[:] = new_items(piece)
        items.first_op += num_ops
        items.end_op += num_ops
        left = np.bincount(piece.item_phase, minlength=len(state.phase_left))
        left[: len(state.phase_left)] += state.phase_left
        self._state = state._replace(phase_left=left.astype(np.int64))
        self._show(end, num_items + piece.num_items)

    def _show(self, num_ops: int, num_items: int) -> None:
        """Let the state have so many of the rows of ops and items."""
        rows = {name: each[:num_ops] for name, each in self._of_ops._asdict().items()}
        self._state = self._state._replace(**rows, items=self._items[:num_items])

    def _drop(self) -> None:
        """Account the items at the begin that are over, and move the others there."""
        state = self._state
        if not has_events.py_func(state.events):
            return
        now, items = next_time(state.events), state.items
        core, is_claimed = items.core, items.core != NONE
        is_open = is_claimed & (items.unresolved > 0)
        open_since = np.full(self._machine.cores, now)
        np.minimum.at(open_since, core[is_open], items.claimed_at[is_open])
        # Whoever is open or comes later was claimed after the end of such an item.
        is_over = is_claimed & ~is_open & (items.retired_at <= open_since[core])
        count = int(np.argmin(np.append(is_over, False)))
        if count == 0:
            return
        self._account(0, count, now)
        self._move(count)

    def _account(self, first: int, after: int, now: int | None) -> None:
        """Add items first..after - 1 to the sums; now: the next event, None where there is none."""
        state = self._state
        items, end = state.items[first:after], int(state.items.end_op[:after].max(initial=0))
        starts = np.append(items.first_op, end)
        by_core = items_by_core(items.core, self._machine.cores)
        since = None if now is None else self._since(after, now)
        self._ledger.add(Run(state.words, state.ops, starts, *by_core), since)
        self._last_end = max(self._last_end, int(state.ops.end[:end].max(initial=0)))

    def _since(self, first: int, now: int) -> Counts:
        """Return for each core before when no op starts of the items from `first` on."""
        items = self._state.items[first:]
        claimed, since = items[items.core != NONE], np.full(self._machine.cores, now)
        np.minimum.at(since, claimed.core, claimed.claimed_at)
        return since

    def _move(self, count: int) -> None:
        """Begin the window with item number `count`."""
        state = self._state
        num_items, num_ops = len(state.items), len(state.ops)
        end = int(state.items.end_op[:count].max(initial=0))
        for each in (*self._of_ops, self._items):
            begin, stop = (count, num_items) if each is self._items else (end, num_ops)
            each[: stop - begin] = each[begin:stop]
        self._show(num_ops - end, num_items - count)
        _count_from(self._state, end, count)


def requested_of(read_bytes: Counts, write_bytes: Counts) -> Requested:
    """Return what transfers asked for; read_bytes, write_bytes: [tensor]."""
    by_tensor = tuple((read_bytes + write_bytes).tolist())
    return Requested(int(read_bytes.sum()), int(write_bytes.sum()), by_tensor)


def _either(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return what either says of phases, of which one may know fewer."""
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    both = longer.copy()
    both[: len(shorter)] |= shorter
    return both


def with_room_for(rows: Any, used: int, needed: int) -> Any:
    """Return an array of at least `needed` rows, which begins with the `used` first of `rows`."""
    if needed <= len(rows):
        return rows
    longer = np.empty((needed + needed // 4, *rows.shape[1:]), rows.dtype)
    longer[:used] = rows[:used]
    return longer.view(np.recarray) if rows.dtype.names else longer


def _count_from(state: State, first_op: int, first_item: int) -> None:
    """Count ops and items from these on; what lies before them is NONE."""
    units, run = state.units, state.run
    for numbers in (state.waits, state.touched, units.head, units.tail, state.ops.successor):
        numbers[:] = np.maximum(numbers - first_op, NONE)
    units.blocked_by = NONE
    units.work_item -= first_item
    state.recent[:] = np.maximum(state.recent - first_item, NONE)
    state.ops.work_item[:] -= first_item
    state.items.first_op[:] -= first_op
    state.items.end_op[:] -= first_op
    run.next_item -= first_item
    run.first_item += first_item
