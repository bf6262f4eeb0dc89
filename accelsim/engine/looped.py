"""The compiled engine for long programs whose loops were cut short: a window that skips periods.

The numbers are those of `window.schedule`. Where a loop or a machine does not allow it, that runs.
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.engine import window
from accelsim.engine.account import Accounts, Run
from accelsim.engine.durations import Work, work_of
from accelsim.engine.schedule import TIMES, Accounted, items_by_core
from accelsim.engine.steady import (
    LOOP,
    PERIODS,
    Steady,
    advance_steadily,
    new_steady,
    unrolled,
    with_room,
)
from accelsim.engine.window import PIECE_OPS, Known, Window, in_pieces, with_room_for
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.program.long import AnyProgram, LongProgram
from accelsim.program.ops import NUM_UNITS, WORDS, A, Unit
from accelsim.program.program import Program

_START, _PERIOD, _LEFT_OUT = range(3)
"""Columns of `Program.loops`."""


def schedule(program: AnyProgram, machine: MachineSpec, piece_ops: int = PIECE_OPS) -> Accounted:
    """Return what `window.schedule` does, sooner where loops repeat; raises as that."""
    is_flat = machine.l2 is None and not isinstance(machine.hbm, BankedHbmSpec)
    if isinstance(program, LongProgram) and is_flat:
        try:
            return in_pieces(program, machine, LoopedWindow, piece_ops, PERIODS)
        except LostError:
            pass
    return window.schedule(program, machine)


class OfDone(NamedTuple):
    """Room for a row for each op that items have done."""

    words: Any
    ops: Any


class LostError(Exception):
    """A loop does not repeat as it would have to."""


class LoopedWindow(Window):
    """The same, of items whose loops have periods left out."""

    def __init__(self, program: LongProgram, machine: MachineSpec, known: Known) -> None:
        super().__init__(program, machine, known)
        self._steady: Steady | None = None
        self._rested = np.zeros((machine.cores, NUM_UNITS), np.int64)
        self._bodies = dict[bytes, Program]()
        self._done = OfDone(np.zeros((0, WORDS), np.int64), np.recarray(0, TIMES))

    def _advance(self) -> None:
        steady = self._steady
        if steady is None:
            raise ValueError("a window has items")
        while not advance_steadily(self._state, self._memory, steady):
            steady = self._steady = with_room(steady)
        if steady.control.is_lost[0]:
            raise LostError

    def _end_cycles(self) -> int:
        skipped = self._steady.control.skipped_cycles[0] if self._steady else 0
        return super()._end_cycles() + int(skipped)

    def _accounts(self) -> Accounts:
        steady, own = self._steady, super()._accounts()
        if steady is None:
            return own
        return own._replace(
            busy=own.busy + steady.busy,
            stalls=own.stalls + steady.stalls,
            moved_bytes=own.moved_bytes + steady.moved,
        )

    def _add_up(self, piece: Program, work: Work) -> None:
        total, actions = work.longest.total, work.actions
        for body, periods in self._left_out(piece):
            own = work_of(body, self._machine)
            total, actions = total + periods * own.longest.total, actions + periods * own.actions
            self._moved += periods * np.array([body.totals.read_bytes, body.totals.write_bytes])
            self._num_ops += periods * body.num_ops
        longest = work.longest._replace(total=total)
        super()._add_up(piece, work._replace(actions=actions, longest=longest))

    def _left_out(self, piece: Program) -> list[tuple[Program, int]]:
        """Return the different periods that items of a piece leave out, and how many of each."""
        found = dict[bytes, int]()
        loops: Any = piece.loops
        for item in np.flatnonzero(loops[:, _LEFT_OUT]):
            start, period, left_out = loops[item].tolist()
            words = piece.ops[start : start + period].copy()
            words[piece.units[start : start + period] >= Unit.LOAD, A] = 0
            key = words.tobytes()
            found[key] = found.get(key, 0) + left_out
            if key not in self._bodies:
                self._bodies[key] = _body(piece, words)
        return [(self._bodies[key], periods) for key, periods in found.items()]

    def _append(self, piece: Program, work: Work) -> None:
        num_ops, num_items = len(self._state.ops), len(self._state.items)
        super()._append(piece, work)
        steady = self._steady
        if steady is None:
            memory: Any = self._memory
            steady = new_steady(self._state, memory)
        loops: Any = np.zeros(num_items + piece.num_items, LOOP).view(np.recarray)
        loops[:num_items] = steady.loops[:num_items]
        own, of_piece = loops[num_items:], np.asarray(piece.loops)
        own.due = of_piece[:, _LEFT_OUT]
        own.period = np.where(own.due > 0, of_piece[:, _PERIOD], 0)
        own.first_op = num_ops + np.where(own.due > 0, of_piece[:, _START], 0)
        own.end_op = own.first_op + PERIODS * own.period
        own.before_end = -1
        own.logged_to = self._state.items.first_op[num_items:]
        own.known_from = own.first_op
        self._steady = steady._replace(loops=loops)

    def _account(self, first: int, after: int, now: int | None) -> None:
        steady, state = self._steady, self._state
        if steady is None or first or steady.loops.due[:after].any():
            raise LostError
        count, since = after, None if now is None else self._since(after, now)
        items, logged = state.items[:count], int(steady.control.num_logged[0])
        num_ops = int(np.sum(items.end_op - steady.loops.logged_to[:count]))
        num_ops += int(np.sum(steady.log_item[:logged] < count))
        self._done = OfDone(*(with_room_for(each, 0, num_ops) for each in self._done))
        words, ops = (each[:num_ops] for each in self._done)
        starts = np.zeros(count + 1, np.int64)
        unrolled(state, steady, count, starts, words, ops, self._rested)
        by_core = items_by_core(items.core, self._machine.cores)
        self._ledger.add(Run(words, ops, starts, *by_core), since)
        self._last_end = max(self._last_end, int(ops.end.max(initial=0)))

    def _move(self, count: int) -> None:
        end = int(self._state.items.end_op[:count].max(initial=0))
        super()._move(count)
        steady: Any = self._steady
        loops = steady.loops[count:].copy()
        for name in ("first_op", "end_op", "logged_to", "known_from"):
            loops[name] -= end
        steady.log_op[:] -= end
        steady.log_item[:] -= count
        steady.mark.is_set = False
        self._steady = steady._replace(loops=loops)


def _body(piece: Program, words: Any) -> Program:
    """Return a period of a loop as a program."""
    none = np.zeros(0, np.int64)
    return Program(
        piece.name,
        words,
        item_start=np.array([0, len(words)]),
        item_phase=np.zeros(1, np.int64),
        tensors=piece.tensors,
        buffers=piece.buffers,
        gathered_rows=none,
    )
