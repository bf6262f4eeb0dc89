"""What a selecting kernel kept: the mask it fills, and the shares a report shows of it."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode.frame import (
    DecodeKernel,
    Frame,
    Generation,
    Layout,
    OnChip,
    seen_by_steps,
)
from accelsim.kernels.attention.kernel import Recording, Task
from accelsim.program.long import held
from accelsim.program.ops import Unit


class KeepingKernel(DecodeKernel):
    """A kernel over the steps of a generation that attends to some of the keys, and says which."""

    is_exact = False
    loop: ClassVar[Any]
    """Compiled loop over the steps of all KV heads, of a recorder and the layout of the frame."""

    @classmethod
    @abstractmethod
    def declare(cls, chip: OnChip, task: Task[Any]) -> Any:
        """Return what the kernel has beside the frame; called for each way to lay it out."""

    @classmethod
    def exact_steps(cls, task: Task[Any]) -> int:
        """Return how many steps at the start attend to all keys."""
        return int(min(task.parameters.exact_steps, task.problem.steps))

    @classmethod
    def most_keys(cls, task: Task[Any]) -> int:
        """Return the most keys whose scores a work item holds."""
        return task.problem.most_keys

    @classmethod
    def told(cls, program: al.Program, task: Task[Any], k: Layout) -> al.Program:
        """Return the program with what else there is to tell of it; k: the layout it had."""
        return program

    @classmethod
    def recorded(cls, task: Task[Any]) -> Recording:
        """Return the program, with the shares of keys that it kept, and the output."""
        frame = Generation(task, cls.declare).laid_out(cls.most_keys(task))
        program = record_selection(frame, cls.loop, cls.exact_steps(task))
        return cls.told(program, task, frame.layout), frame.output


def record_selection(frame: Frame, kernel: Callable[..., None], exact_steps: int) -> al.Program:
    """Record kernel(p, layout) with the shares of keys that it kept.

    The kernel has a work item for every step of a KV head and selects after `exact_steps` of them.
    It notes what it keeps in the mask of the layout, which is None without tensors.
    """
    problem, tensors, k, mask = frame.task.problem, frame.task.tensors, frame.layout, None
    if tensors is not None:
        mask = np.zeros((k.heads * k.group, k.steps, k.kv_len), np.bool_)
    frame = frame.with_layout(mask=mask, exact_steps=exact_steps)
    program = frame.record(kernel, k.steps * k.heads)
    statistics = _selection_shares(program, problem, tensors, mask, exact_steps)
    return replace(program, statistics=statistics)


@al.jit_inner
def note_range(mask, begin, end, at, k):
    """Note that all heads of a group keep the keys from `begin` to `end`."""
    if mask is None:
        return
    for head in range(at.q_row, at.q_row + k.group):
        for key in range(begin, end):
            mask[head, at.step, key] = True


@al.jit_inner
def note_columns(mask, x, indices, dropped, at):
    """Note what each head of a group keeps of the keys in `indices`: where x is not `dropped`."""
    if mask is None:
        return
    for head in range(x.rows):
        for i in range(indices.cols):
            mask[at.q_row + head, at.step, indices.data[0, i]] = x.data[head, i] != dropped


def _selection_shares(
    program: al.Program,
    problem: al.AttentionProblem,
    tensors: al.AttentionTensors | None,
    mask: al.Array | None,
    first_step: int,
) -> dict[str, float]:
    """Return the shares of a selection, over the steps from `first_step` on.

    union_fraction: V rows moved, of those seen by a KV head; kept_fraction: keys kept by a query
    head; kept_mass: their share of the softmax weight, in float64, mean over rows (not for rows
    that are not finite). exact_fraction: share of the steps before `first_step`.
    """
    shares = {"exact_fraction": first_step / problem.steps}
    if first_step == problem.steps:
        return shares
    seen = seen_by_steps(problem)[first_step:]
    rows = _value_rows(program, problem, first_step)
    shares["union_fraction"] = rows / int(seen.sum())
    if mask is None or tensors is None:
        return shares
    kept = mask[:, first_step:]
    group = problem.q_heads // problem.kv_heads
    shares["kept_fraction"] = float(kept.sum() / (group * seen.sum()))
    mass = np.concatenate(list(_masses(problem, tensors, kept)))
    if np.isfinite(mass).any():
        shares["kept_mass"] = float(mass[np.isfinite(mass)].mean())
    return shares


def _value_rows(program: al.Program, problem: al.AttentionProblem, first_step: int) -> int:
    """Return the rows of V that the phases from `first_step` on read."""
    program = held(program, "the share of rows that steps read")
    number = next(i for i, tensor in enumerate(program.tensors) if tensor.name == "v")
    phase = np.repeat(program.item_phase, np.diff(program.item_start))
    reads = (program.units == Unit.LOAD) & (program.tensor_indices == number)
    reads &= phase >= first_step
    return int(program.hbm_bytes[reads].sum()) // program.tensors[number].row_bytes


def _masses(
    problem: al.AttentionProblem, tensors: al.AttentionTensors, kept: al.Array
) -> Iterator[al.Array]:
    """Yield the softmax weight of the kept keys of every query head, as `_mass` has it."""
    first = 0
    for part, own in tensors.parts(problem):
        for head in range(len(own.q)):
            yield _mass(part, own, kept[first + head, :, : part.kv_len], head)
        first += len(own.q)


def _mass(
    problem: al.AttentionProblem, tensors: al.AttentionTensors, kept: al.Array, head: int
) -> al.Array:
    """Return the softmax weight of the kept keys, [rows, kv_len], for the last rows of a head."""
    rows, kv_head = len(kept), head // (problem.q_heads // problem.kv_heads)
    queries = tensors.q[head, problem.steps - rows :].astype(np.float64)
    keys = tensors.k[kv_head].astype(np.float64) * tensors.k_scale
    is_seen = np.arange(problem.kv_len) < seen_by_steps(problem)[-rows:, kv_head, None]
    with np.errstate(invalid="ignore", over="ignore"):
        scores = np.where(is_seen, queries @ keys.T / np.sqrt(problem.head_dim), -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        mass: al.Array = (weights * kept).sum(axis=1) / weights.sum(axis=1)
    return mass
