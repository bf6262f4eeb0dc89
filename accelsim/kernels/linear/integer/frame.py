"""A quantized linear laid out on a machine: X becomes codes in HBM, then products become Y."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import log2
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from accelsim.errors import DoesNotFitError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.integer.accumulator import accumulator_of, warn_of_sums
from accelsim.kernels.integer.chunks import NO_ORDER, Order, ordered, row_tiles
from accelsim.kernels.integer.known import input_tensor
from accelsim.kernels.integer.phases import Loop, record_phases
from accelsim.kernels.linear.integer.alignment import check_run, check_scales
from accelsim.kernels.linear.integer.coding import Coded, Coding
from accelsim.kernels.linear.integer.operands import column_tiles, largest_sum
from accelsim.kernels.linear.integer.parameters import QuantizedParameters
from accelsim.kernels.linear.integer.scheme import Plan
from accelsim.kernels.linear.integer.steps import Layout, Matrices
from accelsim.kernels.linear.integer.tiles import Tiles, choose_tiles
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.long import AnyProgram
from accelsim.program.recording import Buffer
from accelsim.units import ceil_div
from accelsim.workload.problem import FLOAT_FORMATS, GemmProblem
from accelsim.workload.tensors import GemmTensors


class QuantizedLinear(Kernel):
    """A kernel that computes Y = X W, A and B of the problem, on the integer array."""

    problem_kind: ClassVar[str] = "gemm"
    is_exact: ClassVar[bool] = False
    stored_as: ClassVar[Mapping[str, str]] = MappingProxyType({"a": "x", "c": "y"})
    uses_cube: ClassVar[bool] = False
    """Whether it multiplies floating-point numbers as well."""

    @classmethod
    @abstractmethod
    def plan(cls, problem: GemmProblem, parameters: Any, tensors: GemmTensors | None) -> Plan:
        """Return how the linear is computed; raises QuantizationError."""

    @classmethod
    def record(
        cls,
        problem: GemmProblem,
        machine: MachineSpec,
        parameters: QuantizedParameters,
        tensors: GemmTensors | None,
    ) -> tuple[AnyProgram, Array | None]:
        """Return the program and, with tensors, Y [m, n]; warns of sums that may not fit.

        Raises DoesNotFitError, and WorkloadError for a problem that is in integers already.
        """
        name = f"{cls.name} on {problem.name}"
        _check_array(name, machine, parameters)
        if cls.uses_cube:
            machine.cube_for(name)
        if problem.dtype not in FLOAT_FORMATS:
            allowed = ", ".join(FLOAT_FORMATS)
            raise WorkloadError(f"{name}: found dtype {problem.dtype}, allowed: {allowed}")
        check_run(name, problem, parameters)
        plan = cls.plan(problem, parameters, tensors)
        _check_shift(name, machine, plan)
        check_scales(name, plan.scheme)
        coding = Coding.of(machine, parameters, plan)
        return _Frame(name, machine, parameters, plan, coding).record()

    @classmethod
    def stored_dtypes(
        cls, problem: GemmProblem, parameters: QuantizedParameters
    ) -> dict[str, Format]:
        """Return the format of W, and of X where its producer has quantized it."""
        activations, weights = parameters.formats
        made = {"a": activations} if parameters.input == "quantized" else {}
        return {"b": weights, **made}

    @classmethod
    def oracle(cls, problem: GemmProblem, tensors: GemmTensors) -> Array:
        """Return A B in float64."""
        return tensors.a.astype(np.float64) @ tensors.b.astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Frame:
    """One linear on one machine."""

    name: str
    machine: MachineSpec
    parameters: QuantizedParameters
    plan: Plan
    coding: Coding

    def record(self) -> tuple[AnyProgram, Array | None]:
        """Record the phases of X and the products, with the tiles of the lowest estimated time."""
        plan, tiles, largest = self.plan, self._tiles(), self._largest_sum()
        builder = ProgramBuilder(self.name, with_numbers=bool(plan.known))
        coded = self.coding.declare(builder, self.coding.allocate(builder))
        order = self._order(tiles)
        hbm, buffers = self._declare(builder, coded, tiles, order), self._allocate(builder, tiles)
        beside = plan.beside(builder, tiles)
        layout = self._layout(builder, tiles, order, hbm, buffers)
        items = len(layout.row_tiles) * layout.blocks
        own = Loop(plan.product, items, (*beside, layout))
        program = record_phases(builder, [*coded.phases, [own]])
        told = {**_sums(program, largest, layout), **plan.statistics, **self._clipped(coded)}
        program = program.with_parameters(tile_m=tiles.m, tile_n=tiles.n, tile_k=tiles.k)
        return program.with_parameters(**plan.chosen).with_statistics(told), layout.hbm.y.data

    def _tiles(self) -> Tiles:
        plan = self.plan
        scheme = plan.scheme._replace(spans=tuple(plan.scheme.spans))

        def allocate(builder: ProgramBuilder, tiles: Tiles) -> None:
            self.coding.allocate(builder)
            self._allocate(builder, tiles)
            plan.beside(builder, tiles)

        asked = (self.name, plan.problem, self.machine, self.parameters, scheme)
        return choose_tiles(*asked, plan.channels_beside, allocate)

    def _largest_sum(self) -> float:
        """Return a bound on any sum, and warn if an accumulator cannot hold it; 0: none known."""
        if not self.plan.known:
            return 0.0
        growth, remedy = self.plan.growth, "fewer groups or fewer bits"
        if growth is None:
            growth, remedy = np.ones((1, self.plan.problem.k)), "fewer bits"
        bits: int = self.parameters.activation_bits
        largest = largest_sum(growth, self.plan.known["w_codes"], bits)
        warn_of_sums(self.name, self.machine, self.parameters.formats, largest, remedy)
        return largest

    def _clipped(self, coded: Coded) -> dict[str, float]:
        """Return the share of the codes of X that were clipped, if that can be and was counted."""
        if coded.clipped is None or not (self.plan.known and self.plan.scheme.can_clip):
            return {}
        problem = self.plan.problem
        return {"codes_clipped": float(coded.clipped[0]) / (problem.m * problem.k)}

    def _declare(
        self, builder: ProgramBuilder, coded: Coded, tiles: Tiles, order: Order
    ) -> Matrices:
        """Place the operands of the products in HBM."""
        plan, chunks = self.plan, len(self.plan.scheme.spans)
        m, n, k, fp32 = plan.problem.m, plan.problem.n, plan.problem.k, Format.FP32
        known, none = {**plan.known, "order": order.channels}, builder.no_tensor()
        if plan.known:
            known["w_codes"] = column_tiles(known["w_codes"], tiles.n)
        place, w_rows = partial(input_tensor, builder, known), ceil_div(n, tiles.n) * k
        hbm = Matrices(
            codes=coded.codes,
            weights=place("w_codes", w_rows, tiles.n, self.parameters.formats[1]),
            order=builder.no_tensor(Format.INT32),
            scale=place("scale", chunks, n, fp32),
            bias=none,
            row_scale=coded.row_scale or none,
            y=builder.tensor("y", "output", m, n, plan.problem.output_dtype),
        )
        if plan.group is not None:
            hbm = hbm._replace(order=place("order", chunks, k, Format.INT32))
        if plan.scheme.has_bias:
            hbm = hbm._replace(bias=place("bias", chunks, n, fp32))
        return hbm

    def _allocate(self, builder: ProgramBuilder, tiles: Tiles) -> dict[str, Buffer]:
        """Declare the buffers of the products: operands and results double-buffered."""
        (m, n, k, _), scheme = tiles, self.plan.scheme
        code, weight = self.parameters.formats
        fp32, int32 = Format.FP32, Format.INT32
        own = {
            "codes": builder.buffer("codes", m, k, code, slots=2),
            "weights": builder.buffer("weights", k, n, weight, slots=2),
            "acc": builder.buffer("acc", m, n, int32, slots=2, memory="accumulator"),
            "sums": builder.buffer("sums", m, n, int32, slots=2),
            "wide": builder.buffer("wide", m, n, fp32),
            "scale": builder.buffer("scale", 1, n, fp32, slots=2),
            "y": builder.buffer("y", m, n, self.plan.problem.output_dtype, slots=2),
        }
        if self.plan.group is not None:
            own["order"] = builder.buffer("order", 1, k, int32, slots=2, memory="index_buffer")
        if scheme.work.drains:
            own["total"] = builder.buffer("total", m, n, fp32)
        if scheme.has_bias:
            own["bias"] = builder.buffer("bias", 1, n, fp32, slots=2)
        if scheme.is_dynamic:
            own["row_scale"] = builder.buffer("row_scale", m, 1, fp32, slots=2)
        return own

    def _order(self, tiles: Tiles) -> Order:
        """Return the channels by group, within the panels of these tiles."""
        if self.plan.group is None:
            return NO_ORDER
        return ordered(self.plan.group, self.plan.factors.shape[1], tiles.k)

    def _layout(
        self,
        builder: ProgramBuilder,
        tiles: Tiles,
        order: Order,
        hbm: Matrices,
        buffers: dict[str, Buffer],
    ) -> Layout:
        plan = self.plan
        n, k, tiles_n = plan.problem.n, plan.problem.k, ceil_div(plan.problem.n, tiles.n)
        absent = dict.fromkeys(("total", "bias", "row_scale"), builder.no_buffer())
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
            row_tiles=row_tiles(plan.scheme.spans, tiles.m),
            groups=order.groups,
            starts=order.starts,
            factors=plan.factors,
            accumulator=accumulator_of(self.name, self.machine),
            peak=np.zeros(1, np.int64),
            has_row_scale=plan.scheme.is_dynamic,
            has_bias=plan.scheme.has_bias,
            hbm=hbm,
            **(absent | buffers),
        )


def _sums(program: AnyProgram, largest: float, layout: Layout) -> dict[str, float]:
    """Return how large sums could be and were, as logarithms to base 2; nothing if unknown."""
    if not largest:
        return {}
    return {
        "accumulator_overflows": float(program.overflows),
        "accumulator_bound_bits": log2(max(largest, 1)),
        "accumulator_used_bits": log2(max(int(layout.peak[0]), 1)),
    }


def _check_array(name: str, machine: MachineSpec, parameters: QuantizedParameters) -> None:
    """Refuse formats that the array of the machine has not, before anything is computed."""
    array = machine.int_mac_for(name)
    for fmt in parameters.formats:
        if fmt not in array.formats:
            raise DoesNotFitError(
                f"machine {machine.name}: its int_mac unit has no {fmt}, which {name} uses; "
                f"it has {', '.join(array.formats)}"
            )


def _check_shift(name: str, machine: MachineSpec, plan: Plan) -> None:
    if plan.scheme.work.shifts and not machine.int_mac_for(name).can_shift:
        raise DoesNotFitError(
            f"machine {machine.name}: its int_mac cannot shift its accumulators, which {name} "
            f"needs; set int_mac.can_shift"
        )
