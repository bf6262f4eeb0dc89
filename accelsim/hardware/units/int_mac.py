"""The integer array of one core: products of 4 and 8 bits, whose sums can be doubled in place."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from accelsim.config.spec import Bytes, Picojoules, Spec, SquareMillimetres
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
from accelsim.hardware.units.shared_scales import scale_bytes, scales_in, sums_scaled
from accelsim.numerics.formats import Format
from accelsim.program.activity import Activity
from accelsim.program.ops import OUTPUT_SHIFT, SHIFTS_SHIFT, D, Op, Unit
from accelsim.program.program import Program
from accelsim.program.words import (
    adds_to_result,
    bits_of,
    format_in,
    has_shared_scales,
    num_blocks,
    operand_format,
    shared_scales_of,
    shifts_of,
    slot_in,
)
from accelsim.runtime.jit import jit_inner

PE_BITS = 4
"""Bits of both operands of one processing element."""
_SHIFTED, _INDEX_READ, _ALIGNED, _FIRST_MAC = range(FIRST_OWN, FIRST_OWN + 4)
_INDEX_BYTES = 4
_SHIFTS = "accumulator_shifts"
"""Accumulators that were doubled, each time counted."""
_ALIGNMENTS = "sums_aligned"
"""Sums of blocks that were shifted and added to an accumulator."""


class IntMacCost(Spec):
    """One processing element of the integer array: a 4-bit multiplier and its accumulator.

    A product of wider operands takes one multiplier for each pair of 4-bit parts, adds their
    results in half as wide adders, and the sum to one accumulator.
    """

    multiply: Sourced[Picojoules]
    """Energy of one 4-bit product, in picojoules."""
    accumulate: Sourced[Picojoules]
    """Energy of adding one product to a 32-bit accumulator, in picojoules."""
    shift: Sourced[Picojoules]
    """Energy of doubling one accumulator, in picojoules."""
    area: Sourced[SquareMillimetres]
    """Area of one multiplier and its accumulator, in mm2."""
    shift_area: Sourced[SquareMillimetres]
    """Area of what lets one accumulator shift, in mm2."""


class IntAlignCost(Spec):
    """What lets one element of the integer array add up blocks with scales of their own.

    The sum of a block has a register. A barrel shifter brings it to the unit of the accumulator.
    """

    energy: Sourced[Picojoules]
    """Energy of shifting one sum and adding it to its accumulator, in picojoules."""
    area: Sourced[SquareMillimetres]
    """Area of the shifter and the register of one element, in mm2."""


class IntMacSpec(ArithmeticSpec):
    """Output-stationary array of 4-bit multipliers whose accumulators can be doubled in place.

    After the Multi-Scale Systolic Array of Tender (ISCA 2024, arXiv 2406.12930): operands of 8 bits
    take two rows or columns of elements, so that INT8 x INT8 runs on 2 x 2 of them.
    """

    rows: Count
    """Rows of processing elements; each takes 4 bits of a row of the left operand."""
    cols: Count
    """Columns of processing elements; each takes 4 bits of a column of the right operand."""
    formats: tuple[Literal[Format.INT4, Format.INT8], ...] = Field(
        default=(Format.INT4, Format.INT8), min_length=1
    )
    """Operand formats; both operands of a product may differ."""
    accumulator_bits: Annotated[int, Field(ge=8, le=32)] = 32
    """Bits of an accumulator."""
    overflow: Literal["wrap", "saturate"] = "wrap"
    """What an accumulator does with a sum that it cannot hold; either is counted."""
    can_shift: bool = True
    """Whether accumulators can be doubled in place, in one cycle."""
    can_align: bool = False
    """Whether the sum of a block is shifted by the exponents of its scales before it is added to
    its accumulator, in one cycle (MXINT8: elements share a scale that is a power of two)."""
    pipeline_depth_cycles: Cycles
    """Cycles from the last step of an op until its result can be read by another unit."""
    index_buffer: Bytes
    """Capacity of the memory for the order of channels, in bytes."""

    def block(self, bits: int) -> int:
        """Return the rows or columns of elements that an operand of `bits` takes."""
        return -(-bits // PE_BITS)

    @property
    def latency_cycles(self) -> int:
        """Cycles from the end of an op on the unit until other units see its result."""
        return self.pipeline_depth_cycles

    @property
    def number_formats(self) -> tuple[Format, ...]:
        """Formats of the operands."""
        return self.formats

    @property
    def srams(self) -> Mapping[str, Sram]:
        """The memory for the order of channels."""
        return {"index_buffer": Sram(("index_buffer",), self.index_buffer)}

    @property
    def costed(self) -> Mapping[Path, Format | None]:
        """An element has costs, whatever the formats."""
        return {(): None}

    def check(self, program: Program, machine: str) -> None:
        """Refuse shifts and shared scales of an array that cannot."""
        for scale in scales_in(program, Op.ALIGNED_MATMUL):
            self.check_scale(scale.fmt, program.name, machine)
        if self.can_shift:
            return
        is_product = program.op_codes == Op.INT_MATMUL
        if np.any(program.ops[is_product, D] >> SHIFTS_SHIFT):
            raise DoesNotFitError(
                f"machine {machine}: its int_mac cannot shift its accumulators, which "
                f"{program.name} needs; set int_mac.can_shift"
            )

    def check_scale(self, fmt: Format, work: str, machine: str) -> None:
        """Refuse shared scales of a format that the array cannot apply."""
        if not self.can_align:
            raise DoesNotFitError(
                f"machine {machine}: its int_mac cannot align sums of blocks, which {work} needs; "
                f"set int_mac.can_align"
            )
        if fmt != Format.E8M0:
            raise DoesNotFitError(
                f"machine {machine}: its int_mac aligns sums by scales of {Format.E8M0} alone, "
                f"{work} has scales of {fmt}"
            )

    @property
    def costed_elsewhere(self) -> Mapping[Path, tuple[str, Format | None]]:
        """What aligns sums has costs of its own."""
        return {("can_align",): ("int_align", None)} if self.can_align else {}

    def energy_pj(self, activity: Activity, technology: Technology) -> float:
        """Return the energy of all products, sums and shifts, in pJ."""
        cost: IntMacCost = technology.cost_of("int_mac")
        energy_pj = activity.actions.get(_SHIFTS, 0) * cost.shift.value
        if alignments := activity.actions.get(_ALIGNMENTS, 0):
            energy_pj += alignments * technology.cost_of("int_align").energy.value
        for (left, right), macs in activity.int_macs.items():
            products = self.block(left.bits) * self.block(right.bits)
            # Partial products of wider operands meet in adders of half the width.
            additions = 1 + (products - 1) / 2
            energy_pj += macs * (products * cost.multiply.value + additions * cost.accumulate.value)
        return energy_pj

    def area_mm2(self, technology: Technology) -> float:
        """Return the area of one array, with what shifts and aligns take of it if it has them."""
        cost: IntMacCost = technology.cost_of("int_mac")
        element_mm2 = cost.area.value
        if self.can_shift:
            element_mm2 += cost.shift_area.value
        if self.can_align:
            element_mm2 += technology.cost_of("int_align").area.value
        return self.rows * self.cols * element_mm2

    def peak_cycles(self, activity: Activity) -> float:
        """Return the cycles of a full array for the MACs of each pair of formats."""
        elements = sum(
            macs * self.block(left.bits) * self.block(right.bits)
            for (left, right), macs in activity.int_macs.items()
        )
        return elements / (self.rows * self.cols)

    @property
    def idle_macs_per_cycle(self) -> float:
        """A full array at its narrowest format."""
        block = self.block(min(fmt.bits for fmt in self.formats))
        return self.rows * self.cols / block**2


class ArrayShape(NamedTuple):
    """What compiled code needs of the array."""

    rows: int
    cols: int
    port_bytes_per_cycle: float


def _shape_of(spec: IntMacSpec | None, port_bytes_per_cycle: float) -> ArrayShape:
    rows, cols = (spec.rows, spec.cols) if spec else (1, 1)
    return ArrayShape(rows, cols, port_bytes_per_cycle)


@jit_inner
def _passes(op, shape):
    """Return how often the result covers the array, and the part of it of one covering.

    As (passes along m, passes along n, rows of the result per pass, columns of it per pass); an
    operand of 8 bits takes two rows or columns of 4-bit elements.
    """
    bits_a, bits_b = bits_of(op)
    rows = max(1, shape.rows // ceil_div(bits_a, PE_BITS))
    cols = max(1, shape.cols // ceil_div(bits_b, PE_BITS))
    return ceil_div(op.a, rows), ceil_div(op.b, cols), rows, cols


@jit_inner
def _busy_cycles(op, shape):
    """Passes of the array over an m x n x k product, or the time to read its operands.

    A pass takes a cycle for each channel and each shift of all accumulators, and the skew of rows
    and columns to fill and drain: k + shifts + rows + cols - 2 (Tender, ISCA 2024, section on the
    Multi-Scale Systolic Array). Each pass streams its operands from the scratchpad. The sum of a
    block that has scales of its own takes a cycle in place of the shift.
    """
    (m, n, k), (bits_a, bits_b) = (op.a, op.b, op.c), bits_of(op)
    along_m, along_n, rows, cols = _passes(op, shape)
    operand_bytes = (along_n * m * k * bits_a + along_m * k * n * bits_b) / 8
    if has_shared_scales(op):
        between = num_blocks(k, shared_scales_of(op))
        left, right = scale_bytes(op)
        operand_bytes += along_n * left + along_m * right
    else:
        between = shifts_of(op)
    steps = along_m * along_n * (k + between + rows + cols - 2)
    return max(steps, ceil_cycles(operand_bytes, shape.port_bytes_per_cycle))


@jit_inner
def _count(op, shape, counts):
    """Operands stream from the scratchpad once for each pass; sums stay inside until it is over."""
    (m, n, k), (bits_a, bits_b) = (op.a, op.b, op.c), bits_of(op)
    along_m, along_n, _, _ = _passes(op, shape)
    right_format = format_in(op, OUTPUT_SHIFT)
    counts[_FIRST_MAC + operand_format(op) * NUM_FORMATS + right_format] += m * n * k
    left, right = (m * k * bits_a + 7) // 8, (k * n * bits_b + 7) // 8
    counts[ACCUMULATOR_WRITE] += m * n * ACCUMULATOR_BYTES
    if has_shared_scales(op):
        of_left, of_right = scale_bytes(op)
        counts[SCRATCHPAD_READ] += along_n * (left + of_left) + along_m * (right + of_right)
        counts[_ALIGNED] += sums_scaled(op)
        counts[ACCUMULATOR_READ] += m * n * ACCUMULATOR_BYTES * adds_to_result(op)
        return
    counts[SCRATCHPAD_READ] += along_n * left + along_m * right
    counts[_SHIFTED] += shifts_of(op) * m * n
    third, fourth = slot_in(op.reads, 2), slot_in(op.reads, 3)
    accumulates = op.writes in (third, fourth)
    if accumulates:
        counts[ACCUMULATOR_READ] += m * n * ACCUMULATOR_BYTES
    if third and third != op.writes:
        counts[_INDEX_READ] += along_m * along_n * k * _INDEX_BYTES


def _actions(counts: Counts) -> dict[str, Any]:
    macs = counts[_FIRST_MAC : _FIRST_MAC + NUM_FORMATS**2].reshape(NUM_FORMATS, NUM_FORMATS)
    formats = list(Format)
    return {
        "int_macs": {
            (formats[left], formats[right]): int(macs[left, right])
            for left, right in np.argwhere(macs)
        },
        "index_buffer_read_bytes": int(counts[_INDEX_READ]),
    }


INT_MAC = UnitModel(
    unit=Unit.INT_MAC,
    key="int_mac",
    shape_of=_shape_of,
    busy_cycles=_busy_cycles,
    count=_count,
    num_actions=3 + NUM_FORMATS**2,
    named_actions={_SHIFTS: _SHIFTED, _ALIGNMENTS: _ALIGNED},
    actions=_actions,
    second_format_shift=OUTPUT_SHIFT,
)
