"""Which programs are sampled, and how much of them."""

import math
from typing import Any, Literal

import numpy as np

from accelsim.engine import window
from accelsim.engine.sampling.schedule import schedule as sampled
from accelsim.engine.schedule import Accounted
from accelsim.errors import SampleError
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.program.long import AnyProgram
from accelsim.program.ops import MAX_OPS
from accelsim.program.program import Program

Sample = Literal["auto", "never"] | float
"""Whether a sample stands for a program: where that saves much, or not; or the share of its ops."""
ALLOWED = "auto, never, or the share of the ops to schedule, above 0 and at most 1, such as 0.05"

MOST_STEPS = 1 << 28
"""Steps from which on a program is sampled unless all of it is asked for: it would take more than
about half a minute, at a hundred nanoseconds a step. So it is with more than MAX_OPS ops."""
_SAMPLE_STEPS = 1 << 24
"""Steps that a sample may take, a few seconds; see `plan` for the fewest."""
_LOOKED_AT = 64
"""Items from which the bytes of a program that is not held are estimated."""


def checked_sample(value: Any) -> Sample:
    """Return what is asked for, which may be text; raises SampleError."""
    if value in ("auto", "never"):
        return "auto" if value == "auto" else "never"
    try:
        share = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 < share <= 1:
        raise SampleError(f"sample: found {value}, allowed: {ALLOWED}")
    return share


def schedule(program: AnyProgram, machine: MachineSpec, sample: Sample = "never") -> Accounted:
    """Return the schedule of all of a program, or what a sample says of it; raises DoesNotFitError.

    A sample that would be most of the program is the whole schedule.
    """
    share = sample if not isinstance(sample, str) else 0.0
    if sample == "auto":
        share = _affordable_share(program, machine)
    if sample == "never" or share >= 1:
        return window.schedule(program, machine)
    return sampled(program, machine, share) or window.schedule(program, machine)


def _affordable_share(program: AnyProgram, machine: MachineSpec) -> float:
    """Return the share of a program that is scheduled where nobody asks; 1: all of it."""
    num_ops = program.num_ops
    if num_ops is not None and num_ops <= MAX_OPS:
        steps = num_ops + num_ops * _pieces_per_op(program, machine)
        return 1.0 if steps <= MOST_STEPS else _SAMPLE_STEPS / steps
    least_steps = MAX_OPS * (1 + _pieces_per_op(program, machine))
    return _SAMPLE_STEPS / least_steps


def _pieces_per_op(program: AnyProgram, machine: MachineSpec) -> float:
    """Return how many pieces of bytes the memory handles for an op, in the mean."""
    if machine.l2 is not None:
        piece_bytes = machine.l2.line
    elif isinstance(machine.hbm, BankedHbmSpec):
        piece_bytes = machine.hbm.dram.shape.burst
    else:
        return 0.0
    seen = [0, 0]

    def take(piece: Program) -> None:
        requested = piece.totals.requested
        seen[0] += requested.read_bytes + requested.write_bytes
        seen[1] += piece.num_ops

    if isinstance(program, Program):
        take(program)
    else:
        last = program.recording.num_items - 1
        items = np.unique(np.linspace(0, last, _LOOKED_AT).astype(np.int64)).tolist()
        program.play(take, MAX_OPS >> 5, [(item, item + 1) for item in items])
    return seen[0] / piece_bytes / max(seen[1], 1)
