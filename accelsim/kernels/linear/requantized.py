"""Tender's channel groups requantized explicitly: what its shift avoids.

Every group is a product of its own, whose sums leave the integer array, become FP32, are scaled and
added to those of the groups before, on the vector unit. Empty groups are skipped. Codes, scales and
bias are those of `tender`, so the results differ by the roundings of the additions alone; the array
needs no shift.

A product over k channels in G groups that are not empty takes k + G (rows + cols - 2) cycles of the
array, and four vector ops over the result for each group (three for the first), where `tender`
takes k + (G - 1) + rows + cols - 2 and one. HBM traffic is that of `tender`.
"""

from typing import ClassVar

import numpy as np

from accelsim.config.spec import Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit
from accelsim.kernels.base import Array
from accelsim.kernels.linear.integer.bounds import warn_of_overflow, with_sums
from accelsim.kernels.linear.integer.frame import Frame, QuantizedLinear
from accelsim.kernels.linear.integer.grouped import Grouped
from accelsim.kernels.linear.integer.parameters import GroupedParameters
from accelsim.kernels.linear.integer.scheme import Work
from accelsim.kernels.linear.integer.steps import (
    begin_strip,
    columns_of,
    drain,
    load_operands,
    load_order,
    write_output,
)
from accelsim.numerics.formats import FP32
from accelsim.program.old.integer import shift_accumulate
from accelsim.program.old.language import add, scale, tile
from accelsim.program.program import Program
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


@jit
def requantized(p, phase, row_tiles, factors, starts, accumulator, peak, has, shape, hbm, b):
    """All tiles of Y: each group of every panel a product, scaled by its factor and added."""
    groups = factors.shape[1]
    for item in range(len(row_tiles) * shape.blocks):
        strip = begin_strip(p, phase, item, row_tiles, shape)
        drained = 0
        for col_tile in range(strip.first, strip.end):
            rows, cols = strip.rows, columns_of(col_tile, shape)
            total, is_empty = tile(b.total, 0), True
            for panel in range(shape.panels):
                x, w = load_operands(p, strip, col_tile, panel, shape, hbm, b)
                order = load_order(p, strip, col_tile, panel, shape, hbm, b)
                first = (strip.chunk * shape.panels + panel) * (groups + 1)
                for group in range(groups):
                    at = first + group
                    if starts[at] == starts[at + 1]:
                        continue
                    acc = tile(b.acc, drained)
                    shift_accumulate(
                        p, acc, x, w, order, starts, at, 1, rows, cols, accumulator, False
                    )
                    part = drain(p, drained, acc, rows, cols, peak, b)
                    factor = factors[strip.chunk, group]
                    if is_empty:
                        scale(p, total, part, factor, rows, cols, FP32)
                    else:
                        scale(p, part, part, factor, rows, cols, FP32)
                        add(p, total, total, part, rows, cols, FP32)
                    drained += 1
                    is_empty = False
            write_output(p, total, strip, col_tile, has, shape, hbm, b)


class Requantized(QuantizedLinear):
    """Quantized linear over channel groups, requantized outside the array."""

    name: ClassVar[str] = "requantized"
    summary: ClassVar[str] = "quantized linear, channel groups requantized on the vector unit"
    parameters: ClassVar[type[Spec]] = GroupedParameters

    @classmethod
    def record(
        cls,
        problem: GemmProblem,
        machine: MachineSpec,
        parameters: GroupedParameters,
        tensors: GemmTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, Y [m, n]; warns of sums that may not fit."""
        grouped = Grouped.of(problem, parameters, tensors)
        groups = grouped.options.groups
        scheme = grouped.scheme(Work(drains=groups))
        frame = Frame.prepare(cls.name, problem, machine, parameters, scheme)
        order, peak = grouped.order(frame.tiles.k), np.zeros(1, np.int64)
        largest = grouped.largest_sum(np.ones_like)
        warn_of_overflow(frame, largest, "fewer bits")
        # The scale of the output is that of the last group.
        factors = np.tile(2.0 ** np.arange(groups)[::-1], (len(grouped.spans), 1))
        program, y = frame.record(
            grouped.numbers(order), requantized, factors, order.starts, frame.accumulator, peak
        )
        program = program.with_parameters(**grouped.chosen)
        return with_sums(program, largest, peak, groups_used=grouped.groups_used), y
