"""What decode kernels share: a generation laid out on a machine. Its steps are in `steps`.

A problem is a generation: `q_len` new tokens after kv_len - q_len cached ones. Step s computes row
s of every head, which under a causal mask sees the first kv_len - q_len + s + 1 keys; it is a
launch of its own, so it is a phase. A work item is one step of one KV head: K and V are read once
for the group of query heads that share them. Scores of all keys stay in the scratchpad, in
`group` rows. With q_len = kv_len the steps are all rows of a window.

HBM traffic that every step has, for n keys seen by each KV head: the query and the output,
2 group d b together. The exact step reads 2 n d b more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.common import (
    Operands,
    Precision,
    StepFormats,
    softmax_attention,
    step_formats,
)
from accelsim.kernels.attention.decode_estimate import DecodeTiling, Step
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.estimate.choice import fastest, sizes
from accelsim.kernels.estimate.footprint import fitting
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.tiling import misfit
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import Program
from accelsim.units import ceil_div
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

_STAGES = (2, 3, 4)
"""Numbers of tiles on chip that are tried."""

Declare = Callable[[ProgramBuilder, AttentionProblem, StepFormats], Any]


class DecodeParameters(Spec):
    """Choices of every decode kernel."""

    tile_k: Size | None = None
    """Key and value rows of a tile, in elements; absent: those of the lowest estimated time."""
    precision: Precision | None = None
    """fp32: every step in FP32; fp32_scores: FP32 scores and vector path, weights in the format of
    the output; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16. Absent: fp16_fp32 for FP16
    problems, fp32_scores for others."""
    stages: Size | None = None
    """Tiles of keys, and of values, on chip at a time: one in use and the others on their way;
    absent: as many as give the lowest estimated time."""


class Shape(NamedTuple):
    """Sizes in elements; `heads` are KV heads of all sequences, each with `group` query heads."""

    heads: int
    group: int
    steps: int
    kv_len: int
    dim: int
    tile: int
    causal: bool
    factor: float


class Buffers(NamedTuple):
    """On-chip tiles. `x` holds scores of all keys on their way to weights."""

    queries: Any
    keys: Any
    values: Any
    scores_acc: Any
    output_acc: Any
    scores: Any
    x: Any
    weights: Any
    largest: Any
    total: Any
    output: Any
    stored: Any


def shape_of(problem: AttentionProblem, tile_rows: int) -> Shape:
    """Return the sizes of a generation."""
    return Shape(
        heads=problem.batch * problem.kv_heads,
        group=problem.q_heads // problem.kv_heads,
        steps=problem.q_len,
        kv_len=problem.kv_len,
        dim=problem.head_dim,
        tile=tile_rows,
        causal=problem.causal,
        factor=1 / np.sqrt(problem.head_dim),
    )


def seen_in_exact_steps(problem: AttentionProblem, steps: int) -> int:
    """Return the most keys that any of the first `steps` steps sees; 0 where there are none."""
    hidden = problem.q_len - steps if problem.causal else 0
    return problem.kv_len - hidden if steps else 0


def declare_operands(
    builder: ProgramBuilder, problem: AttentionProblem, tensors: AttentionTensors | None
) -> Operands:
    """Place the operands in HBM: Q and O with all steps of a head in one row."""
    q_rows, kv_heads = problem.batch * problem.q_heads, problem.batch * problem.kv_heads
    q_cols, dim, fmt = problem.q_len * problem.head_dim, problem.head_dim, problem.dtype

    def matrix(name: str, cols: int) -> Array | None:
        return None if tensors is None else getattr(tensors, name).reshape(-1, cols)

    kv_rows = kv_heads * problem.kv_len
    return Operands(
        builder.tensor("q", "input", q_rows, q_cols, fmt, matrix("q", q_cols)),
        builder.tensor("k", "input", kv_rows, dim, fmt, matrix("k", dim)),
        builder.tensor("v", "input", kv_rows, dim, fmt, matrix("v", dim)),
        builder.tensor("o", "output", q_rows, q_cols, problem.output_dtype),
    )


def allocate(
    builder: ProgramBuilder,
    problem: AttentionProblem,
    formats: StepFormats,
    tile_rows: int,
    cols: int,
    stages: int,
) -> Buffers:
    """Declare the buffers of the frame: tiles of `tile_rows` keys or values, scores of `cols`."""
    dim = problem.head_dim
    group = problem.q_heads // problem.kv_heads
    stored, vector = formats.stored, formats.vector

    def rows(name: str, width: int, fmt: Format, slots: int = 1) -> Any:
        return builder.buffer(name, group, width, fmt, slots=slots)

    def accumulator(name: str, width: int, slots: int) -> Any:
        return builder.buffer(name, group, width, Format.FP32, slots=slots, memory="accumulator")

    x, output = rows("x", cols, vector), rows("output", dim, vector)
    return Buffers(
        queries=rows("queries", dim, stored, slots=2),
        keys=builder.buffer("keys", tile_rows, dim, stored, slots=stages),
        values=builder.buffer("values", tile_rows, dim, stored, slots=stages),
        scores_acc=accumulator("scores_acc", tile_rows, slots=2),
        output_acc=accumulator("output_acc", dim, slots=1),
        scores=rows("scores", tile_rows, formats.scores, slots=2),
        x=x,
        weights=x if formats.weights == vector else rows("weights", cols, formats.weights),
        largest=rows("largest", 1, vector),
        total=rows("total", 1, vector),
        output=output,
        stored=output if formats.output == vector else rows("stored", dim, formats.output),
    )


class DecodeTiles(NamedTuple):
    """What was chosen, and its estimate."""

    tile_k: int
    stages: int
    splits: int
    cycles: float


class Layout(NamedTuple):
    """The buffers of a decode kernel, for tiles yet to be chosen."""

    name: str
    problem: AttentionProblem
    formats: StepFormats
    declare_own: Declare | None

    def declare(
        self, builder: ProgramBuilder, tile_rows: int, keys: int, stages: int
    ) -> tuple[Buffers, Any]:
        """Declare the buffers of the frame, and those that the kernel has beside them."""
        buffers = allocate(builder, self.problem, self.formats, tile_rows, keys, stages)
        own = self.declare_own
        return buffers, own(builder, self.problem, self.formats) if own else None

    def fastest(
        self, machine: MachineSpec, parameters: DecodeParameters, keys: int, splits: list[int]
    ) -> DecodeTiles:
        """Return the tiles of the lowest estimate for steps over `keys` keys, cut into `splits`.

        Raises DoesNotFitError if none of what was asked for fits.
        """
        tilings = _tilings(parameters, keys, splits)
        length = -(-keys // tilings.splits)
        fits = fitting(machine, self.declare, tilings.tile_k, length, tilings.stages)
        if not fits.any():
            raise self._too_large(machine, tilings, keys)
        known = tilings.at(np.flatnonzero(fits))
        estimate = Step(self.problem, machine, self.formats, keys).estimate(known)
        best = fastest(estimate)
        sizes_of = {key: int(each[best]) for key, each in known._asdict().items()}
        return DecodeTiles(**sizes_of, cycles=float(estimate.cycles[best]))

    def _too_large(self, machine: MachineSpec, tilings: DecodeTiling, keys: int) -> Exception:
        """Return the error of the smallest tiles and the shortest ranges."""
        length = ceil_div(keys, int(tilings.splits.max()))
        sizes = int(tilings.tile_k.min()), length, int(tilings.stages.min())
        return misfit(self.name, machine, lambda builder: self.declare(builder, *sizes))


def layout_of(
    kernel: str,
    problem: AttentionProblem,
    parameters: DecodeParameters,
    declare_own: Declare | None,
) -> Layout:
    """Return the layout of a kernel."""
    formats = step_formats(problem.dtype, parameters.precision)
    return Layout(f"{kernel} on {problem.name}", problem, formats, declare_own)


@remembered
def _fastest(
    kernel: str,
    problem: AttentionProblem,
    machine: MachineSpec,
    parameters: DecodeParameters,
    keys: int,
    fastest: Callable[..., DecodeTiles],
) -> DecodeTiles:
    return fastest(machine, parameters, keys, [1])


def _tilings(parameters: DecodeParameters, keys: int, splits: list[int]) -> DecodeTiling:
    """Return what may be chosen from."""
    tile_k, stages = sizes(parameters.tile_k, keys), parameters.stages
    axes = np.meshgrid(tile_k, [stages] if stages else _STAGES, splits, indexing="ij")
    all_of_them = DecodeTiling(*(each.ravel() for each in axes))
    if stages:
        return all_of_them
    tiles = ceil_div(ceil_div(keys, all_of_them.splits), all_of_them.tile_k)
    # A slot more than there are tiles is never used.
    return all_of_them.at(all_of_them.stages <= np.maximum(tiles, min(_STAGES)))


@dataclass(frozen=True, slots=True)
class Frame:
    """A generation laid out on a machine, ready to be recorded."""

    problem: AttentionProblem
    tensors: AttentionTensors | None
    builder: ProgramBuilder
    formats: StepFormats
    hbm: Operands
    buffers: Buffers
    own: Any
    """What the kernel declared beside the buffers of the frame."""
    shape: Shape

    @classmethod
    def prepare(
        cls,
        kernel: str,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: DecodeParameters,
        tensors: AttentionTensors | None,
        declare_own: Declare | None = None,
        most_keys: int | None = None,
    ) -> "Frame":
        """Declare operands and buffers, with the tiles of the lowest estimated time.

        declare_own: returns what the kernel has beside the buffers of the frame; absent: nothing.
        most_keys: the most whose scores a work item holds; absent: all. Raises DoesNotFitError.
        """
        keys = most_keys or problem.kv_len
        layout = layout_of(kernel, problem, parameters, declare_own)
        tiles = _fastest(kernel, problem, machine, parameters, keys, layout.fastest)
        return cls.laid_out(layout, tiles, keys, tensors)

    @classmethod
    def laid_out(
        cls, layout: "Layout", tiles: "DecodeTiles", keys: int, tensors: AttentionTensors | None
    ) -> "Frame":
        """Declare operands and buffers with tiles that fit; keys: of which an item holds scores."""
        problem, formats = layout.problem, layout.formats
        builder = ProgramBuilder(layout.name, with_numbers=tensors is not None)
        hbm = declare_operands(builder, problem, tensors)
        own = layout.declare(builder, tiles.tile_k, keys, tiles.stages)
        shape = shape_of(problem, tiles.tile_k)
        return cls(problem, tensors, builder, formats, hbm, *own, shape)

    def record(self, kernel: Callable[..., None], num_items: int, *arguments: Any) -> Program:
        """Record kernel(p, shape, formats, *arguments, hbm, buffers)."""
        codes = self.formats.codes
        program = self.builder.record(
            kernel, num_items, self.shape, codes, *arguments, self.hbm, self.buffers
        )
        return program.with_parameters(tile_k=self.shape.tile, stages=self.buffers.keys.slots)

    @property
    def output(self) -> Array | None:
        """What the kernel computed, [batch x q_heads x q_len, head_dim]; None without numbers."""
        data: Array | None = self.hbm.o.data
        return None if data is None else data.reshape(-1, self.shape.dim)


class DecodeKernel(Kernel):
    """A kernel over the steps of a generation."""

    problem_kind: ClassVar[str] = "attention"
    phase: ClassVar[Literal["both", "decode"]] = "decode"

    @classmethod
    def oracle(cls, problem: AttentionProblem, tensors: AttentionTensors) -> Array:
        """Return softmax attention over all keys in float64."""
        return softmax_attention(problem, tensors)
