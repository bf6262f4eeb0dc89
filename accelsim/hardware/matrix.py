"""What the matrix unit of one core is: a cube or a systolic array."""

from typing import Annotated, Literal

from pydantic import Field, Tag

from accelsim.config.spec import Bytes, Factor, Seconds, Spec, kind_or
from accelsim.hardware.counts import Count, Cycles
from accelsim.hardware.matrix_unit import Dataflow, MatrixUnit, pass_cycles
from accelsim.numerics.formats import Format


class _LaunchedSpec(Spec):
    """What it takes to begin with a matrix unit of any kind."""

    issue_cycles: Cycles = 0
    """Fixed cycles an op occupies the unit before its first step."""
    setup: Seconds = 0.0
    """What a launch takes longer when items of its phase use the unit."""


class CubeSpec(_LaunchedSpec):
    """Matrix unit: one m x n x k tile product per cycle at rate 1."""

    kind: Literal["cube"] = "cube"
    """Timing model of the matrix unit."""
    tile_m: Count
    """Rows of the left operand consumed per step, in elements."""
    tile_n: Count
    """Columns of the right operand consumed per step, in elements."""
    tile_k: Count
    """Reduction depth of one step, in elements."""
    rates: dict[Format, Factor] = Field(min_length=1)
    """Steps per cycle for each operand format the unit supports."""
    pipeline_depth_cycles: Cycles
    """Cycles from the last step of an op until its result can be read by another unit."""
    operand_buffer: Bytes
    """Capacity of the operand buffers next to the array (L0A and L0B together), in bytes."""

    @property
    def unit(self) -> MatrixUnit:
        """What the timing formulas need."""
        return MatrixUnit(Dataflow.CUBE, self.tile_m, self.tile_n, self.tile_k, False)

    @property
    def macs_per_step(self) -> int:
        """Multiply-accumulates of one step: the peak per cycle at rate 1."""
        return self.tile_m * self.tile_n * self.tile_k

    @property
    def latency_cycles(self) -> int:
        """Cycles from the end of an op on the unit until other units see its result."""
        return self.pipeline_depth_cycles


class SystolicSpec(_LaunchedSpec):
    """Matrix unit: a systolic array of rows x cols elements, one MAC each per cycle at rate 1.

    A fold is what the array holds at once: a tile of the output, or one of the weights (the right
    operand) or the input (the left one) that is filled in row by row while nothing streams.
    """

    kind: Literal["systolic"] = "systolic"
    """Timing model of the matrix unit."""
    rows: Count
    """Rows of the array, in elements: of the output, or of the depth of a stationary operand."""
    cols: Count
    """Columns of the array, in elements."""
    dataflow: Literal["output_stationary", "weight_stationary", "input_stationary"]
    """Which operand the array holds while the others stream past."""
    overlap_folds: bool = False
    """Whether a fold fills in behind the one before: a second set of registers in each element."""
    rates: dict[Format, Factor] = Field(min_length=1)
    """Beats per cycle for each operand format the unit supports."""
    pipeline_depth_cycles: Cycles
    """Cycles from the last result of an op leaving the array until another unit can read it."""
    operand_buffer: Bytes
    """Capacity of the buffers that feed the edges of the array, in bytes."""

    @property
    def unit(self) -> MatrixUnit:
        """What the timing formulas need."""
        dataflow = Dataflow[self.dataflow.upper()]
        return MatrixUnit(dataflow, self.rows, self.cols, 1, self.overlap_folds)

    @property
    def macs_per_step(self) -> int:
        """Multiply-accumulates of one beat of a full array: the peak per cycle at rate 1."""
        return self.rows * self.cols

    @property
    def latency_cycles(self) -> int:
        """Cycles from the end of an op on the unit until other units see its result."""
        hidden = pass_cycles(self.unit) if self.overlap_folds else 0
        return hidden + self.pipeline_depth_cycles


Cube = Annotated[
    Annotated[CubeSpec, Tag("cube")] | Annotated[SystolicSpec, Tag("systolic")], kind_or("cube")
]
"""A matrix unit of either kind."""
