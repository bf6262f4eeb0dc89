"""Tender: channel groups whose scales are powers of two apart, requantized by a shift.

The integer array takes the channels in the order of their groups, largest scale first, and doubles
all its sums before each next group, also when that is empty: sums of the largest scale become sums
of the next without leaving the array. So a tile is drained and scaled once, whatever the groups.

Source: Lee, Lee and Sim, "Tender: Accelerating Large Language Models via Tensor Decomposition and
Runtime Requantization", ISCA 2024, arXiv 2406.12930, equation 2.

A product over k channels in G groups takes k + (G - 1) + rows + cols - 2 cycles of an array of
rows x cols results. If not all channels fit the scratchpad, each panel of them takes all shifts and
the way through the array, and its sums are added in the accumulator.

Codes of X come from `base`. `static`: the range of every group is calibrated, as published. `row`,
the default, which is not in the paper: only groups are, and every row finds its own base in the run
(`accelsim.quantization.channel_groups`), which costs one product an element on the vector unit
beside a scale per row; the base of the row leaves the sum. With `candidates` a row tries several,
at eight vector ops an element each. With `rotation: hadamard` blocks of channels are rotated first
(`linear.rotation`), and groups are those of the rotated X.

HBM traffic in bytes, with codes of a and w bits, R row tiles in C chunks, P panels of k, and B
blocks of the T column tiles of t_n columns: loads X, 4 k for the reciprocal, or 2^group, of each
row tile of the quantizing phase, 4 k more for a bias, (m a / 8 + 4 R) k B, or T instead of B if
P > 1, R k n w / 8 for the weights, 4 R n for the scale, 4 R n for a bias; stores m k a / 8 for the
codes, Y. With bases of rows also 4 m for them, stored once and loaded B times, and X and its rows
of numbers again if a row does not fit the scratchpad.
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
from accelsim.runtime.jit import jit
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


@jit
def tender(p, phase, k):
    """All tiles of Y: the groups of every panel in one product, drained once."""
    for item in range(num_items(k)):
        al.begin_item(p, phase)
        for number in range(tiles_of(item, k)):
            at = place_of(item, number, k)
            acc = al.tile(k.acc, at.col_tile, at.rows, at.cols)
            for panel in range(k.panels):
                x, w = load_operands(p, panel, at, k)
                order = load_order(p, panel, at, k)
                groups = al.groups_from(order, k.starts, first_start(panel, at, k), k.groups)
                al.shift_accumulate(p, acc, x, w, groups, k.accumulator, panel > 0)
            write_output(p, drain(p, at.col_tile, acc, k), at, k)


class Tender(QuantizedLinear):
    """Quantized linear over channel groups, requantized in the array."""

    name: ClassVar[str] = "tender"
    summary: ClassVar[str] = "quantized linear, channel groups requantized by shifts in the array"
    parameters: ClassVar[type[Spec]] = GroupedParameters

    @classmethod
    def plan(
        cls, problem: GemmProblem, parameters: GroupedParameters, tensors: GemmTensors | None
    ) -> Plan:
        """Return how the linear is computed; raises QuantizationError."""
        return grouped_plan(problem, parameters, tensors, tender, drains=False)
