"""Decode over a sliding window and the first tokens, the attention sinks.

A step attends to the first `sinks` keys and the last `window` ones; nothing else is read or
multiplied. Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (2023,
arXiv 2309.17453); positions are those of the full sequence, as the keys come rotated.

HBM reads of a KV head in a step that sees n keys: group d b + 2 min(n, sinks + window) d b;
writes: group d b.
"""

from typing import ClassVar, NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode.frame import (
    DecodeKernel,
    DecodeParameters,
    Generation,
    seen_by_steps,
)
from accelsim.kernels.attention.decode.kept import note_range, record_selection
from accelsim.kernels.attention.decode.steps import Range, attend_to_both, begin_step


class WindowParameters(DecodeParameters):
    """Choices of the window kernel."""

    window: al.Size = 256
    """Latest keys that a step attends to, its own among them."""
    sinks: al.SizeOrZero = 4
    """First keys that every step attends to."""
    exact_steps: al.SizeOrZero = 0
    """First steps with attention over all keys, as a method that warms up has them."""


class _Own(NamedTuple):
    """Keys that a step attends to."""

    window: int
    sinks: int


@al.jit
def window(p, k):
    """All steps, one after the other."""
    for item in range(k.steps * k.heads):
        at = begin_step(p, item, k)
        recent = 0 if at.step < k.exact_steps else max(0, at.seen - k.own.window)
        sinks = min(k.own.sinks, recent)
        note_range(k.mask, 0, sinks, at, k)
        note_range(k.mask, recent, at.seen, at, k)
        latest = Range(at.kv_row + recent, at.seen - recent)
        attend_to_both(p, Range(at.kv_row, sinks), latest, at, k)


class Window(DecodeKernel):
    """Decode over a sliding window with sinks."""

    name: ClassVar[str] = "window"
    summary: ClassVar[str] = "decode over the latest tokens and the first ones"
    is_exact: ClassVar[bool] = False
    parameters: ClassVar[type[al.Spec]] = WindowParameters

    @classmethod
    def record(
        cls,
        problem: al.AttentionProblem,
        machine: al.MachineSpec,
        parameters: WindowParameters,
        tensors: al.AttentionTensors | None,
    ) -> tuple[al.Program, al.Array | None]:
        """Return the program and, with tensors, the output [rows of Q, head_dim]."""
        exact_steps = min(parameters.exact_steps, problem.steps)
        own = _Own(parameters.window, parameters.sinks)
        most_keys = min(problem.most_keys, parameters.sinks + parameters.window)
        if exact_steps:
            most_keys = max(most_keys, int(seen_by_steps(problem)[exact_steps - 1].max()))
        generation = Generation(cls.name, problem, machine, parameters, lambda _: own)
        frame = generation.laid_out(tensors, most_keys)
        return record_selection(frame, window, exact_steps), frame.output
