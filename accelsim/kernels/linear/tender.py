"""Tender: channel groups whose scales are powers of two apart, requantized by a shift.

The integer array takes the channels in the order of their groups, largest scale first, and doubles
all its sums before each next group, also when that is empty: sums of the largest scale become sums
of the next without leaving the array. So a tile is drained and scaled once, whatever the groups.

Source: Lee, Lee and Sim, "Tender: Accelerating Large Language Models via Tensor Decomposition and
Runtime Requantization", ISCA 2024, arXiv 2406.12930, equation 2.

A product over k channels in G groups takes k + (G - 1) + rows + cols - 2 cycles of an array of
rows x cols results. If not all channels fit the scratchpad, each panel of them takes all shifts and
the way through the array, and its sums are added in the accumulator.

HBM traffic in bytes, with codes of a and w bits, R row tiles in C chunks, P panels of k, and B
blocks of the T column tiles of t_n columns: loads X, 8 k for the bias and reciprocal of each row
tile of the quantizing phase, (m a / 8 + 4 R) k B, or T instead of B if P > 1, R k n w / 8 for the
weights, 8 R n for scale and bias; stores m k a / 8 for the codes, Y.
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
from accelsim.program.old.integer import shift_accumulate
from accelsim.program.old.language import tile
from accelsim.program.program import Program
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


@jit
def tender(p, phase, row_tiles, groups, starts, accumulator, peak, has, shape, hbm, b):
    """All tiles of Y: the groups of every panel in one product, drained once."""
    for item in range(len(row_tiles) * shape.blocks):
        strip = begin_strip(p, phase, item, row_tiles, shape)
        for col_tile in range(strip.first, strip.end):
            rows, cols = strip.rows, columns_of(col_tile, shape)
            acc = tile(b.acc, col_tile)
            for panel in range(shape.panels):
                x, w = load_operands(p, strip, col_tile, panel, shape, hbm, b)
                order = load_order(p, strip, col_tile, panel, shape, hbm, b)
                first = (strip.chunk * shape.panels + panel) * (groups + 1)
                shift_accumulate(
                    p, acc, x, w, order, starts, first, groups, rows, cols, accumulator, panel > 0
                )
            wide = drain(p, col_tile, acc, rows, cols, peak, b)
            write_output(p, wide, strip, col_tile, has, shape, hbm, b)


class Tender(QuantizedLinear):
    """Quantized linear over channel groups, requantized in the array."""

    name: ClassVar[str] = "tender"
    summary: ClassVar[str] = "quantized linear, channel groups requantized by shifts in the array"
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
        scheme = grouped.scheme(Work(shifts=groups - 1))
        frame = Frame.prepare(cls.name, problem, machine, parameters, scheme)
        order, peak = grouped.order(frame.tiles.k), np.zeros(1, np.int64)
        largest = grouped.largest_sum(lambda group: 2.0 ** (groups - 1 - group))
        warn_of_overflow(frame, largest, "fewer groups or fewer bits")
        program, y = frame.record(
            grouped.numbers(order), tender, groups, order.starts, frame.accumulator, peak
        )
        program = program.with_parameters(**grouped.chosen)
        return with_sums(program, largest, peak, groups_used=grouped.groups_used), y
