"""Linear whose operands have shared scales: MXFP8, MXFP6, MXFP4, MXINT8, NVFP4, FP8 in blocks.

Y = X W. X is encoded on the chip in a phase of its own, W before the run; elements and scales are
two matrices each. Elements that are floating-point numbers are multiplied by the cube, integers by
the integer array. Either applies the scales itself where the machine has what that takes; if not,
the sums of each block are drained and the vector unit scales and adds them.

Sources: OCP Microscaling Formats (MX) Specification v1.0, 2023; Rouhani et al., "Microscaling Data
Formats for Deep Learning", 2023, arXiv 2310.10537; NVIDIA, "Pretraining Large Language Models with
NVFP4", 2025; DeepSeek-V3 Technical Report, 2024, section 3.3.2.

HBM traffic in bytes, with e_x and e_w bits an element, s_x and s_w bytes a scale, runs of b_x and
b_w elements (of W also c columns), tiles of t_m x t_n, R = ceil(m / t_m) and T = ceil(n / t_n):
loads T m (k e_x / 8 + ceil(k / b_x) s_x) and R (k n e_w / 8 + ceil(k / b_w) n / c s_w); stores Y.
Encoding loads X, twice where scales are over the largest of a row and it takes several tiles, and
stores m (k e_x / 8 + ceil(k / b_x) s_x). With scales over the largest of their row and column there
are 4 T m and 4 R n bytes more to load and 4 m to store.

The cube takes ceil(t_m / M) ceil(t_n / N) ceil(t_k / K) / rate cycles a step, the scales none. The
array takes t_k + ceil(t_k / b) + rows + cols - 2 for each tile of it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.integer.accumulator import accumulator_of, warn_of_sums
from accelsim.kernels.integer.known import Known, input_tensor
from accelsim.kernels.integer.phases import Loop, in_turn
from accelsim.kernels.linear.integer.operands import column_tiles
from accelsim.kernels.linear.mx.encoding import Encoding, Matrices, place_input
from accelsim.kernels.linear.mx.operands import (
    known_of,
    largest_sum,
    most_guard_bits,
    scale_tiles,
)
from accelsim.kernels.linear.mx.parameters import MxParameters
from accelsim.kernels.linear.mx.plan import Plan, plan_of
from accelsim.kernels.linear.mx.products import in_array, in_cube, out_of_array, out_of_cube
from accelsim.kernels.linear.mx.steps import Layout, Operand
from accelsim.kernels.linear.mx.tiles import has_factor, product_buffers, rival_tiles
from accelsim.kernels.linear.product import ProductKernel, Workspace
from accelsim.kernels.linear.rotation import rotated
from accelsim.kernels.linear.tiles import Choice, declare
from accelsim.numerics.block_formats import BlockFormat, BlockLayout
from accelsim.quantization.codes import check_finite

_LOOPS = {
    (False, True): in_cube,
    (False, False): out_of_cube,
    (True, True): in_array,
    (True, False): out_of_array,
}
"""(the integer array multiplies, the unit applies the scales) -> the loop."""


_Workspace = Workspace[al.GemmProblem, MxParameters]


class Mx(ProductKernel):
    """Linear with shared scales."""

    name = "mx"
    summary = "linear with shared scales: MXFP8, MXFP6, MXFP4, MXINT8, NVFP4"
    output: ClassVar[str] = "y"
    is_exact = False
    leaves_open = "tile_m", "tile_n", "tile_k"
    parameters = MxParameters

    @classmethod
    def stored_dtypes(
        cls, problem: al.GemmProblem, parameters: MxParameters
    ) -> dict[str, al.Format]:
        """Return the formats of elements, and of Y."""
        activations = parameters.activations or BlockFormat.MXFP8_E4M3  # As wide as MXINT8.
        weights = parameters.weights or activations
        made = {"a": activations.layout.element} if parameters.input == "quantized" else {}
        return {"b": weights.layout.element, "c": al.Format(parameters.output_format), **made}

    @classmethod
    def choices(
        cls, problem: al.GemmProblem, machine: al.MachineSpec, parameters: MxParameters
    ) -> Sequence[Choice]:
        """Return the tilings that may be the fastest; raises DoesNotFitError."""
        return rival_tiles(problem, machine, parameters)

    @classmethod
    def loop(cls, at: _Workspace) -> tuple[Any, int, Any]:
        """Place X, W and Y, and encode X in a phase of its own unless the producer of X has."""
        plan, is_made = _plan_of(at), at.parameters.input == "quantized"
        known = _known(plan, at)
        if known and plan.on_array:
            _warn_of_sums(plan, at)
        encoding = None if is_made else Encoding.of(at.machine, plan, at.problem)
        sizes = product_buffers(plan, at.parameters, at.tiles)
        buffers = declare(at.builder, [*sizes, *(encoding.buffers() if encoding else [])])
        made = place_input(at.builder, plan, at.problem, known, is_made)
        phases = [[encoding.loop(at.builder, known, made, buffers)]] if encoding else []
        layout = _Frame(at, plan, known, buffers).layout(made)
        loop = Loop(_LOOPS[plan.on_array, plan.in_unit], num_tiles(layout), (layout,))
        return in_turn([*phases, [loop]])

    @classmethod
    def chosen(cls, at: _Workspace) -> dict[str, int | str]:
        """Return the values of the parameters that were left to the kernel."""
        plan = _plan_of(at)
        formats = {"activations": str(plan.activations), "weights": str(plan.weights)}
        guard = {"guard_bits": _sums(plan, at)[0]} if plan.is_relative else {}
        turned: dict[str, int | str] = {}
        if plan.rotation:
            unit = "cube" if plan.rotates_on_cube else "vector"
            turned = {"rotation_block": plan.rotation, "rotate_on": unit}
        return {**formats, **super().chosen(at), **guard, **turned}

    @classmethod
    def told(cls, at: _Workspace, program: al.Program) -> dict[str, float]:
        """Return how many sums an accumulator did not hold."""
        is_counted = _plan_of(at).on_array
        return {"accumulator_overflows": float(program.overflows)} if is_counted else {}


def _warn_of_sums(plan: Plan, at: _Workspace) -> None:
    """Warn if an accumulator of the array cannot hold every sum."""
    guard_bits, accumulator = _sums(plan, at)
    most = most_guard_bits(plan, at.problem.k, accumulator.bits)
    remedy = f"guard_bits of {most} or fewer" if plan.is_relative else "a format of fewer bits"
    largest = largest_sum(plan, at.problem.k, guard_bits)
    warn_of_sums(plan.name, at.machine, (plan.x.element, plan.w.element), largest, remedy)


def _plan_of(at: _Workspace) -> Plan:
    return plan_of(at.problem, at.machine, at.parameters)


def _sums(plan: Plan, at: _Workspace) -> tuple[int, al.Accumulator]:
    """Return the guard bits of sums on the integer array, and its accumulator."""
    if not plan.on_array:
        return 0, al.Accumulator(32, False)
    accumulator = accumulator_of(plan.name, at.machine)
    asked = at.parameters.guard_bits
    most = most_guard_bits(plan, at.problem.k, accumulator.bits)
    return most if asked is None else asked, accumulator


def _known(plan: Plan, at: _Workspace) -> Known:
    """Return what is known before the run: of rotated operands, but for X as it is loaded."""
    if at.tensors is None:
        return {}
    check_finite(at.tensors.a, f"{plan.name}: activations")
    check_finite(at.tensors.b, f"{plan.name}: weights")
    turned = rotated(at.tensors, at.parameters.rotation_of(at.problem))
    return {**known_of(plan, turned, at.parameters.input == "quantized"), "x": at.tensors.a}


def num_tiles(layout: Layout) -> int:
    """Return the tiles of Y."""
    return al.ceil_div(layout.output.rows, layout.tile_m) * layout.tiles_n


class _Frame(NamedTuple):
    """A linear that is being laid out."""

    at: _Workspace
    plan: Plan
    known: Known
    buffers: dict[str, al.Buffer]

    def layout(self, made: Matrices) -> Layout:
        """Place W and Y in HBM, and return the layout of the products."""
        plan, builder, tiles, (m, n, k) = self.plan, self.at.builder, self.at.tiles, self._sizes
        guard_bits, accumulator = _sums(plan, self.at)
        none = dict.fromkeys(("wide", "total", "row_tile", "column_tile"), builder.no_buffer())
        none["sums"] = builder.no_buffer(al.Format.INT32 if plan.on_array else al.Format.FP32)
        unit = plan.x.unit * plan.w.unit
        return Layout(
            depth=k,
            tile_m=tiles.m,
            tile_n=tiles.n,
            tile_k=tiles.k,
            tiles_n=al.ceil_div(n, tiles.n),
            block=plan.block,
            x=self._operand("x", (made.elements, made.scales), plan.x, 1),
            w=self._weights(),
            factor=unit * float(self.known.get("tensor_scales", 1.0)),
            has_factor=has_factor(plan),
            guard_bits=guard_bits,
            accumulator=accumulator,
            output=builder.tensor("y", "output", m, n, al.Format(self.at.parameters.output_format)),
            row_scale=made.largest,
            column_scale=self._column_scale(unit * 2.0**-guard_bits),
            acc=self.buffers["acc"],
            y=self.buffers["y"],
            **{name: self.buffers.get(name, each) for name, each in none.items()},
        )

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return self.at.problem.m, self.at.problem.n, self.at.problem.k

    def _operand(
        self, name: str, hbm: tuple[al.Tensor, al.Tensor], layout: BlockLayout, across: int
    ) -> Operand:
        return Operand(
            elements=hbm[0],
            scales=hbm[1],
            tile=self.buffers[name],
            scale_tile=self.buffers[f"{name}_scales"],
            block=layout.block,
            across=across,
            blocks=al.ceil_div(self.at.problem.k, layout.block),
        )

    def _weights(self) -> Operand:
        """Place W in HBM, column tile after column tile."""
        w, (_, n, k), tile_n = self.plan.w, self._sizes, self.at.tiles.n
        known = dict(self.known)
        if known:
            known["w_elements"] = column_tiles(known["w_elements"], tile_n)
            known["w_scales"] = scale_tiles(known["w_scales"], n, tile_n, w.across)
        tiles_n, across = al.ceil_div(n, tile_n), min(w.across, tile_n)
        place, blocks = partial(input_tensor, self.at.builder, known), al.ceil_div(k, w.block)
        elements = place("w_elements", tiles_n * k, tile_n, w.element)
        scales = place("w_scales", tiles_n * blocks, al.ceil_div(tile_n, across), w.scale)
        return self._operand("w", (elements, scales), w, across)

    def _column_scale(self, unit: float) -> al.Tensor:
        """Place what the largest scale of a column makes of a unit of the accumulators."""
        builder = self.at.builder
        if not self.plan.is_relative:
            return builder.no_tensor()
        known = dict(self.known)
        if known:
            known["w_largest"] = (known["w_largest"] * unit).astype(np.float32)
        return input_tensor(builder, known, "w_largest", 1, self.at.problem.n, al.Format.FP32)
