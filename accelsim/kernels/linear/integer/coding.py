"""Where the codes of X come from: matrices, buffers and phases of `codes`, or the producer of X."""

from typing import Any, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.linear.integer.codes import (
    CodeBuffers,
    CodeMatrices,
    CodeShape,
    find_peaks,
    quantize_dynamic,
    quantize_static,
)
from accelsim.kernels.linear.integer.operands import row_tiles
from accelsim.kernels.linear.integer.parameters import QuantizedParameters
from accelsim.kernels.linear.integer.scheme import Numbers, Phase, Scheme
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.quantization.codes import largest_code
from accelsim.units import ceil_div
from accelsim.workload.problem import GemmProblem

_SHARE = 8
"""Quantizing X gets one part in so many of the scratchpad: its tiles need only be long enough to
hide the issue of an op."""
_ELEMENT_BYTES = 14
"""Of the scratchpad per element of a tile: twice 16 bits, 32 bits and 8 bits."""
_FEWEST_ELEMENTS = 256
_FEWEST_ROWS = 16
"""Of a tile whose width is free: its rows of numbers per channel are loaded once for so many."""


class Coded(NamedTuple):
    """Codes of X in HBM, the scales of their rows, and the phases that make them."""

    codes: Any
    row_scale: Any
    """The codes, if rows have no scale of their own."""
    phases: list[Phase]


class Coding(NamedTuple):
    """How X becomes codes."""

    problem: GemmProblem
    parameters: QuantizedParameters
    scheme: Scheme
    tile_rows: int
    tile_k: int

    @classmethod
    def of(
        cls,
        problem: GemmProblem,
        machine: MachineSpec,
        parameters: QuantizedParameters,
        scheme: Scheme,
    ) -> "Coding":
        """Choose the tiles of X: whole rows, as far as they fit, where a row is read twice."""
        elements = int(machine.scratchpad.capacity) // (_SHARE * _ELEMENT_BYTES)
        elements = 1 << max(elements, _FEWEST_ELEMENTS).bit_length() - 1
        tile_k = min(problem.k, elements if scheme.is_dynamic else elements // _FEWEST_ROWS)
        tile_rows = min(problem.m, elements // tile_k)
        return cls(problem, parameters, scheme, tile_rows, tile_k)

    def allocate(self, builder: ProgramBuilder) -> CodeBuffers | None:
        """Declare the buffers; None if the producer of X has made the codes."""
        if self.parameters.input == "quantized":
            return None
        rows, cols, fp32 = self.tile_rows, self.tile_k, Format.FP32
        x = builder.buffer("x", rows, cols, self.problem.dtype, slots=2)
        wide = builder.buffer("x_wide", rows, cols, fp32, slots=2)
        codes = builder.buffer("x_code", rows, cols, self._format, slots=2)
        b = CodeBuffers(x, wide, wide, wide, codes, wide, wide, wide, wide)
        if self.scheme.is_dynamic:
            b = b._replace(
                peak=builder.buffer("x_peak", rows, 1, fp32, slots=2),
                part=builder.buffer("x_part", rows, 1, fp32, slots=2),
                scale=builder.buffer("x_step", rows, 1, fp32, slots=2),
            )
            if self.scheme.range_of == "tensor":
                peaks = builder.buffer("x_peaks", len(self._tiles), 1, fp32, slots=2)
                b = b._replace(peaks=peaks)
            return b
        if self.scheme.has_bias:
            b = b._replace(bias=builder.buffer("x_bias", 1, cols, fp32, slots=2))
        return b._replace(reciprocal=builder.buffer("x_reciprocal", 1, cols, fp32, slots=2))

    def declare(
        self, builder: ProgramBuilder, b: CodeBuffers | None, numbers: Numbers | None
    ) -> Coded:
        """Place X, its codes and what they are made with in HBM."""
        m, k, fmt = self.problem.m, self.problem.k, self._format
        if b is None:
            return self._made_before(builder, numbers)
        x = builder.tensor("x", "input", m, k, self.problem.dtype, numbers and numbers.x)
        codes = builder.tensor("x_codes", "intermediate", m, k, fmt)
        hbm = CodeMatrices(x, x, x, x, codes, codes)
        if self.scheme.is_dynamic:
            return self._dynamic(builder, hbm, b)
        return self._static(builder, hbm, b, numbers)

    def _made_before(self, builder: ProgramBuilder, numbers: Numbers | None) -> Coded:
        m, k, made = self.problem.m, self.problem.k, numbers and numbers.codes
        codes = builder.tensor("x_codes", "input", m, k, self._format, made and made.codes)
        if not self.scheme.is_dynamic:
            return Coded(codes, codes, [])
        scale = made and made.scale.astype(np.float32)
        return Coded(codes, builder.tensor("x_scale", "input", m, 1, Format.FP32, scale), [])

    def _static(
        self,
        builder: ProgramBuilder,
        hbm: CodeMatrices,
        b: CodeBuffers,
        numbers: Numbers | None,
    ) -> Coded:
        known = numbers and numbers.activations
        chunks, k, has_bias = len(self.scheme.spans), self.problem.k, self.scheme.has_bias
        factor = known and known.reciprocal
        hbm = hbm._replace(
            reciprocal=builder.tensor("x_reciprocal", "input", chunks, k, Format.FP32, factor)
        )
        if has_bias:
            bias = builder.tensor("x_bias", "input", chunks, k, Format.FP32, known and known.bias)
            hbm = hbm._replace(bias=bias)
        items = len(self._tiles) * ceil_div(k, self.tile_k)
        arguments = (self._tiles, has_bias, self._shape, hbm, b)
        return Coded(hbm.codes, hbm.codes, [Phase(quantize_static, items, arguments)])

    def _dynamic(self, builder: ProgramBuilder, hbm: CodeMatrices, b: CodeBuffers) -> Coded:
        items, tiles, shape, phases = len(self._tiles), self._tiles, self._shape, []
        is_shared = self.scheme.range_of == "tensor"
        row_scale = builder.tensor("x_scale", "intermediate", self.problem.m, 1, Format.FP32)
        hbm = hbm._replace(row_scale=row_scale)
        if is_shared:
            peaks = builder.tensor("x_peaks", "intermediate", items, 1, Format.FP32)
            hbm = hbm._replace(peaks=peaks)
            phases.append(Phase(find_peaks, items, (tiles, shape, hbm, b)))
        phases.append(Phase(quantize_dynamic, items, (tiles, is_shared, shape, hbm, b)))
        return Coded(hbm.codes, row_scale, phases)

    @property
    def _format(self) -> Format:
        return self.parameters.formats[0]

    @property
    def _tiles(self) -> Any:
        return row_tiles(self.scheme.spans, self.tile_rows)

    @property
    def _shape(self) -> CodeShape:
        largest = float(largest_code(self.parameters.activation_bits))
        return CodeShape(self.problem.k, self.tile_k, self._format.code, largest)
