"""Programs that were recorded lately: work that differs only in its timing records once.

A recording without numbers follows from the loop and its arguments alone. Points of a sweep that
change a bandwidth, a latency or the number of cores often have the same of both.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

from accelsim.program.long import AnyProgram
from accelsim.program.program import Program

MOST_BYTES = 256 << 20
"""Bytes of the programs that are kept; those that nobody asked for longest go first."""
MOST_PROGRAMS = 64
"""Programs that are kept: the words of a short one lie in more address space than they need."""


def content_of(arguments: tuple[Any, ...]) -> bytes | None:
    """Return bytes that only arguments of the same types and contents have; None for none."""
    try:
        return pickle.dumps(arguments, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


class SharedPrograms:
    """Programs by what they were recorded from, the one asked for last at the end."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0
        self._programs = OrderedDict[Hashable, Program]()
        self._lock = Lock()

    def recorded(
        self, declared: Hashable, arguments: tuple[Any, ...], record: Callable[[], AnyProgram]
    ) -> AnyProgram:
        """Return the program of a loop over what is declared, recorded now unless it is held.

        It is held only if recording leaves the arguments as they were: a loop that counts into an
        array has to run again to tell its counts.
        """
        content = content_of(arguments)
        key = declared, content
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
                return self._programs[key]
        program = record()
        if content is not None and content_of(arguments) == content:
            self._hold(key, program)
        return program

    def forget(self) -> None:
        """Hold nothing any more, so that the next recording is one."""
        with self._lock:
            self._programs.clear()
            self._held_bytes = 0

    def _hold(self, key: Hashable, program: AnyProgram) -> None:
        with self._lock:
            # A program of any length holds no words.
            if not isinstance(program, Program):
                return
            if key in self._programs or program.size_bytes > self._most_bytes:
                return
            self._programs[key] = program
            self._held_bytes += program.size_bytes
            while self._held_bytes > self._most_bytes or len(self._programs) > MOST_PROGRAMS:
                _, oldest = self._programs.popitem(last=False)
                self._held_bytes -= oldest.size_bytes


PROGRAMS = SharedPrograms()
"""Those of this process."""
