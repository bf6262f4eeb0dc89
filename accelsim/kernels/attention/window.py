"""Decode over a sliding window and the first tokens, the attention sinks.

A step attends to the first `sinks` keys and the last `window` ones; nothing else is read or
multiplied. Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (2023,
arXiv 2309.17453); positions are those of the full sequence, as the keys come rotated.

HBM reads of a KV head in a step that sees n keys: group d b + 2 min(n, sinks + window) d b;
writes: group d b.
"""

from typing import ClassVar, NamedTuple

from accelsim.config.spec import Size, SizeOrZero, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit
from accelsim.kernels.attention.decode import (
    DecodeKernel,
    DecodeParameters,
    Frame,
    seen_in_exact_steps,
)
from accelsim.kernels.attention.kept import note_range, record_selection
from accelsim.kernels.attention.steps import (
    add_value_range,
    as_operand,
    exponentials,
    load_queries,
    score_range,
    seen_keys,
    store_output,
)
from accelsim.kernels.base import Array
from accelsim.program.old.language import begin_item, tile
from accelsim.program.program import Program
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


class WindowParameters(DecodeParameters):
    """Choices of the window kernel."""

    window: Size = 256
    """Latest keys that a step attends to, its own among them."""
    sinks: SizeOrZero = 4
    """First keys that every step attends to."""
    exact_steps: SizeOrZero = 0
    """First steps with attention over all keys, as a method that warms up has them."""


class _Choice(NamedTuple):
    window: int
    sinks: int
    exact_steps: int


@jit
def window(p, shape, fmt, choice, mask, hbm, b):
    """All steps, one after the other."""
    for item in range(shape.steps * shape.heads):
        step, head = item // shape.heads, item % shape.heads
        begin_item(p, step)
        cols, row, x = seen_keys(step, shape), head * shape.kv_len, tile(b.x, 0)
        is_exact = step < choice.exact_steps
        recent = 0 if is_exact else max(0, cols - choice.window)
        sinks = min(choice.sinks, recent)
        latest, kept = cols - recent, sinks + cols - recent
        note_range(mask, head * shape.group, step, shape.group, 0, sinks)
        note_range(mask, head * shape.group, step, shape.group, recent, cols)
        queries = load_queries(p, step, head, shape, hbm, b)
        score_range(p, x, 0, queries, row, sinks, shape, fmt, hbm, b)
        score_range(p, x, sinks, queries, row + recent, latest, shape, fmt, hbm, b)
        exponentials(p, x, kept, shape, fmt, b)
        weights = as_operand(p, x, kept, shape, fmt, b)
        add_value_range(p, weights, 0, row, sinks, False, shape, fmt, hbm, b)
        add_value_range(p, weights, sinks, row + recent, latest, sinks > 0, shape, fmt, hbm, b)
        store_output(p, step, head, tile(b.total, 0), shape, fmt, hbm, b)


class Window(DecodeKernel):
    """Decode over a sliding window with sinks."""

    name: ClassVar[str] = "window"
    summary: ClassVar[str] = "decode over the latest tokens and the first ones"
    is_exact: ClassVar[bool] = False
    parameters: ClassVar[type[Spec]] = WindowParameters

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: WindowParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        exact_steps = min(parameters.exact_steps, problem.q_len)
        most_keys = max(
            min(problem.kv_len, parameters.sinks + parameters.window),
            seen_in_exact_steps(problem, exact_steps),
        )
        frame = Frame.prepare(cls.name, problem, machine, parameters, tensors, most_keys=most_keys)
        choice = _Choice(parameters.window, parameters.sinks, exact_steps)
        return record_selection(frame, window, exact_steps, choice), frame.output
