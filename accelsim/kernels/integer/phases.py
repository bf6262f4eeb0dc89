"""Programs of several phases: codes are made first, then multiplied."""

from collections.abc import Callable
from typing import Any, NamedTuple

from accelsim.program.builder import ProgramBuilder
from accelsim.program.long import AnyProgram
from accelsim.program.recording import Recorder


class Loop(NamedTuple):
    """A compiled loop over work items: kernel(p, number of its phase, *arguments)."""

    kernel: Callable[..., None]
    items: int
    arguments: tuple[Any, ...]


Phase = list[Loop]
"""Loops whose items may run at the same time."""


def record_phases(builder: ProgramBuilder, phases: list[Phase]) -> AnyProgram:
    """Record one phase after the other; those without a loop are left out."""
    return builder.record(*in_turn(phases))


def in_turn(phases: list[Phase]) -> tuple[Callable[..., None], int, list[Phase]]:
    """Return what `ProgramBuilder.record` takes to record one phase after the other."""
    items = sum(loop.items for phase in phases for loop in phase)
    return _one_by_one, items, [phase for phase in phases if phase]


def _one_by_one(p: Recorder, phases: list[Phase]) -> None:
    for number, phase in enumerate(phases):
        for loop in phase:
            loop.kernel(p, number, *loop.arguments)
