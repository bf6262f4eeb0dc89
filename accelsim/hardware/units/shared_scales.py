"""What units that multiply operands with shared scales have in common."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.config.spec import Picojoules, Spec, SquareMillimetres
from accelsim.hardware.sourced import Sourced
from accelsim.numerics.formats import Format
from accelsim.program.ops import (
    BLOCK_A_SHIFT,
    BLOCK_B_SHIFT,
    BLOCK_MASK,
    FIELD_MASK,
    HEAD,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    SCALE_A_SHIFT,
    SCALE_B_SHIFT,
    SCALE_MASK,
    D,
    Op,
)
from accelsim.program.program import Program
from accelsim.program.words import num_blocks, shared_scales_of
from accelsim.runtime.jit import jit_inner

ScaleFormat = Literal[Format.E8M0, Format.FP8_E4M3, Format.FP32]
SCALE_FORMATS: tuple[Format, ...] = (Format.E8M0, Format.FP8_E4M3, Format.FP32)
_BITS = np.array([fmt.bits for fmt in Format])


class ScaleCost(Spec):
    """What applies one scale to the sum of a block."""

    energy: Sourced[Picojoules]
    """Energy of scaling one sum by the scale of one operand, in picojoules."""
    area: Sourced[SquareMillimetres]
    """Area of what scales one sum a cycle by one scale, in mm2."""


class SharedScale(NamedTuple):
    """A format of scales, and the elements along k that share one."""

    fmt: Format
    block: int


def scales_in(program: Program, op: Op) -> list[SharedScale]:
    """Return the scales of all products of a kind."""
    if not program.totals.counts[op]:
        return []
    words = program.ops[program.op_codes == op, D]
    found: set[SharedScale] = set()
    for scale_shift, block_shift in (
        (SCALE_A_SHIFT, BLOCK_A_SHIFT),
        (SCALE_B_SHIFT, BLOCK_B_SHIFT),
    ):
        pairs = [words >> scale_shift & SCALE_MASK, words >> block_shift & BLOCK_MASK]
        for code, block in np.unique(np.stack(pairs, axis=1), axis=0).tolist():
            found.add(SharedScale(list(Format)[code], block))
    return sorted(found)


def elements_in(program: Program, op: Op) -> Iterator[Format]:
    """Yield the formats of the elements of all products of a kind."""
    if not program.totals.counts[op]:
        return
    heads = program.ops[program.op_codes == op, HEAD]
    for shift in (OPERAND_SHIFT, OUTPUT_SHIFT):
        yield from (list(Format)[code] for code in np.unique(heads >> shift & FIELD_MASK))


@jit_inner
def scale_bytes(op: Any) -> tuple[int, int]:
    """Return the bytes of the scales of the left and the right operand of a product."""
    scales = shared_scales_of(op)
    of_a, of_b = -(-op.c // scales.block_a), -(-op.c // scales.block_b)
    across = -(-op.b // scales.across)
    left, right = op.a * of_a * _BITS[scales.format_a], of_b * across * _BITS[scales.format_b]
    return left >> 3, right >> 3


@jit_inner
def sums_scaled(op: Any) -> int:
    """Return the sums of blocks of a product."""
    sums: int = op.a * op.b * num_blocks(op.c, shared_scales_of(op))
    return sums
