"""The matrix unit of one core, a cube or a systolic array: products of tiles with 32-bit sums."""

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, Tag

from accelsim.config.spec import (
    Bytes,
    Factor,
    Picojoules,
    Seconds,
    Spec,
    SquareMillimetres,
    kind_or,
)
from accelsim.errors import DoesNotFitError
from accelsim.hardware.counts import Count, Cycles
from accelsim.hardware.sourced import Sourced
from accelsim.hardware.units.base import (
    ACCUMULATOR_BYTES,
    ACCUMULATOR_READ,
    ACCUMULATOR_WRITE,
    FIRST_OWN,
    NUM_FORMATS,
    SCRATCHPAD_READ,
    ArithmeticSpec,
    Counts,
    Path,
    Sram,
    Technology,
    UnitModel,
)
from accelsim.hardware.units.cycles import ceil_cycles, ceil_div
from accelsim.hardware.units.shared_scales import (
    SCALE_FORMATS,
    ScaleFormat,
    elements_in,
    scale_bytes,
    scales_in,
    sums_scaled,
)
from accelsim.numerics.formats import Format
from accelsim.program.activity import Activity
from accelsim.program.ops import OUTPUT_SHIFT, Op, Unit
from accelsim.program.program import Program
from accelsim.program.words import (
    adds_to_result,
    bits_of,
    format_in,
    has_shared_scales,
    operand_format,
    shared_scales_of,
    slot_in,
)
from accelsim.runtime.jit import jit, jit_inner

_OPERAND_READ, _OPERAND_WRITE, _FIRST_MAC = range(FIRST_OWN, FIRST_OWN + 3)
_FIRST_SCALE = _FIRST_MAC + NUM_FORMATS
_NARROW_BITS = 8
_SCALED = {fmt: f"sums_scaled_by_{fmt}" for fmt in SCALE_FORMATS}
"""Sums of blocks that were multiplied by a scale of a format, once for each of both operands."""


class MacCost(Spec):
    """One multiply-accumulate unit of the cube for one format of its operands."""

    multiply: Sourced[Picojoules]
    """Energy of one product, in picojoules."""
    accumulate: Sourced[Picojoules]
    """Energy of adding one product to a 32-bit sum, in picojoules."""
    area: Sourced[SquareMillimetres]
    """Area of one multiplier and its 32-bit adder, in mm2."""


class Dataflow(IntEnum):
    """Which operand a matrix unit holds while the others stream past; a cube holds all of them."""

    CUBE = 0
    OUTPUT_STATIONARY = 1
    WEIGHT_STATIONARY = 2
    INPUT_STATIONARY = 3


class MatrixUnit(NamedTuple):
    """Sizes in elements: the tile m, n, k of a cube; rows, columns and 1 of a systolic array."""

    dataflow: int
    rows: int
    cols: int
    depth: int
    overlaps_folds: bool


NO_MATRIX_UNIT = MatrixUnit(Dataflow.CUBE.value, 1, 1, 1, overlaps_folds=False)
"""Stands in for the unit of a machine without one, whose programs have no products."""
_DATAFLOW_CUBE = Dataflow.CUBE.value
_OUTPUT_STATIONARY = Dataflow.OUTPUT_STATIONARY.value
_WEIGHT_STATIONARY = Dataflow.WEIGHT_STATIONARY.value


class _MatrixSpec(ArithmeticSpec):
    """A matrix unit of any kind."""

    issue_cycles: Cycles = 0
    """Fixed cycles an op occupies the unit before its first step."""
    setup: Seconds = 0.0
    """What a launch takes longer when items of its phase use the unit."""
    mixes: bool = True
    """Whether the unit multiplies operands of two formats, and widens one of them on its way in; if
    not, kernels let the vector unit convert keys and values that are kept in fewer bits."""

    if TYPE_CHECKING:  # Keys of both kinds, which have them at their place of the schema.
        rates: dict[Format, Factor]
        operand_buffer: Bytes

    @property
    def scales(self) -> Mapping[ScaleFormat, int]:
        """Formats of shared scales that the unit applies; the fewest elements that share one.

        A systolic array has none: its sums pass from element to element, over all of its rows.
        """
        return {}

    @property
    def unit(self) -> MatrixUnit:
        """What the timing formulas need."""
        raise NotImplementedError

    @property
    def macs_per_step(self) -> int:
        """Multiply-accumulates of one step: the peak per cycle at rate 1."""
        raise NotImplementedError

    @property
    def setup_s(self) -> float:
        """What a launch takes longer when items of its phase use the unit, in seconds."""
        return self.setup

    @property
    def number_formats(self) -> tuple[Format, ...]:
        """Formats of the operands."""
        return tuple(self.rates)

    @property
    def srams(self) -> Mapping[str, Sram]:
        """The operand buffers, which count as one memory."""
        return {"operand_buffer": Sram(("operand_buffer",), self.operand_buffer)}

    @property
    def costed(self) -> Mapping[Path, Format | None]:
        """Each format has costs."""
        return {("rates", fmt): fmt for fmt in self.rates}

    def check(self, program: Program, machine: str) -> None:
        """Refuse shared scales and formats of elements that the unit has not."""
        for scale in scales_in(program, Op.SCALED_MATMUL):
            self.check_scale(scale.fmt, scale.block, program.name, machine)
        for fmt in elements_in(program, Op.SCALED_MATMUL):
            if fmt not in self.rates:
                raise DoesNotFitError(
                    f"machine {machine}: its cube unit has no {fmt}, which {program.name} uses; "
                    f"it has {', '.join(self.rates)}"
                )

    def check_scale(self, fmt: Format, block: int, work: str, machine: str) -> None:
        """Refuse scales of a format that `block` elements share if the unit cannot apply them."""
        fewest = {str(each): least for each, least in self.scales.items()}
        if fmt not in fewest:
            found = ", ".join(fewest) or "no scales at all"
            raise DoesNotFitError(
                f"machine {machine}: its cube applies no {fmt} scales, which {work} uses; it "
                f"applies {found}; see cube.block_scales"
            )
        if block < fewest[fmt]:
            raise DoesNotFitError(
                f"machine {machine}: its cube applies a scale of {fmt} to {fewest[fmt]} elements "
                f"or more, {work} has one for {block}; see cube.block_scales"
            )

    @property
    def costed_elsewhere(self) -> Mapping[Path, tuple[str, Format | None]]:
        """Each format of shared scales has costs."""
        return {("block_scales", fmt): ("block_scale", Format(fmt)) for fmt in self.scales}

    def energy_pj(self, activity: Activity, technology: Technology) -> float:
        """Return the energy of all products and sums, in pJ."""
        energy_pj = 0.0
        for operand, macs in activity.macs.items():
            cost: MacCost = technology.cost_of("cube", operand)
            energy_pj += macs * (cost.multiply.value + cost.accumulate.value)
        for fmt, name in _SCALED.items():
            if sums := activity.actions.get(name, 0):
                energy_pj += sums * technology.cost_of("block_scale", fmt).energy.value
        return energy_pj

    def area_mm2(self, technology: Technology) -> float:
        """Return the area of one unit: its formats share one array, so the widest one decides.

        Beside it stand multipliers for the scales of both operands, of each format as many as the
        sums that blocks of elements of up to 8 bits give in a cycle.
        """
        costs: dict[Format, MacCost] = {f: technology.cost_of("cube", f) for f in self.rates}
        array_mm2 = self.macs_per_step * max(
            rate * costs[fmt].area.value for fmt, rate in self.rates.items()
        )
        return array_mm2 + self._scales_mm2(technology)

    def _scales_mm2(self, technology: Technology) -> float:
        narrow = [rate for fmt, rate in self.rates.items() if fmt.bits <= _NARROW_BITS]
        macs_per_cycle = self.macs_per_step * max(narrow, default=0.0)
        each_mm2 = (
            technology.cost_of("block_scale", fmt).area.value / fewest
            for fmt, fewest in self.scales.items()
        )
        return 2 * macs_per_cycle * sum(each_mm2)

    def peak_cycles(self, activity: Activity) -> float:
        """Return the cycles of full steps for the MACs of each format."""
        steps = sum(macs / self.rates[operand] for operand, macs in activity.macs.items())
        return steps / self.macs_per_step

    @property
    def idle_macs_per_cycle(self) -> float:
        """One step a cycle."""
        return self.macs_per_step


class CubeSpec(_MatrixSpec):
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
    block_scales: dict[ScaleFormat, Count] = Field(default_factory=dict)
    """Formats of the scales that the unit applies to sums of products, and the fewest elements
    along k that may share one; absent: none, and scales are applied on the way out."""

    @property
    def scales(self) -> Mapping[ScaleFormat, int]:
        """Formats of shared scales, and the fewest elements that share one."""
        return self.block_scales

    @property
    def unit(self) -> MatrixUnit:
        """What the timing formulas need."""
        return MatrixUnit(Dataflow.CUBE.value, self.tile_m, self.tile_n, self.tile_k, False)

    @property
    def macs_per_step(self) -> int:
        """Multiply-accumulates of one step: the peak per cycle at rate 1."""
        return self.tile_m * self.tile_n * self.tile_k

    @property
    def latency_cycles(self) -> int:
        """Cycles from the end of an op on the unit until other units see its result."""
        return self.pipeline_depth_cycles


class SystolicSpec(_MatrixSpec):
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
        dataflow = Dataflow[self.dataflow.upper()].value
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


def pass_cycles(unit: MatrixUnit) -> int:
    """Cycles of a systolic array from the start of a fold to its last result, but for streaming.

    A stationary operand is filled in row by row; what enters a corner leaves at the other one.
    """
    fill = 0 if unit.dataflow == _OUTPUT_STATIONARY else unit.rows
    return fill + unit.rows + unit.cols - 2


_pass_cycles = jit_inner(pass_cycles)


@jit
def matrix_steps(m: int, n: int, k: int, unit: MatrixUnit) -> int:
    """Cycles at rate 1 for which an m x n x k product occupies the matrix unit."""
    if unit.dataflow == _DATAFLOW_CUBE:
        return ceil_div(m, unit.rows) * ceil_div(n, unit.cols) * ceil_div(k, unit.depth)
    folds, streamed = _folds(m, n, k, unit)
    if unit.overlaps_folds:
        # The next fold fills in and streams behind this one; the pass through is latency.
        return folds * max(streamed, unit.rows)
    # What SCALE-Sim v3 (Raj et al., 2025) counts: an edge fold costs as much as any other.
    return folds * (streamed + _pass_cycles(unit))


@jit_inner
def _folds(m, n, k, unit):
    """Tiles of what a systolic array holds at once, and the size that streams past each."""
    if unit.dataflow == _OUTPUT_STATIONARY:
        return ceil_div(m, unit.rows) * ceil_div(n, unit.cols), k
    if unit.dataflow == _WEIGHT_STATIONARY:
        return ceil_div(k, unit.rows) * ceil_div(n, unit.cols), m
    return ceil_div(k, unit.rows) * ceil_div(m, unit.cols), n


@jit
def operand_passes(m: int, n: int, k: int, unit: MatrixUnit) -> tuple[int, int, int]:
    """How often a product reads its left and right operand, and how often it adds to its result.

    A cube reads each operand once for each tile of the other and adds once for each step along k;
    an array reads what is stationary once, and adds inside itself where that is the output.
    """
    if unit.dataflow == _DATAFLOW_CUBE:
        return ceil_div(n, unit.cols), ceil_div(m, unit.rows), ceil_div(k, unit.depth)
    if unit.dataflow == _OUTPUT_STATIONARY:
        return ceil_div(n, unit.cols), ceil_div(m, unit.rows), 1
    if unit.dataflow == _WEIGHT_STATIONARY:
        return ceil_div(n, unit.cols), 1, ceil_div(k, unit.rows)
    return 1, ceil_div(m, unit.cols), ceil_div(k, unit.rows)


class CubeShape(NamedTuple):
    """What compiled code needs of the unit."""

    unit: MatrixUnit
    rates: npt.NDArray[np.float64]
    """Steps per cycle of every format; 1 for those that the unit lacks."""
    issue_cycles: int
    port_bytes_per_cycle: float


def _shape_of(spec: _MatrixSpec | None, port_bytes_per_cycle: float) -> CubeShape:
    if spec is None:
        return CubeShape(NO_MATRIX_UNIT, np.ones(NUM_FORMATS), 0, port_bytes_per_cycle)
    rates = np.array([spec.rates.get(fmt, 1.0) for fmt in Format])
    return CubeShape(spec.unit, rates, spec.issue_cycles, port_bytes_per_cycle)


@jit_inner
def _busy_cycles(op, shape):
    """Steps of the unit over an m x n x k product, or the time to read its operands, plus issue."""
    (m, n, k), (bits_a, bits_b) = (op.a, op.b, op.c), bits_of(op)
    steps = float(matrix_steps(m, n, k, shape.unit))
    operand_bytes = (m * k * bits_a + k * n * bits_b) / 8
    rate = shape.rates[operand_format(op)]
    if has_shared_scales(op):
        left, right = scale_bytes(op)
        operand_bytes += left + right
        rate = min(rate, shape.rates[format_in(op, OUTPUT_SHIFT)])
    computing = ceil_cycles(steps, rate)
    reading = ceil_cycles(operand_bytes, shape.port_bytes_per_cycle)
    return shape.issue_cycles + max(computing, reading)


@jit_inner
def _count(op, shape, counts):
    """Operands go to their buffers once for each op, and are read from there in every pass.

    Shared scales go with their elements. Products of two formats count as the wider one.
    """
    (m, n, k), (bits_a, bits_b) = (op.a, op.b, op.c), bits_of(op)
    left, right = (m * k * bits_a + 7) // 8, (k * n * bits_b + 7) // 8
    left_passes, right_passes, steps = operand_passes(m, n, k, shape.unit)
    accumulates = slot_in(op.reads, 2) != 0
    if has_shared_scales(op):
        accumulates = adds_to_result(op)
        of_left, of_right = scale_bytes(op)
        left, right = left + of_left, right + of_right
        scales = shared_scales_of(op)
        counts[_FIRST_SCALE + scales.format_a] += sums_scaled(op)
        counts[_FIRST_SCALE + scales.format_b] += sums_scaled(op)
    result = m * n * ACCUMULATOR_BYTES
    counts[_FIRST_MAC + operand_format(op)] += m * n * k
    counts[SCRATCHPAD_READ] += left + right
    counts[_OPERAND_WRITE] += left + right
    counts[_OPERAND_READ] += left * left_passes + right * right_passes
    counts[ACCUMULATOR_WRITE] += steps * result
    counts[ACCUMULATOR_READ] += (steps if accumulates else steps - 1) * result


def _actions(counts: Counts) -> dict[str, Any]:
    macs = counts[_FIRST_MAC : _FIRST_MAC + NUM_FORMATS]
    return {
        "macs": {fmt: int(macs[code]) for code, fmt in enumerate(Format) if macs[code]},
        "operand_buffer_read_bytes": int(counts[_OPERAND_READ]),
        "operand_buffer_write_bytes": int(counts[_OPERAND_WRITE]),
    }


CUBE = UnitModel(
    unit=Unit.CUBE,
    key="cube",
    shape_of=_shape_of,
    busy_cycles=_busy_cycles,
    count=_count,
    num_actions=2 + 2 * NUM_FORMATS,
    named_actions={name: _FIRST_SCALE + fmt.code for fmt, name in _SCALED.items()},
    actions=_actions,
)
