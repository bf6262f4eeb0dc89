"""What a mask is built from, and what it is if it scores blocks from Q and K."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.operands import Operands
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.attention.sparse.masks.grid import Grid
from accelsim.kernels.attention.sparse.masks.parameters import SparseParameters
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Recorder, Tensor
from accelsim.units import ceil_div


class Heads(NamedTuple):
    """A matrix in HBM with the rows of several heads, one head after the other."""

    matrix: Tensor
    heads: int
    length: int
    """Rows of each head."""

    def tiles(self, rows: int) -> int:
        """Return how many tiles of so many rows all heads have."""
        return self.heads * ceil_div(self.length, rows)


@dataclass(frozen=True)
class Setting:
    """What a scored mask is built from."""

    builder: ProgramBuilder
    grid: Grid
    hbm: Operands
    formats: StepFormats
    parameters: SparseParameters
    machine: MachineSpec
    rows: int
    """Rows of a tile of the scorer, in elements."""

    @property
    def kv_heads(self) -> int:
        """KV heads of all sequences."""
        return self.grid.heads // self.grid.group

    @property
    def operands(self) -> tuple[Heads, Heads]:
        """Q and K."""
        grid = self.grid
        return (
            Heads(self.hbm.q, grid.heads, grid.q_len),
            Heads(self.hbm.k, self.kv_heads, grid.kv_len),
        )

    def between_stages(self, name: str, heads: int, length: int, cols: int, fmt: Format) -> Heads:
        """Place a matrix in HBM that one stage writes and the next one reads."""
        tensor = self.builder.tensor(name, "intermediate", heads * length, cols, fmt)
        return Heads(tensor, heads, length)

    def block_scores(self, heads: int) -> Heads:
        """Place the block scores of `heads` heads in HBM."""
        grid = self.grid
        return self.between_stages("block_scores", heads, grid.q_blocks, grid.k_blocks, Format.FP32)


class Stage(NamedTuple):
    """Work items of one phase, which `kernel(p, phase, items, layout)` records."""

    phase: int
    items: int
    kernel: Callable[[Recorder, int, int, Any], None]
    layout: Any


@dataclass(frozen=True)
class ScoredMask:
    """Predicts from Q and K which key blocks matter to each query block.

    Where `scores` has fewer heads than Q, neighboring query heads share one of them. Logits of
    blocks that a causal mask hides are ignored, their probabilities are zero. NaN says that nothing
    is known of the block.
    """

    scores: Heads
    """What the stages leave in HBM in FP32: for every query block one row over the key blocks."""
    stages: tuple[Stage, ...]
    """In the order of their phases, which begin with 0."""
    are_logits: bool = True
    """False: scores are probabilities."""

    @property
    def items(self) -> int:
        """Work items of all stages."""
        return sum(stage.items for stage in self.stages)

    @property
    def phases(self) -> int:
        """Phases of all stages."""
        return max((stage.phase + 1 for stage in self.stages), default=0)

    def record(self, p: Recorder) -> None:
        """Append the ops that compute the scores."""
        for stage in self.stages:
            stage.kernel(p, stage.phase, stage.items, stage.layout)
