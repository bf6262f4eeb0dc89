"""What a selecting kernel kept: the mask it fills, and the shares a report shows of it."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode.frame import (
    DecodeKernel,
    Frame,
    Generation,
    Layout,
    OnChip,
    formed,
    seen_by_steps,
)
from accelsim.kernels.attention.decode.pieces import ThroughHbm
from accelsim.kernels.attention.decode.steps import Item
from accelsim.kernels.attention.kernel import Recording, Task
from accelsim.kernels.attention.oracle import capped, hidden_keys
from accelsim.program.long import held
from accelsim.program.ops import Unit


class KeepingKernel(DecodeKernel):
    """A kernel over the steps of a generation that attends to some of the keys, and says which."""

    is_exact = False
    loop: ClassVar[Any]
    """Compiled loop over the steps of all KV heads, of a recorder and the layout of the frame."""
    loop_in_pieces: ClassVar[Any]
    """The same where an item holds a piece of its keys at a time."""
    scored_columns: ClassVar[Any] = None
    """Compiled function of a work item and the layout: the columns whose products go through HBM,
    if keys are held in pieces; None: there are none in any step."""
    through_hbm: ClassVar[ThroughHbm] = ThroughHbm()

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
        generation, keys = Generation(task, cls.declare, cls.through_hbm), cls.most_keys(task)
        frame = formed(generation, lambda each: each.laid_out(keys))
        program = cls._record_selection(frame, cls.exact_steps(task))
        return cls.told(program, task, frame.layout), frame.output

    @classmethod
    def _record_selection(cls, frame: Frame, exact_steps: int) -> al.Program:
        """Record a loop with the shares of keys that it kept.

        It has a work item for every step of a KV head and selects after `exact_steps` of them. It
        notes what it keeps in the mask of the layout, which is None without tensors. In pieces
        there is an item besides for each that goes through HBM.
        """
        problem, tensors, k, mask = frame.task.problem, frame.task.tensors, frame.layout, None
        if tensors is not None:
            mask = np.zeros((k.heads * k.group, k.steps, k.kv_len), np.bool_)
        frame = frame.with_layout(mask=mask, exact_steps=exact_steps)
        if k.pieces is None:
            program, first_phase = frame.record(cls.loop, k.steps * k.heads), exact_steps
        else:
            num_items = k.steps * k.heads
            if cls.scored_columns is not None:
                num_items += _pieces_through_hbm(frame.layout, k.pieces.size, cls.scored_columns)
            program, first_phase = frame.record(cls.loop_in_pieces, num_items), 2 * exact_steps
            program = program.with_parameters(piece=k.pieces.size)
        statistics = _selection_shares(program, problem, frame.layout, tensors, first_phase)
        return program.with_statistics(statistics)


def _pieces_through_hbm(k: Layout, size: int, scored_columns: Any) -> int:
    """Return how many pieces are scored in all steps; heads that see as many keys have as many."""
    total = 0
    for step in range(k.steps):
        seen = k.caches[:, 1] - (k.steps - 1 - step)
        for keys, heads in zip(*np.unique(seen, return_counts=True), strict=True):
            columns = scored_columns(Item(0, step, 0, int(keys), 0, 0), k)
            total += int(heads) * al.ceil_div(columns, size)
    return total


@al.jit_inner
def note_range(mask, begin, end, at, k):
    """Note that all heads of a group keep the keys from `begin` to `end`."""
    if mask is None:
        return
    for head in range(at.q_row, at.q_row + k.group):
        for key in range(begin, end):
            mask[head, at.step, key] = True


@al.jit_inner
def note_columns(mask, x, indices, dropped, first, at):
    """Note what each head of a group keeps of the keys in `indices`: where x is not `dropped`.

    first: the key that has number 0 among them.
    """
    if mask is None:
        return
    for head in range(x.rows):
        for i in range(indices.cols):
            mask[at.q_row + head, at.step, first + indices.data[0, i]] = x.data[head, i] != dropped


def _selection_shares(
    program: al.Program,
    problem: al.AttentionProblem,
    k: Layout,
    tensors: al.AttentionTensors | None,
    first_phase: int,
) -> dict[str, float]:
    """Return the shares of a selection, over the steps after the exact ones.

    union_fraction: V rows moved, of those seen by a KV head, or by each block of its query heads;
    kept_fraction: keys kept by a query head; kept_mass: their share of the softmax weight, in
    float64, mean over rows (not for rows that are not finite). exact_fraction: share of the exact
    steps. first_phase: of the steps after them.
    """
    mask, first_step = k.mask, k.exact_steps
    shares = {"exact_fraction": first_step / problem.steps}
    if first_step == problem.steps:
        return shares
    seen = problem.attended_of(seen_by_steps(problem)[first_step:])
    rows = _value_rows(program, first_phase)
    shares["union_fraction"] = rows / (k.blocks * int(seen.sum()))
    if mask is None or tensors is None:
        return shares
    kept = mask[:, first_step:]
    group = problem.q_heads // problem.kv_heads
    shares["kept_fraction"] = float(kept.sum() / (group * seen.sum()))
    mass = np.concatenate(list(_masses(problem, tensors, kept)))
    if np.isfinite(mass).any():
        shares["kept_mass"] = float(mass[np.isfinite(mass)].mean())
    return shares


def _value_rows(program: al.Program, first_phase: int) -> int:
    """Return the rows of V that the phases from `first_phase` on read."""
    program = held(program, "the share of rows that steps read")
    number = next(i for i, tensor in enumerate(program.tensors) if tensor.name == "v")
    phase = np.repeat(program.item_phase, np.diff(program.item_start))
    reads = (program.units == Unit.LOAD) & (program.tensor_indices == number)
    reads &= phase >= first_phase
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
    is_hidden = hidden_keys(problem, np.arange(problem.steps - rows, problem.steps))
    with np.errstate(invalid="ignore", over="ignore"):
        scores = capped(problem, queries @ keys.T / np.sqrt(problem.head_dim))
        scores = np.where(is_hidden, -np.inf, scores)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        mass: al.Array = (weights * kept).sum(axis=1) / weights.sum(axis=1)
    return mass
