"""A quantized linear laid out on a machine: X becomes codes in HBM, then products become Y."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accelsim.errors import DoesNotFitError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.integer.accumulator import accumulator_of, warn_of_sums
from accelsim.kernels.integer.chunks import row_tiles
from accelsim.kernels.integer.phases import Loop, record_phases
from accelsim.kernels.linear.integer.bounds import largest_sum, with_sums
from accelsim.kernels.linear.integer.coding import Coded, Coding
from accelsim.kernels.linear.integer.operands import column_tiles
from accelsim.kernels.linear.integer.parameters import QuantizedParameters
from accelsim.kernels.linear.integer.scheme import Numbers, Product, Scheme
from accelsim.kernels.linear.integer.steps import Layout, Matrices
from accelsim.kernels.linear.integer.tiles import Tiles, choose_tiles
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import Program
from accelsim.program.recording import Buffer, Tensor
from accelsim.units import ceil_div
from accelsim.workload.problem import FLOAT_FORMATS, GemmProblem
from accelsim.workload.tensors import GemmTensors

Beside = Callable[[ProgramBuilder, Tiles], tuple[Any, ...]]
"""Declares what a kernel has beside the matrices and buffers of the frame, for these tiles, and
returns it as first arguments of the kernel's product."""


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

    def record(self, numbers: Numbers | None, product: Product) -> tuple[Program, Array | None]:
        """Record the phases of X and the products.

        Returns the program and, with numbers, Y [m, n]; warns of sums that may not fit.
        """
        largest = self._largest_sum(numbers, product)
        builder = ProgramBuilder(self.name, with_numbers=numbers is not None)
        coded = self.coding.declare(builder, self.coding.allocate(builder), numbers)
        hbm = self._declare(builder, coded, numbers, product)
        buffers = _allocate(builder, self.problem, self.parameters, self.scheme, self.tiles)
        beside = self.beside(builder, self.tiles)
        layout = self._layout(builder, product, hbm, buffers)
        items = len(layout.row_tiles) * layout.blocks
        own = Loop(product.kernel, items, (*beside, layout))
        program = record_phases(builder, [*coded.phases, [own]])
        if largest:
            program = with_sums(program, largest, layout.peak)
        chosen = {"tile_m": self.tiles.m, "tile_n": self.tiles.n, "tile_k": self.tiles.k}
        return program.with_parameters(**chosen), layout.hbm.y.data

    def _largest_sum(self, numbers: Numbers | None, product: Product) -> float:
        """Return a bound on any sum, and warn if an accumulator cannot hold it; 0: none known."""
        if numbers is None:
            return 0.0
        growth, remedy = product.growth, "fewer groups or fewer bits"
        if growth is None:
            growth, remedy = np.ones((1, self.problem.k)), "fewer bits"
        largest = largest_sum(growth, numbers.weights, self.parameters.activation_bits)
        warn_of_sums(self.name, self.machine, self.parameters.formats, largest, remedy)
        return largest

    def _declare(
        self, builder: ProgramBuilder, coded: Coded, numbers: Numbers | None, product: Product
    ) -> Matrices:
        """Place the operands of the products in HBM."""
        m, n, k, none = self.problem.m, self.problem.n, self.problem.k, builder.no_tensor()
        chunks, tile_n, weight = len(self.scheme.spans), self.tiles.n, self.parameters.formats[1]
        lying = numbers and column_tiles(numbers.weights, tile_n)
        epilogue = numbers and numbers.epilogue

        def rows(name: str, cols: int, fmt: Format, data: Array | None) -> Tensor:
            return builder.tensor(name, "input", chunks, cols, fmt, data)

        hbm = Matrices(
            codes=coded.codes,
            weights=builder.tensor(
                "w_codes", "input", ceil_div(n, tile_n) * k, tile_n, weight, lying
            ),
            order=builder.no_tensor(Format.INT32),
            scale=rows("scale", n, Format.FP32, epilogue and epilogue.scale),
            bias=none,
            row_scale=coded.row_scale or none,
            y=builder.tensor("y", "output", m, n, self.problem.output_dtype),
        )
        if self.scheme.has_order:
            order = rows("order", k, Format.INT32, product.order.channels)
            hbm = hbm._replace(order=order)
        if self.scheme.has_bias:
            bias = rows("bias", n, Format.FP32, epilogue and epilogue.bias)
            hbm = hbm._replace(bias=bias)
        return hbm

    def _layout(
        self,
        builder: ProgramBuilder,
        product: Product,
        hbm: Matrices,
        buffers: dict[str, Buffer],
    ) -> Layout:
        n, k, tiles, order = self.problem.n, self.problem.k, self.tiles, product.order
        tiles_n, none = ceil_div(n, tiles.n), builder.no_buffer()
        absent = {"total": none, "bias": none, "row_scale": none}
        absent["order"] = builder.no_buffer(Format.INT32)
        return Layout(
            n=n,
            channels=k,
            tile_n=tiles.n,
            tile_k=tiles.k,
            tiles_n=tiles_n,
            panels=ceil_div(k, tiles.k),
            block=tiles.block,
            blocks=ceil_div(tiles_n, tiles.block),
            row_tiles=row_tiles(self.scheme.spans, tiles.m),
            groups=order.groups,
            starts=order.starts,
            factors=product.factors,
            accumulator=accumulator_of(self.name, self.machine),
            peak=np.zeros(1, np.int64),
            has_row_scale=self.scheme.is_dynamic,
            has_bias=self.scheme.has_bias,
            hbm=hbm,
            **(absent | buffers),
        )


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
) -> dict[str, Buffer]:
    """Declare the buffers of the products: operands and results double-buffered."""
    m, n, k, _ = tiles
    code, weight = parameters.formats
    fp32, int32 = Format.FP32, Format.INT32
    b = {
        "codes": builder.buffer("codes", m, k, code, slots=2),
        "weights": builder.buffer("weights", k, n, weight, slots=2),
        "acc": builder.buffer("acc", m, n, int32, slots=2, memory="accumulator"),
        "sums": builder.buffer("sums", m, n, int32, slots=2),
        "wide": builder.buffer("wide", m, n, fp32),
        "scale": builder.buffer("scale", 1, n, fp32, slots=2),
        "y": builder.buffer("y", m, n, problem.output_dtype, slots=2),
    }
    if scheme.has_order:
        b["order"] = builder.buffer("order", 1, k, int32, slots=2, memory="index_buffer")
    if scheme.work.drains:
        b["total"] = builder.buffer("total", m, n, fp32)
    if scheme.has_bias:
        b["bias"] = builder.buffer("bias", 1, n, fp32, slots=2)
    if scheme.is_dynamic:
        b["row_scale"] = builder.buffer("row_scale", m, 1, fp32, slots=2)
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
