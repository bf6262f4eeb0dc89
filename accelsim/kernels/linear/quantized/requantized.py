"""Tender's channel groups requantized explicitly: what its shift avoids.

Every group is a product of its own, whose sums leave the integer array, become FP32, are scaled and
added to those of the groups before, on the vector unit. Empty groups are skipped. Codes, scales,
bases and bias are those of `tender`, so the results differ by the roundings of the additions alone;
the array needs no shift.

A product over k channels in G groups that are not empty takes k + G (rows + cols - 2) cycles of the
array, and four vector ops over the result for each group (three for the first), where `tender`
takes k + (G - 1) + rows + cols - 2 and one. HBM traffic is that of `tender`.
"""

from typing import ClassVar

from accelsim.config.spec import Spec
from accelsim.kernels.linear.integer.frame import QuantizedLinear
from accelsim.kernels.linear.integer.grouped import grouped_plan
from accelsim.kernels.linear.integer.parameters import GroupedParameters
from accelsim.kernels.linear.integer.scheme import Plan
from accelsim.kernels.linear.integer.steps import (
    drain,
    first_start,
    load_operands,
    load_order,
    num_items,
    place_of,
    tiles_of,
    write_output,
)
from accelsim.program import language as al
from accelsim.runtime.jit import jit, jit_inner
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


@jit
def requantized(p, phase, k):
    """All tiles of Y: each group of every panel a product, scaled by its factor and added."""
    for item in range(num_items(k)):
        al.begin_item(p, phase)
        drained = 0
        for number in range(tiles_of(item, k)):
            at = place_of(item, number, k)
            total = al.tile(k.total, 0, at.rows, at.cols)
            drained = _sum_groups(p, total, drained, at, k)
            write_output(p, total, at, k)


@jit_inner
def _sum_groups(p, total, drained, at, k):
    """Sum up the groups of a tile of Y; `drained`, which is returned, counts those of its item."""
    before = drained
    for panel in range(k.panels):
        x, w = load_operands(p, panel, at, k)
        order = load_order(p, panel, at, k)
        for group in range(k.groups):
            start = first_start(panel, at, k) + group
            if k.starts[start] == k.starts[start + 1]:
                continue
            acc = al.tile(k.acc, drained, at.rows, at.cols)
            own = al.groups_from(order, k.starts, start, 1)
            al.shift_accumulate(p, acc, x, w, own, k.accumulator, False)
            part, factor = drain(p, drained, acc, k), k.factors[at.chunk, group]
            if drained == before:
                al.scale(p, total, part, factor)
            else:
                al.scale(p, part, part, factor)
                al.add(p, total, total, part)
            drained += 1
    return drained


class Requantized(QuantizedLinear):
    """Quantized linear over channel groups, requantized outside the array."""

    name: ClassVar[str] = "requantized"
    summary: ClassVar[str] = "quantized linear, channel groups requantized on the vector unit"
    parameters: ClassVar[type[Spec]] = GroupedParameters

    @classmethod
    def plan(
        cls, problem: GemmProblem, parameters: GroupedParameters, tensors: GemmTensors | None
    ) -> Plan:
        """Return how the linear is computed; raises QuantizationError."""
        return grouped_plan(problem, parameters, tensors, requantized, drains=True)
