"""The estimate ranks, the simulator decides, and the choice is remembered.

An estimate is good to some percent. A kernel tells the candidates that it cannot tell apart, and
the fastest of them in the compiled engine is taken; of equal ones that of the best estimate. Of a
program of many ops, in which one tile more or less means little, the estimate alone decides.
See docs/decisions/0061-trials.md.
"""

from contextlib import suppress
from typing import Any, NamedTuple

from accelsim.choosing.asked import Asked, Settings
from accelsim.choosing.memory import known_settings, remember
from accelsim.engine import window
from accelsim.engine.schedule import Accounted
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.program.long import AnyProgram
from accelsim.program.program import Program

MOST_OPS = 1 << 15
"""Ops of the longest program that has trials, with the tiles of the best estimate. Of 41 with up to
four times as many the trials saved 1.9 % at most, of 16 with more than a quarter up to 5.5 %."""
MOST_OPS_OF_A_RIVAL = 2 * MOST_OPS
"""Ops of the longest program that is tried beside it: another tiling may have a few more."""


class Trial(NamedTuple):
    """A program that was recorded to settle something, and its run if it was tried."""

    program: AnyProgram
    machine: MachineSpec
    run: Accounted | None = None

    @classmethod
    def of(cls, asked: Asked, settings: Settings, most_ops: int) -> "Trial":
        """Record, and schedule what is short enough to be tried; raises DoesNotFitError."""
        program = asked.with_settings(settings).record()
        is_short = isinstance(program, Program) and program.num_ops <= most_ops
        run = window.schedule(program, asked.machine) if is_short else None
        return cls(program, asked.machine, run)

    def schedule(self, program: AnyProgram, machine: MachineSpec) -> Accounted:
        """Return the run of this program, without scheduling it again at the same clock."""
        is_same = program is self.program and machine.clock == self.machine.clock
        return self.run if self.run and is_same else window.schedule(program, machine)


class Settled(NamedTuple):
    """What is asked for with nothing left open, but for what the kernel finds by itself."""

    parameters: Any
    trial: Trial | None = None
    """Of the same parameters, if it took place just now: nothing is to be done again."""


def settled(asked: Asked) -> Settled:
    """Return the parameters that a kernel takes; raises DoesNotFitError."""
    if not asked.is_open:
        return Settled(asked.parameters)
    known, trial = known_settings(asked), None
    if known is None:
        known, trial = _fastest(asked)
        remember(asked, known)
    return Settled(asked.with_settings(known).parameters, trial)


def _fastest(asked: Asked) -> tuple[Settings, Trial | None]:
    """Return the fastest of the candidates, and its trial unless the estimate alone decides."""
    first, *others = asked.kernel.rivals(asked.problem, asked.machine, asked.parameters)
    if not others:
        return dict(first), None
    best, fastest = first, Trial.of(asked, first, MOST_OPS)
    if fastest.run is None:
        return dict(first), fastest
    for settings in others:
        with suppress(DoesNotFitError):
            trial = Trial.of(asked, settings, MOST_OPS_OF_A_RIVAL)
            if trial.run and trial.run.cycles < fastest.run.cycles:
                best, fastest = settings, trial
    return dict(best), fastest
