"""What decode kernels share: a generation laid out on a machine. Its steps are in `steps`.

A problem is a generation of `steps` tokens. Step s computes row s of every head, which sees the
first kv_len - steps + s + 1 keys; it is a launch of its own, so it is a phase. A work item is one
step of one KV head: K and V are read once for the group of query heads that share them. Scores of
all keys stay in the scratchpad, in `group` rows. With steps = kv_len they are all rows of a window.

A kernel may take several new tokens in one step: their rows are folded into the group, as those of
the heads are.

Scores of all keys may be too many for a scratchpad, and the rows of a whole group too many for an
accumulator. Then an item holds the scores of a piece of the keys at a time (see `pieces`), and then
of a block of the heads of a group: a KV head is one for each of its blocks, and read for each.

HBM traffic that every step has, for n keys seen by each KV head: the query and the output,
2 group d b together. The exact step reads 2 n d b more; with K and V of c bytes an element and
values of d_v elements, n (d + d_v) c.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import nan
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode.estimate import DecodeTiling, Step
from accelsim.kernels.attention.decode.pieces import Pieces, ThroughHbm, allocate_pieces, placed
from accelsim.kernels.attention.kernel import AttentionKernel, Task
from accelsim.kernels.attention.operands import (
    Operands,
    TilesOf,
    allocate_keys_and_values,
    declare_operands,
)
from accelsim.kernels.attention.precision import Precision, StepFormats, formats_of
from accelsim.kernels.attention.stand_ins import stand_ins
from accelsim.kernels.estimate.choice import fastest, grid, most_rivals, rivals_of, sizes
from accelsim.kernels.estimate.footprint import fitting
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.tiling import misfit
from accelsim.workload.attention import RowWidths

_T = TypeVar("_T")
_SHORTEST_PIECE = 16
_FOR_FIT = "tile_k", "stages", "splits", "ranking", "page"
"""Parameters of decode kernels that say what must fit on chip."""
_STAGES = (2, 3, 4)
"""Numbers of tiles on chip that are tried."""


class DecodeParameters(al.Spec):
    """Choices of every decode kernel."""

    tile_k: al.Size | None = None
    """Key and value rows of a tile, in elements; absent: those of the lowest estimated time."""
    precision: Precision | None = None
    """fp32: every step in FP32; fp32_scores: FP32 scores and vector path, weights in the format of
    the output; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16. Absent: fp16_fp32 for FP16
    problems, fp32_scores for others."""
    stages: al.Size | None = None
    """Tiles of keys, and of values, on chip at a time: one in use and the others on their way;
    absent: as many as give the lowest estimated time."""

    @property
    def may_be_in_pieces(self) -> bool:
        """Whether an item may hold the scores of a piece of its keys at a time."""
        return True

    @property
    def shortest_piece(self) -> int:
        """Fewest keys of a piece, where an item holds the scores of a piece at a time."""
        return _SHORTEST_PIECE


class Layout(NamedTuple):
    """Sizes in elements, operands in HBM and tiles on chip.

    `heads` are KV heads of all sequences; each has `group` query rows, the rows of most tiles. A
    block of a group that is cut has a KV head of its own here.
    """

    heads: int
    blocks: int
    """Blocks of the query heads of a KV head."""
    group: int
    """Query heads of a KV head, or of a block of them, times the new tokens of a step."""
    span: int
    """New tokens of a step, rows of one query head."""
    steps: int
    caches: Any
    """int64 [heads, 2]: where the keys of each begin in K and V, and how many there are."""
    kv_len: int
    """Keys of the longest."""
    dim: int
    value_dim: int
    tile_k: int
    causal: bool
    """Whether the rows of a head in one step see only the tokens up to their own."""
    window: int
    """Latest keys that a step sees; 0: all."""
    sinks: int
    """First keys that it sees besides."""
    softcap: float
    """What scores are capped by; 0: nothing."""
    factor: float
    """What products become scores by: 1/sqrt(d) times the scale of K."""
    divides_by_scale: bool
    """Whether values were divided by a scale when they were stored."""
    sum_factor: float
    """1 / that scale, which divisors are multiplied by."""
    hbm: Operands
    queries: al.Buffer
    keys: al.Buffer
    values: al.Buffer
    key_operands: al.Buffer
    """Keys as the cube takes them: those that are loaded, unless they are converted first."""
    value_operands: al.Buffer
    scores_acc: al.Buffer
    output_acc: al.Buffer
    scores: al.Buffer
    x: al.Buffer
    """Scores of all keys on their way to weights; buffers of one format are shared."""
    weights: al.Buffer
    largest: al.Buffer
    total: al.Buffer
    output: al.Buffer
    stored: al.Buffer
    exact_steps: int
    """First steps that attend to all keys, in kernels that select some afterwards."""
    own: Any
    """What a kernel has beside these: its choices, tensors, buffers and state."""
    pieces: Pieces | None
    """How keys are held piece by piece; None: an item holds the scores of all of them."""
    mask: Any
    """bool [batch x q_heads, steps, kv_len], the keys that were kept, or None; see `kept`."""


class OnChip(NamedTuple):
    """Where buffers are declared, and what they are sized by."""

    builder: al.ProgramBuilder
    rows: TilesOf
    """Declares tiles of the query rows of a KV head."""
    widths: RowWidths
    formats: StepFormats
    keys: int
    """Keys whose scores an item holds."""
    in_pieces: bool
    """Whether there are more."""
    tile_k: int
    """Keys of a tile."""
    stages: int
    """Tiles of keys, and of values, at a time."""

    def columns(self, most: int) -> Any:
        """Return the columns that an item holds of `most` columns with a score each."""
        return self.keys if self.in_pieces else most


def allocate(chip: OnChip, tile_k: int, stages: int) -> dict[str, al.Buffer]:
    """Declare the buffers of the frame: tiles of tile_k keys or values, and all scores."""
    rows, widths, formats, cols = chip.rows, chip.widths, chip.formats, chip.keys
    names = ("keys", "values")
    x, output = rows("x", cols), rows("output", widths.value)
    return {
        "queries": rows("queries", widths.key, formats.stored, slots=2),
        **allocate_keys_and_values(chip.builder, widths, formats, tile_k, stages, names),
        "scores_acc": rows.sums("scores_acc", tile_k, slots=2),
        "output_acc": rows.sums("output_acc", widths.value),
        "scores": rows("scores", tile_k, formats.scores, slots=2),
        "x": x,
        "weights": rows.shared(x, "weights", cols, formats.weights),
        "largest": rows("largest", 1),
        "total": rows("total", 1),
        "output": output,
        "stored": rows.shared(output, "stored", widths.value, formats.output),
    }


def group_of(problem: al.AttentionProblem) -> int:
    """Return the query rows of a KV head in a step; all sequences have as many."""
    return problem.q_heads // problem.kv_heads * problem.most_queries


def later_keys(problem: al.AttentionProblem) -> int:
    """Return the keys that the last query row of a step sees and the first one does not."""
    return problem.most_queries - 1 if problem.causal else 0


def caches_of(problem: al.AttentionProblem) -> al.Array:
    """Return the first row in K and V and the number of keys of each KV head, [heads, 2]."""
    lengths = np.concatenate(
        [np.full(each.batch * problem.kv_heads, each.kv_len) for each in problem.lengths]
    )
    return np.stack([np.cumsum(lengths) - lengths, lengths], axis=1)


def seen_by_steps(problem: al.AttentionProblem) -> al.Array:
    """Return the number of keys that each step sees of each KV head, [steps, heads]."""
    later = np.arange(problem.steps)[::-1]
    seen: al.Array = caches_of(problem)[:, 1] - later[:, None]
    return seen


class DecodeTiles(NamedTuple):
    """What was chosen, and its estimate."""

    tile_k: int
    stages: int
    splits: int
    """Ranges of keys; those of different work items, or pieces that an item holds in turn."""
    cycles: float
    """nan where it was not asked for."""


class Form(NamedTuple):
    """How much of a step a work item holds at a time."""

    blocks: int = 1
    """Blocks that the query heads of a KV head are cut into."""
    in_pieces: bool = False
    """Whether it holds the scores of a piece of its keys at a time."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A generation laid out on a machine, ready to be recorded."""

    task: Task[Any]
    builder: al.ProgramBuilder
    layout: Layout

    def with_layout(self, **changes: Any) -> "Frame":
        """Return the frame with other values of some fields of its layout."""
        return replace(self, layout=self.layout._replace(**changes))

    def record(self, kernel: Callable[..., None], num_items: int) -> al.Program:
        """Record kernel(p, layout)."""
        program = self.builder.record(kernel, num_items, self.layout)
        return program.with_parameters(tile_k=self.layout.tile_k, stages=self.layout.keys.slots)

    @property
    def output(self) -> al.Array | None:
        """What the kernel computed, [rows of Q, value_dim]; None without numbers."""
        data: al.Array | None = self.layout.hbm.o.data
        return None if data is None else data.reshape(-1, self.layout.value_dim)


class Generation(NamedTuple):
    """What a kernel computes, for tiles yet to be chosen."""

    task: Task[Any]
    declare_own: Callable[[OnChip, Task[Any]], Any]
    """Returns what the kernel has beside the frame; called for each way to lay it out."""
    through_hbm: ThroughHbm = ThroughHbm()
    form: Form = Form()

    @property
    def problem(self) -> al.AttentionProblem:
        """The problem as if each block of query heads had a KV head of its own."""
        problem, blocks = self.task.problem, self.form.blocks
        if blocks == 1:
            return problem
        return problem.model_copy(update={"kv_heads": blocks * problem.kv_heads})

    @property
    def formats(self) -> StepFormats:
        """Formats of all steps."""
        return formats_of(self.task.problem, self.task.machine, self.task.parameters.precision)

    def laid_out(self, keys: int) -> Frame:
        """Declare operands and buffers, with the tiles of the lowest estimated time.

        keys: the most that a work item attends to. Raises DoesNotFitError.
        """
        splits = self._pieces(keys) if self.form.in_pieces else (1,)
        tiles = self.fastest_tiles(keys, splits)
        return self.with_tiles(tiles, al.ceil_div(keys, tiles.splits))

    def _pieces(self, keys: int) -> tuple[int, ...]:
        """Return the numbers of pieces to choose from: the fewest that fit, two and four times."""
        problem, machine = self.problem, self.task.machine
        heads = problem.num_sequences * problem.kv_heads
        fewest = max(2, al.ceil_div(machine.cores, heads))
        return self.fitting_splits(keys, fewest, self.task.parameters.shortest_piece)

    def fitting_splits(self, keys: int, fewest: int, shortest: int) -> tuple[int, ...]:
        """Return the fewest splits of `keys` keys that fit, 2^n times `fewest`, and a few more.

        shortest: keys of the shortest range. Raises DoesNotFitError if none fit.
        """
        longest = max(1, keys // shortest)
        few = min(fewest, longest)
        while few < longest and not self._fits(keys, few):
            few = min(2 * few, longest)
        return tuple(sorted({min(few * more, longest) for more in (1, 2, 4)}))

    def _fits(self, keys: int, splits: int) -> bool:
        tilings = _tilings(self.task.parameters, keys, (splits,))
        length = self._length(keys, splits)
        sizes = tilings.tile_k, np.full(len(tilings.tile_k), length), tilings.stages
        return bool(fitting(self.task.machine, self.declare, *sizes).any())

    def _length(self, keys: int, splits: Any) -> Any:
        later = later_keys(self.problem)
        return -(-(keys - later) // splits) + later

    def with_tiles(self, tiles: DecodeTiles, keys: int) -> Frame:
        """Declare operands and buffers with tiles that fit; keys: of which an item holds scores."""
        problem, builder = self.problem, self.task.builder()
        k_scale, v_scale = self.task.scales
        hbm = declare_operands(builder, self.task.problem, self.task.tensors, problem.steps)
        buffers, own, pieces = self.declare(builder, tiles.tile_k, keys, tiles.stages)
        layout = Layout(
            heads=problem.num_sequences * problem.kv_heads,
            blocks=self.form.blocks,
            group=group_of(problem),
            span=problem.most_queries,
            steps=problem.steps,
            caches=np.repeat(caches_of(self.task.problem), self.form.blocks, axis=0),
            kv_len=problem.most_keys,
            dim=problem.head_dim,
            value_dim=problem.widths.value,
            tile_k=tiles.tile_k,
            causal=problem.causal,
            window=problem.window or 0,
            sinks=problem.sink_tokens,
            softcap=problem.softcap or 0.0,
            factor=k_scale / np.sqrt(problem.head_dim),
            divides_by_scale=problem.kv_scales != "one",
            sum_factor=1 / v_scale,
            hbm=hbm,
            **buffers,
            exact_steps=problem.steps,
            own=own,
            pieces=pieces,
            mask=None,
        )
        if pieces is not None:
            own_pieces = placed(builder, layout, self.formats, self.through_hbm)
            layout = layout._replace(pieces=own_pieces)
        return Frame(self.task, builder, layout)

    def fastest_tiles(self, keys: int, splits: tuple[int, ...] = (1,)) -> DecodeTiles:
        """Return the tiles of the lowest estimate for steps over `keys` keys, cut into `splits`.

        Raises DoesNotFitError if none of what was asked for fits.
        """
        return self.rivals(keys, splits)[0]

    def rivals(
        self, keys: int, splits: tuple[int, ...], *, is_estimated: bool = True
    ) -> tuple[DecodeTiles, ...]:
        """Return the tiles that may be the fastest, the best estimate first; raises as above.

        is_estimated: False only where all is given, so that there is nothing to choose from.
        """
        task = self.task._replace(problem=self.problem, tensors=None)
        known = self.form.in_pieces, keys, splits, is_estimated
        return _rivals(task.name, *task[1:4], *known, self.declare)

    def declare(
        self, builder: al.ProgramBuilder, tile_k: int, keys: int, stages: int
    ) -> tuple[dict[str, al.Buffer], Any, Pieces | None]:
        """Declare the buffers of the frame, what the kernel has beside them, and the pieces."""
        problem, formats, in_pieces = self.problem, self.formats, self.form.in_pieces
        rows = TilesOf(builder, group_of(problem), formats.vector)
        sizes = keys, in_pieces, tile_k, stages
        chip = OnChip(builder, rows, problem.widths, formats, *sizes)
        buffers, own = allocate(chip, tile_k, stages), self.declare_own(chip, self.task)
        if not in_pieces:
            return buffers, own, None
        length = problem.most_keys, keys
        return (
            buffers,
            own,
            allocate_pieces(rows, formats, problem.widths.value, length, self.through_hbm),
        )


def formed(generation: Generation, lay_out: Callable[[Generation], _T]) -> _T:
    """Return lay_out(generation) in the first form that fits.

    That is all of a step, then pieces of its keys, then both with the heads of a group in more and
    more blocks. Raises the DoesNotFitError of the first form, which says what to leave out where
    that is of use.
    """
    errors = []
    for form in _forms(generation):
        try:
            return lay_out(generation._replace(form=form))
        except al.DoesNotFitError as found:
            errors.append(str(found))
    raise al.DoesNotFitError(errors[0] + _to_leave_out(generation, lay_out))


def _forms(generation: Generation) -> list[Form]:
    """Return the forms to choose from, the first one first."""
    problem, parameters = generation.task.problem, generation.task.parameters
    heads = problem.q_heads // problem.kv_heads
    blocks = (each for each in range(1, heads + 1) if heads % each == 0)
    ways = (False, True) if parameters.may_be_in_pieces else (False,)
    return [Form(each, in_pieces) for each in blocks for in_pieces in ways]


def _to_leave_out(generation: Generation, lay_out: Callable[[Generation], Any]) -> str:
    """Return a hint at one of the parameters without which it fits, or nothing."""
    task = generation.task
    for name in _FOR_FIT:
        found = getattr(task.parameters, name, None)
        default = type(task.parameters).model_fields[name].default if found else None
        if found == default:
            continue
        parameters = task.parameters.model_copy(update={name: default})
        own = generation._replace(task=task._replace(parameters=parameters))
        for form in _forms(own):
            try:
                lay_out(own._replace(form=form))
            except al.DoesNotFitError:
                continue
            return f"; or leave out {name} = {found}: it fits without"
    return ""


@remembered
def _rivals(
    name: str,
    problem: al.AttentionProblem,
    machine: al.MachineSpec,
    parameters: DecodeParameters,
    _in_pieces: bool,
    keys: int,
    splits: tuple[int, ...],
    is_estimated: bool,
    declare: Callable[..., object],
) -> tuple[DecodeTiles, ...]:
    tilings = _tilings(parameters, keys, splits)
    later = later_keys(problem)
    length = -(-(keys - later) // tilings.splits) + later
    fits = fitting(machine, declare, tilings.tile_k, length, tilings.stages)
    if not fits.any():
        smallest = int(tilings.tile_k.min()), int(length.min()), int(tilings.stages.min())
        raise misfit(name, machine, lambda builder: declare(builder, *smallest))
    known = tilings.at(np.flatnonzero(fits))
    if not is_estimated:
        return (_tiles_at(known, 0, nan),)
    formats = formats_of(problem, machine, parameters.precision)
    (sequences,) = stand_ins(problem)
    estimate = Step(sequences, machine, formats, keys).estimate(known)
    rivals = rivals_of(estimate.cycles, fastest(estimate), known, most_rivals(machine))
    return tuple(_tiles_at(known, each, float(estimate.cycles[each])) for each in rivals)


def _tiles_at(known: DecodeTiling, place: int, cycles: float) -> DecodeTiles:
    tile_k, stages, splits = (int(each[place]) for each in known)
    return DecodeTiles(tile_k, stages, splits, cycles)


def _tilings(parameters: DecodeParameters, keys: int, splits: tuple[int, ...]) -> DecodeTiling:
    """Return what may be chosen from."""
    tile_k, stages = sizes(parameters.tile_k, keys), parameters.stages
    all_of_them = DecodeTiling(
        *grid(tile_k, np.array([stages] if stages else _STAGES), np.array(splits))
    )
    if stages:
        return all_of_them
    tiles = al.ceil_div(al.ceil_div(keys, all_of_them.splits), all_of_them.tile_k)
    # A slot more than there are tiles is never used.
    return all_of_them.at(all_of_them.stages <= np.maximum(tiles, min(_STAGES)))


class DecodeKernel(AttentionKernel):
    """A kernel over the steps of a generation."""

    takes_sequences = True
    query_rows: ClassVar[Literal["any", "equal", "one"]] = "one"
    takes_steps = True
    takes_any_kv = True
