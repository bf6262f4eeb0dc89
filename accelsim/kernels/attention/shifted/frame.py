"""What attention over shifted keys shares: a problem laid out on a machine.

Shifted keys K' are scaled keys without (most of) the mean of their tile, so that the scores
S' = q K'^T are small enough for FP16. Each key tile has its own frame then: the true scores of a
row are S' plus an offset of the row and the tile. So each tile gets its own softmax (maximum m_j,
weights exp(S' - m_j), sum l_j), and is merged into the running result by two factors per row:
`keep` for what is there and `enter` for what comes. How the offset is known is what the kernels
differ in. The shared steps are in `accelsim.kernels.attention.shifted.steps`.

K' is made `once` for each KV head, stored, and loaded again by every query tile; or it is `cached`,
lying in the KV cache in place of K when the kernel starts.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.folding import shared_fields
from accelsim.kernels.attention.kernel import AttentionKernel, Recording, Task
from accelsim.kernels.attention.operands import Operands, TilesOf, declare_operands
from accelsim.kernels.attention.shifted.steps import Loops
from accelsim.kernels.attention.shifted.tiles import ShiftedFormats, fastest_tiles
from accelsim.kernels.estimate.footprint import larger

_LOWEST_FP16, _LOWEST_FP32 = -60000.0, -3e38
"""Below every score, and yet finite: near the end of each format."""

Shift = Literal["once", "per_query_tile", "cached"]
"""Where K' is made: once per KV head, by every query tile, or before, in the KV cache."""
Buffers = dict[str, al.Buffer]


class Layout(NamedTuple):
    """Sizes in elements, operands in HBM and tiles on chip; all batches together.

    `group` query heads share one KV head, or are folded as in `folding`. Buffers of one format are
    shared. Columns have one number for each row: `wide` ones are in the format of the statistics,
    the others in that of the vector path.
    """

    heads: int
    group: int
    q_len: int
    span: int
    """Query rows that follow each other in time: after them the next folded head begins."""
    kv_len: int
    dim: int
    value_dim: int
    tile_q: int
    tile_k: int
    tiles_k: int
    """Key tiles of a KV head."""
    key_tiles: int
    """Key tiles of all KV heads."""
    shift_items: int
    """Work items of a phase before the attention that makes K', or 0; item i makes the tiles i,
    i + shift_items, ..."""
    causal: bool
    scale: float
    """1 / sqrt(dim)."""
    lowest_max: float
    """Least maximum of a masked row: a row without a visible key has weights 0, not NaN."""
    divides_by_scale: bool
    values_in_keys: bool
    sum_factor: float
    hbm: Operands
    own: Any
    """Constants, tensors and buffers of one kernel alone, a tuple with names."""
    queries: al.Buffer
    keys: al.Buffer
    shifted_keys: al.Buffer
    values: al.Buffer
    key_operands: al.Buffer
    value_operands: al.Buffer
    scores_acc: al.Buffer
    output_acc: al.Buffer
    scores: al.Buffer
    x: al.Buffer
    """Scores on their way to weights."""
    weights: al.Buffer
    product: al.Buffer
    output: al.Buffer
    stored: al.Buffer
    lowest: al.Buffer
    row_max: al.Buffer
    row_sum: al.Buffer
    tile_max: al.Buffer
    wide_max: al.Buffer
    tile_sum: al.Buffer
    keep: al.Buffer
    enter: al.Buffer
    wide_keep: al.Buffer
    wide_enter: al.Buffer


class Sizes(NamedTuple):
    """What buffers are sized by; tiles may be arrays with one number for each candidate."""

    dim: int
    formats: ShiftedFormats
    shift: Shift
    tile_q: Any
    tile_k: Any

    @property
    def is_shifting(self) -> bool:
        """Whether the kernel makes K'."""
        return self.shift != "cached"


class ShiftedKernel(AttentionKernel):
    """Attention over shifted keys; what a kernel does in a way of its own is in its loops."""

    loops: ClassVar[Loops]

    @classmethod
    @abstractmethod
    def formats(cls, task: Task[Any]) -> ShiftedFormats:
        """Return the format of every step."""

    @classmethod
    @abstractmethod
    def allocate(cls, builder: al.ProgramBuilder, sizes: Sizes) -> tuple[Buffers, Buffers]:
        """Declare the buffers: those of the layout, and the kernel's own."""

    @classmethod
    @abstractmethod
    def declare(cls, frame: "Frame", builder: al.ProgramBuilder, own: Buffers) -> Any:
        """Declare the tensors beside the operands; return all that the kernel has of its own."""

    @classmethod
    def recorded(cls, task: Task[Any]) -> Recording:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        return Frame.of(cls, task).record()


@dataclass(frozen=True, slots=True)
class Frame:
    """The choices for one problem on one machine."""

    kernel: type[ShiftedKernel]
    task: Task[Any]
    sizes: Sizes
    fold: bool
    cache: Mapping[str, al.Array] = field(default_factory=dict)
    """Values that lie in the KV cache, by the names of tensors; none: without numbers."""

    @classmethod
    def of(cls, kernel: type[ShiftedKernel], task: Task[Any]) -> "Frame":
        """Return the frame with the tiles that were asked for, or of the lowest estimated time.

        Raises DoesNotFitError if none fit.
        """
        asked, formats = (task.problem, task.machine, task.parameters), kernel.formats(task)
        sizes = partial(Sizes, task.problem.head_dim, formats, task.parameters.shift)

        def allocate(builder: al.ProgramBuilder, *tiles: Any) -> object:
            return kernel.allocate(builder, sizes(*tiles))

        *tiles, fold = fastest_tiles(task.name, *asked, formats, allocate)
        return cls(kernel, task, sizes(*tiles), fold)

    @property
    def scale(self) -> float:
        """1 / sqrt(head_dim)."""
        return float(1 / np.sqrt(self.task.problem.head_dim))

    @property
    def tiles_k(self) -> int:
        """Key tiles of a KV head."""
        return al.ceil_div(self.task.problem.kv_len, self.sizes.tile_k)

    @property
    def kv_heads(self) -> int:
        """KV heads of all batches."""
        return self.task.problem.batch * self.task.problem.kv_heads

    def record(self) -> Recording:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        frame, builder = self, self.task.builder()
        if self.sizes.shift == "cached" and self.task.tensors is not None:
            frame = replace(self, cache=self._cached())
        k = frame._layout(builder)
        items = k.shift_items + k.heads * al.ceil_div(k.q_len, k.tile_q)
        program = builder.record(self.kernel.loops.attend, items, k)
        chosen = program.with_parameters(tile_q=k.tile_q, tile_k=k.tile_k, fold=k.q_len > k.span)
        return chosen, k.hbm.o.data

    def made_keys(self, builder: al.ProgramBuilder, name: str, rows: int) -> al.Tensor:
        """Place `rows` rows of what shifting makes: intermediate, or input where it is cached."""
        dim, fmt = self.sizes.dim, self.sizes.formats.shifted
        if self.sizes.is_shifting:
            return builder.tensor(name, "intermediate", rows, dim, fmt)
        return builder.tensor(name, "input", rows, dim, fmt, self.cache.get(name))

    def _cached(self) -> Mapping[str, al.Array]:
        """Return what a cache would hold, by tensor: what shifting once stores."""
        frame, builder = replace(self, sizes=self.sizes._replace(shift="once")), self.task.builder()
        k = frame._layout(builder)
        builder.record(self.kernel.loops.make_shifted_keys, k.shift_items, k)
        return builder.data

    def _layout(self, builder: al.ProgramBuilder) -> Layout:
        """Declare tensors and buffers."""
        problem, machine, sizes = self.task.problem, self.task.machine, self.sizes
        key_tiles = self.kv_heads * self.tiles_k
        # As many as the cores hold at once, so that each loads its constants only once.
        shift_items = min(key_tiles, machine.cores * machine.items_in_flight)
        is_fp16 = sizes.formats.steps.vector == al.Format.FP16
        shared, own = self.kernel.allocate(builder, sizes)
        # Values are as wide as keys, without a scale: these kernels do not say takes_any_kv.
        plain = {"value_dim": sizes.dim, "divides_by_scale": False, "values_in_keys": False}
        fields = shared_fields(problem, fold=self.fold) | plain | shared
        return Layout(
            tile_q=sizes.tile_q,
            tile_k=sizes.tile_k,
            tiles_k=self.tiles_k,
            key_tiles=key_tiles,
            shift_items=shift_items if sizes.shift == "once" else 0,
            scale=self.scale,
            lowest_max=_LOWEST_FP16 if is_fp16 else _LOWEST_FP32,
            hbm=declare_operands(builder, problem, self.task.tensors),
            own=self.kernel.declare(self, builder, own),
            **fields,
            key_operands=shared["keys"],
            value_operands=shared["values"],
        )


def allocate_shared(builder: al.ProgramBuilder, sizes: Sizes, made_rows: int = 0) -> Buffers:
    """Declare the buffers of the layout; K' comes out of a product of `made_rows` rows."""
    dim, tile_q, tile_k = sizes.dim, sizes.tile_q, sizes.tile_k
    steps, statistics = sizes.formats.steps, sizes.formats.statistics
    vector = steps.vector

    rows, keys = TilesOf(builder, tile_q, vector), TilesOf(builder, tile_k, steps.stored)
    made = TilesOf(builder, larger(tile_q, made_rows), vector)

    def widened(name: str, narrow: al.Buffer) -> al.Buffer:
        return rows.shared(narrow, name, 1, statistics)

    x = rows("x", tile_k, slots=2)
    weights = rows.shared(x, "weights", tile_k, steps.weights, 2)
    output = rows("output", dim)
    tile_max, keep, enter = (rows(name, 1) for name in ("tile_max", "keep", "enter"))
    return {
        "queries": rows("q", dim, steps.stored, 2),
        "shifted_keys": keys("shifted_k", dim, sizes.formats.shifted, 2),
        "values": keys("v", dim, slots=2),
        "scores_acc": rows.sums("scores_acc", tile_k),
        "output_acc": made.sums("output_acc", dim),
        "scores": rows("scores", tile_k, steps.scores, 2),
        "x": x,
        "weights": weights,
        "product": rows("product", dim),
        "output": output,
        "stored": rows.shared(output, "stored", dim, steps.output),
        "lowest": rows("lowest", 1),
        "row_max": rows("row_max", 1, statistics, 2),
        "row_sum": rows("row_sum", 1),
        "tile_max": tile_max,
        "wide_max": widened("wide_max", tile_max),
        "tile_sum": rows("tile_sum", 1),
        "keep": keep,
        "enter": enter,
        "wide_keep": widened("wide_keep", keep),
        "wide_enter": widened("wide_enter", enter),
        "keys": keys("k", dim, slots=2) if sizes.is_shifting else builder.no_buffer(steps.stored),
    }
