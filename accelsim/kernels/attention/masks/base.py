"""What a mask is built from, and the contract of masks that score blocks from Q and K."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.common import Operands, StepFormats
from accelsim.kernels.attention.masks.grid import Grid
from accelsim.kernels.attention.masks.parameters import SparseParameters
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Recorder, Tensor


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

    def scores_tensor(self, heads: int) -> Tensor:
        """Place the block scores of `heads` heads in HBM."""
        rows = heads * self.grid.q_blocks
        return self.builder.tensor(
            "block_scores", "intermediate", rows, self.grid.k_blocks, Format.FP32
        )


class ScoredMask(ABC):
    """Predicts from Q and K which key blocks matter to each query block.

    Contract: the constructor declares tensors and buffers and computes nothing. `record` appends
    `items` work items in the phases 0 to `phases` - 1 and leaves in `scores`, FP32 in HBM, one row
    over the key blocks for every query block: logits or, with `are_logits` false, probabilities. A
    row serves `share` neighboring query heads. Logits of blocks that a causal mask hides are
    ignored, their probabilities are zero. NaN says that nothing is known of the block.
    """

    are_logits: ClassVar[bool] = True
    phases: ClassVar[int]
    share: int = 1
    scores: Tensor
    items: int

    @abstractmethod
    def __init__(self, setting: Setting) -> None:
        """Declare tensors and buffers."""

    @abstractmethod
    def record(self, p: Recorder) -> None:
        """Append the ops that compute the scores."""
