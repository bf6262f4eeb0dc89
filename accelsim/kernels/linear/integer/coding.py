"""Where the codes of X come from: the phases of `encoding`, or the producer of X."""

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.integer.chunks import row_tiles
from accelsim.kernels.integer.encoding import (
    Layout,
    dynamic_loop,
    layout_of,
    peak_loop,
    static_loop,
)
from accelsim.kernels.integer.known import input_tensor
from accelsim.kernels.integer.phases import Phase
from accelsim.kernels.integer.row_base import base_loop
from accelsim.kernels.integer.row_choice import COLUMNS, choice_loop
from accelsim.kernels.linear.integer.alignment import Matrices as AlignmentMatrices
from accelsim.kernels.linear.integer.alignment import alignment_loop, allocate_alignment
from accelsim.kernels.linear.integer.parameters import QuantizedParameters
from accelsim.kernels.linear.integer.scheme import Plan, Scheme
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer, Tensor
from accelsim.quantization.row_bases import SHRINK

_SHARE = 8
"""Quantizing X gets one part in so many of the scratchpad: its tiles need only be long enough to
hide the issue of an op."""
_ELEMENT_BYTES = 14
"""Of the scratchpad per element of a tile: twice 16 bits, 32 bits and 8 bits."""
_FEWEST_ELEMENTS = 256
_FEWEST_ROWS = 16
"""Of a tile whose width is free: its rows of numbers per channel are loaded once for so many."""


class Coded(NamedTuple):
    """Codes of X in HBM, the scales of their rows, if they have any, and what makes them."""

    codes: Tensor
    row_scale: Tensor | None
    phases: list[Phase]
    clipped: NDArray[np.int64] | None
    """How many codes were clipped, counted in the run [1]; None: they were made before."""


class Coding(NamedTuple):
    """How X becomes codes."""

    parameters: QuantizedParameters
    plan: Plan
    tile_rows: int
    tile_k: int

    @classmethod
    def of(cls, machine: MachineSpec, parameters: QuantizedParameters, plan: Plan) -> "Coding":
        """Choose the tiles of X: whole rows, as far as they fit, where a row is read twice.

        None is larger than the share of a core.
        """
        m, k, is_dynamic = plan.problem.m, plan.problem.k, plan.scheme.is_dynamic
        elements = int(machine.scratchpad.capacity) // (_SHARE * _ELEMENT_BYTES)
        elements = 1 << max(elements, _FEWEST_ELEMENTS).bit_length() - 1
        k = plan.scheme.run or k
        share = max(m, _FEWEST_ROWS) * k // machine.cores
        elements = min(elements, max(share, k if is_dynamic else _FEWEST_ELEMENTS))
        widest = elements if is_dynamic else elements // _FEWEST_ROWS
        if plan.rotation:
            widest = max(plan.rotation, widest // plan.rotation * plan.rotation)
        tile_k = min(k, widest)
        return cls(parameters, plan, min(m, max(1, elements // tile_k)), tile_k)

    def allocate(self, builder: ProgramBuilder) -> dict[str, Buffer]:
        """Declare the buffers: none if the producer of X has made the codes."""
        rows, cols, scheme = self.tile_rows, self.tile_k, self.plan.scheme

        def double(name: str, rows: int, cols: int, fmt: Format = Format.FP32) -> Buffer:
            return builder.buffer(f"x_{name}", rows, cols, fmt, slots=2)

        if self.parameters.input == "quantized":
            runs = (scheme.run, self.plan.problem.k // max(scheme.run, 1))
            code = self.parameters.formats[0]
            return allocate_alignment(builder, rows, runs, code) if scheme.run else {}
        own = {
            "x": builder.buffer("x", rows, cols, self.plan.problem.dtype, slots=2),
            "wide": double("wide", rows, cols),
            "codes": double("code", rows, cols, self.parameters.formats[0]),
        }
        if self.plan.rotation:
            own["turned"] = builder.buffer("x_turned", rows, cols, Format.FP32)
        if scheme.is_dynamic:
            names = {"peak": "peak", "part": "part", "scale": "step"}
            own |= {key: double(name, rows, 1) for key, name in names.items()}
        if scheme.range_of == "tensor":
            own["peaks"] = double("peaks", len(row_tiles(scheme.spans, rows)), 1)
        if scheme.has_bias:
            own["bias"] = double("bias", 1, cols)
        if not scheme.is_dynamic:
            own["reciprocal"] = double("reciprocal", 1, cols)
        if scheme.range_of == "scaled_row":
            own["reciprocal"] = double("factor", 1, cols)
            own["large"] = builder.buffer("x_large", rows, cols, Format.FP32)
        if scheme.candidates > 1:
            own["tried"] = builder.buffer("x_tried", rows, cols, self.parameters.formats[0])
            own["worth"] = double("worth", 1, cols)
            own["choice"] = builder.buffer("x_choice", rows, 1, Format.FP32, slots=COLUMNS)
        return own

    def declare(self, builder: ProgramBuilder, buffers: dict[str, Buffer]) -> Coded:
        """Place X, its codes and what they are made with in HBM."""
        m, k, scheme = self.plan.problem.m, self.plan.problem.k, self.plan.scheme
        place, fp32 = partial(input_tensor, builder, self.plan.known), Format.FP32
        chunks, code = len(scheme.spans), self.parameters.formats[0]
        if scheme.run:
            return self._aligned(builder, buffers)
        if not buffers:
            codes = place("x_codes", m, k, code)
            row_scale = place("x_scale", m, 1, fp32) if scheme.is_dynamic else None
            return Coded(codes, row_scale, [], None)
        tiles = row_tiles(scheme.spans, self.tile_rows)
        hbm = {
            "x": place("x", m, k, self.plan.problem.dtype),
            "codes": builder.tensor("x_codes", "intermediate", m, k, code),
        }
        if scheme.is_dynamic:
            hbm["row_scale"] = builder.tensor("x_scale", "intermediate", m, 1, fp32)
        else:
            hbm["reciprocal"] = place("x_reciprocal", chunks, k, fp32)
        if scheme.range_of == "scaled_row":
            hbm["reciprocal"] = place("x_factor", chunks, k, fp32)
        if scheme.candidates > 1:
            hbm["worth"] = place("x_worth", chunks, k, fp32)
        if scheme.range_of == "tensor":
            hbm["peaks"] = builder.tensor("x_peaks", "intermediate", len(tiles), 1, fp32)
        if scheme.has_bias:
            hbm["bias"] = place("x_bias", chunks, k, fp32)
        layout = layout_of(
            builder, tiles, hbm, buffers, self.plan.rotation, SHRINK[: scheme.candidates]
        )
        return Coded(hbm["codes"], hbm.get("row_scale"), _phases(scheme, layout), layout.clipped)

    def _aligned(self, builder: ProgramBuilder, buffers: dict[str, Buffer]) -> Coded:
        """Place codes with scales of runs, and those that they become with one a row."""
        (m, k), run = (self.plan.problem.m, self.plan.problem.k), self.plan.scheme.run
        place, code = partial(input_tensor, builder, self.plan.known), self.parameters.formats[0]
        hbm = AlignmentMatrices(
            stored=place("x_codes", m, k, Format.INT8),
            scale=place("x_scale", m, k // run, Format.FP32),
            codes=builder.tensor("aligned_codes", "intermediate", m, k, code),
            row_scale=builder.tensor("aligned_scale", "intermediate", m, 1, Format.FP32),
        )
        loop = alignment_loop(hbm, run, buffers, code)
        return Coded(hbm.codes, hbm.row_scale, [[loop]], None)


def _phases(scheme: Scheme, layout: Layout) -> list[Phase]:
    """Return what makes the codes, by where their ranges come from."""
    match scheme.range_of:
        case "calibration":
            return [[static_loop(layout)]]
        case "row":
            return [[dynamic_loop(layout)]]
        case "scaled_row":
            return [[base_loop(layout) if scheme.candidates == 1 else choice_loop(layout)]]
        case "tensor":
            return [[peak_loop(layout)], [dynamic_loop(layout)]]
