"""Decode over a sliding window and the first tokens, the attention sinks.

A step attends to the first `sinks` keys and the last `window` ones; nothing else is read or
multiplied. Where the problem has a window, that is the one, unless a smaller one is asked for.
Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (2023, arXiv
2309.17453); positions are those of the full sequence, as the keys come rotated.

HBM reads of a KV head in a step that sees n keys: group d b + 2 min(n, sinks + window) d b;
writes: group d b.
"""

from typing import NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode.frame import DecodeParameters, OnChip, seen_by_steps
from accelsim.kernels.attention.decode.kept import KeepingKernel, note_range
from accelsim.kernels.attention.decode.merging import add_attention, store_result
from accelsim.kernels.attention.decode.steps import (
    Range,
    attend_to_both,
    begin_step,
    item_at,
    load_queries,
)
from accelsim.kernels.attention.kernel import Task

_WINDOW, _SINKS = 256, 4


class WindowParameters(DecodeParameters):
    """Choices of the window kernel."""

    window: al.Size | None = None
    """Latest keys that a step attends to, its own among them; absent: those of the problem, or 256
    where it has no window."""
    sinks: al.SizeOrZero | None = None
    """First keys that every step attends to; absent: those of the problem, or 4 where it has no
    window."""
    exact_steps: al.SizeOrZero = 0
    """First steps with attention over all keys that the problem has, as a method that warms up has
    them."""

    def of(self, problem: al.AttentionProblem) -> tuple[int, int]:
        """Return the window and the sinks that are attended to: none that the problem has not."""
        if problem.window is None:
            return self.window or _WINDOW, _SINKS if self.sinks is None else self.sinks
        own = problem.window, problem.sink_tokens
        asked = self.window or problem.window, own[1] if self.sinks is None else self.sinks
        return min(own[0], asked[0]), min(own[1], asked[1])


class _Own(NamedTuple):
    """Keys that a step attends to."""

    window: int
    sinks: int


@al.jit
def window(p, k):
    """All steps, one after the other."""
    for item in range(k.steps * k.heads):
        at = begin_step(p, item, k)
        first, latest = _attended(at, k)
        attend_to_both(p, first, latest, at, k)


@al.jit
def window_in_pieces(p, k):
    """The same, piece by piece."""
    for item in range(k.steps * k.heads):
        at = item_at(item, k)
        al.begin_item(p, 2 * at.step + 1)
        load_queries(p, at, k)
        first, latest = _attended(at, k)
        is_first = add_attention(p, first, True, at, k)
        add_attention(p, latest, is_first, at, k)
        store_result(p, at, k)


@al.jit_inner
def _attended(at, k):
    """Note and return the first and the latest keys that a step attends to."""
    is_exact = at.step < k.exact_steps
    window, most = (k.window, k.sinks) if is_exact else (k.own.window, k.own.sinks)
    recent = max(0, at.seen - window) if window else 0
    sinks = min(most, recent)
    note_range(k.mask, 0, sinks, at, k)
    note_range(k.mask, recent, at.seen, at, k)
    return Range(at.kv_row, sinks), Range(at.kv_row + recent, at.seen - recent)


class Window(KeepingKernel):
    """Decode over a sliding window with sinks."""

    name = "window"
    summary = "decode over the latest tokens and the first ones"
    parameters = WindowParameters
    windows = "one"
    caps_scores = True
    loop = staticmethod(window)
    loop_in_pieces = staticmethod(window_in_pieces)

    @classmethod
    def most_keys(cls, task: Task[WindowParameters]) -> int:
        """Return the most keys whose scores a work item holds."""
        problem = task.problem
        most_keys = min(problem.most_keys, sum(task.parameters.of(problem)))
        if exact_steps := cls.exact_steps(task):
            seen = int(seen_by_steps(problem)[exact_steps - 1].max())
            most_keys = max(most_keys, int(problem.attended_of(seen)))
        return most_keys

    @classmethod
    def declare(cls, _chip: OnChip, task: Task[WindowParameters]) -> _Own:
        """Return the keys that a step attends to."""
        return _Own(*task.parameters.of(task.problem))
