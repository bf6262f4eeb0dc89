"""Which programs are sampled, and how much of them."""

import numpy as np

from accelsim.config.sample import Sample
from accelsim.engine import looped
from accelsim.engine.sampling.items import num_ops_of
from accelsim.engine.sampling.schedule import schedule as sampled
from accelsim.engine.schedule import Accounted
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.program.long import AnyProgram
from accelsim.program.ops import MAX_OPS
from accelsim.program.program import Program

MOST_STEPS = 1 << 28
"""Steps from which on `auto` samples a program: all of it would take more than a second, where
tiles are looked up at once (5 ns a line), to half a minute, where bursts of a banked HBM are served
(100 ns). So it is with more than MAX_OPS ops."""
_SAMPLE_STEPS = 1 << 23
"""Steps that a sample may take, a few seconds; see `plan` for the fewest."""
_LOOKED_AT = 64
"""Items from which the bytes of a program that is not held are estimated."""


def schedule(program: AnyProgram, machine: MachineSpec, sample: Sample) -> Accounted:
    """Return the schedule of all of a program, or what a sample says of it; raises DoesNotFitError.

    A sample that would be most of the program is the whole schedule.
    """
    if sample == "never":
        share = 1.0
    else:
        share = _affordable_share(program, machine) if sample == "auto" else float(sample)
    found = sampled(program, machine, share) if share < 1 else None
    return found or looped.schedule(program, machine)


def _affordable_share(program: AnyProgram, machine: MachineSpec) -> float:
    """Return the share of a program that is scheduled by `auto`; 1: all of it."""
    num_ops = float(num_ops_of(program).sum())
    steps = num_ops * (1 + _pieces_per_op(program, machine))
    if steps <= MOST_STEPS and num_ops <= MAX_OPS:
        return 1.0
    return _SAMPLE_STEPS / steps


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
        program.play(take, MAX_OPS >> 5, wanted=[(item, item + 1) for item in items])
    return seen[0] / piece_bytes / max(seen[1], 1)
