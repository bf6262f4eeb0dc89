"""A quantized linear laid out on a machine: X becomes codes in HBM, then products become Y."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accelsim.errors import DoesNotFitError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.linear.integer.coding import Coded, Coding
from accelsim.kernels.linear.integer.operands import column_tiles, row_tiles
from accelsim.kernels.linear.integer.parameters import QuantizedParameters
from accelsim.kernels.linear.integer.scheme import Numbers, Phase, Scheme, in_turn
from accelsim.kernels.linear.integer.steps import Buffers, Epilogues, Matrices, Shape
from accelsim.kernels.linear.integer.tiles import Tiles, choose_tiles
from accelsim.numerics.formats import Format
from accelsim.numerics.integer import Accumulator
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import Program
from accelsim.units import ceil_div
from accelsim.workload.problem import FLOAT_FORMATS, GemmProblem
from accelsim.workload.tensors import GemmTensors

Beside = Callable[[ProgramBuilder, Tiles], tuple[Any, ...]]
"""Declares what a kernel has beside the matrices and buffers of the frame, for these tiles, and
returns it as arguments of the kernel's product."""


def nothing_beside(_builder: ProgramBuilder, _tiles: Tiles) -> tuple[Any, ...]:
    """Declare nothing."""
    return ()


@dataclass(frozen=True, slots=True)
class Frame:
    """The choices for one linear on one machine."""

    name: str
    problem: GemmProblem
    machine: MachineSpec
    parameters: QuantizedParameters
    scheme: Scheme
    coding: Coding
    tiles: Tiles
    beside: Beside

    @classmethod
    def prepare(
        cls,
        kernel: str,
        problem: GemmProblem,
        machine: MachineSpec,
        parameters: QuantizedParameters,
        scheme: Scheme,
        beside: Beside = nothing_beside,
        channels_beside: int = 0,
    ) -> "Frame":
        """Return the frame with the tiles of the lowest estimated time.

        channels_beside: those that `beside` declares something for.
        Raises DoesNotFitError, and WorkloadError for a problem that is in integers already.
        """
        name = f"{kernel} on {problem.name}"
        _check_array(name, machine, parameters, scheme)
        if problem.dtype not in FLOAT_FORMATS:
            allowed = ", ".join(FLOAT_FORMATS)
            raise WorkloadError(f"{name}: found dtype {problem.dtype}, allowed: {allowed}")
        coding = Coding.of(problem, machine, parameters, scheme)

        def allocate(builder: ProgramBuilder, tiles: Tiles) -> None:
            coding.allocate(builder)
            _allocate(builder, problem, parameters, scheme, tiles)
            beside(builder, tiles)

        fixed = scheme._replace(spans=tuple(scheme.spans))
        tiles = choose_tiles(name, problem, machine, parameters, fixed, channels_beside, allocate)
        return cls(name, problem, machine, parameters, scheme, coding, tiles, beside)

    @property
    def shape(self) -> Shape:
        """Sizes of the products."""
        n, k, tiles = self.problem.n, self.problem.k, self.tiles
        tiles_n = ceil_div(n, tiles.n)
        panels, blocks = ceil_div(k, tiles.k), ceil_div(tiles_n, tiles.block)
        output = self.problem.output_dtype.code
        return Shape(n, k, tiles.n, tiles.k, tiles_n, panels, tiles.block, blocks, output)

    @property
    def accumulator(self) -> Accumulator:
        """What an accumulator of the array holds."""
        array = self.machine.int_mac_for(self.name)
        return Accumulator(array.accumulator_bits, array.overflow == "saturate")

    def record(
        self, numbers: Numbers | None, product: Callable[..., None], *arguments: Any
    ) -> tuple[Program, Array | None]:
        """Record the phases of X and product(p, phase, row_tiles, *arguments, has, shape, hbm, b).

        What `beside` declares comes last of the arguments.

        Returns the program and, with numbers, Y [m, n].
        """
        builder = ProgramBuilder(self.name, with_numbers=numbers is not None)
        coded = self.coding.declare(builder, self.coding.allocate(builder), numbers)
        hbm = self._declare(builder, coded, numbers)
        buffers = _allocate(builder, self.problem, self.parameters, self.scheme, self.tiles)
        beside = self.beside(builder, self.tiles)
        tiles = row_tiles(self.scheme.spans, self.tiles.m)
        has = Epilogues(self.scheme.is_dynamic, self.scheme.has_bias)
        own = Phase(
            product,
            len(tiles) * self.shape.blocks,
            (tiles, *arguments, *beside, has, self.shape, hbm, buffers),
        )
        phases = [*coded.phases, own]
        program = builder.record(in_turn, sum(phase.items for phase in phases), phases)
        chosen = {"tile_m": self.tiles.m, "tile_n": self.tiles.n, "tile_k": self.tiles.k}
        return program.with_parameters(**chosen), hbm.y.data

    def _declare(self, builder: ProgramBuilder, coded: Coded, numbers: Numbers | None) -> Matrices:
        """Place the operands of the products in HBM."""
        m, n, k = self.problem.m, self.problem.n, self.problem.k
        chunks, tiles_n = len(self.scheme.spans), self.shape.tiles_n
        lying = numbers and column_tiles(numbers.weights, self.tiles.n)
        epilogue = numbers and numbers.epilogue
        factor = epilogue and epilogue.scale
        hbm = Matrices(
            codes=coded.codes,
            weights=builder.tensor(
                "w_codes", "input", tiles_n * k, self.tiles.n, self.parameters.formats[1], lying
            ),
            order=coded.codes,
            scale=builder.tensor("scale", "input", chunks, n, Format.FP32, factor),
            bias=coded.codes,
            row_scale=coded.row_scale,
            y=builder.tensor("y", "output", m, n, self.problem.output_dtype),
        )
        if self.scheme.has_order:
            order = numbers and numbers.order
            hbm = hbm._replace(
                order=builder.tensor("order", "input", chunks, k, Format.INT32, order)
            )
        if self.scheme.has_bias:
            bias = epilogue and epilogue.bias
            hbm = hbm._replace(bias=builder.tensor("bias", "input", chunks, n, Format.FP32, bias))
        return hbm


class QuantizedLinear(Kernel):
    """A kernel that computes Y = X W, A and B of the problem, on the integer array."""

    problem_kind: ClassVar[str] = "gemm"
    is_exact: ClassVar[bool] = False

    @classmethod
    def oracle(cls, problem: GemmProblem, tensors: GemmTensors) -> Array:
        """Return A B in float64."""
        return tensors.a.astype(np.float64) @ tensors.b.astype(np.float64)


def _allocate(
    builder: ProgramBuilder,
    problem: GemmProblem,
    parameters: QuantizedParameters,
    scheme: Scheme,
    tiles: Tiles,
) -> Buffers:
    """Declare the buffers of the products: operands and results double-buffered."""
    code, weight = parameters.formats
    m, n, k, _ = tiles
    codes = builder.buffer("codes", m, k, code, slots=2)
    b = Buffers(
        codes=codes,
        weights=builder.buffer("weights", k, n, weight, slots=2),
        order=codes,
        acc=builder.buffer("acc", m, n, Format.INT32, slots=2, memory="accumulator"),
        sums=builder.buffer("sums", m, n, Format.INT32, slots=2),
        wide=builder.buffer("wide", m, n, Format.FP32),
        total=codes,
        scale=builder.buffer("scale", 1, n, Format.FP32, slots=2),
        bias=codes,
        row_scale=codes,
        y=builder.buffer("y", m, n, problem.output_dtype, slots=2),
    )
    if scheme.has_order:
        order = builder.buffer("order", 1, k, Format.INT32, slots=2, memory="index_buffer")
        b = b._replace(order=order)
    if scheme.work.drains:
        b = b._replace(total=builder.buffer("total", m, n, Format.FP32))
    if scheme.has_bias:
        b = b._replace(bias=builder.buffer("bias", 1, n, Format.FP32, slots=2))
    if scheme.is_dynamic:
        b = b._replace(row_scale=builder.buffer("row_scale", m, 1, Format.FP32, slots=2))
    return b


def _check_array(
    name: str, machine: MachineSpec, parameters: QuantizedParameters, scheme: Scheme
) -> None:
    """Refuse what the integer array of the machine cannot do, before anything is computed."""
    array = machine.int_mac_for(name)
    for fmt in parameters.formats:
        if fmt not in array.formats:
            raise DoesNotFitError(
                f"machine {machine.name}: its int_mac unit has no {fmt}, which {name} uses; "
                f"it has {', '.join(array.formats)}"
            )
    if scheme.work.shifts and not array.can_shift:
        raise DoesNotFitError(
            f"machine {machine.name}: its int_mac cannot shift its accumulators, which {name} "
            f"needs; set int_mac.can_shift"
        )
