"""Where the codes of X come from: the phases of `encoding`, or the producer of X."""

from typing import NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.integer.chunks import row_tiles
from accelsim.kernels.integer.encoding import dynamic_loop, layout_of, peak_loop, static_loop
from accelsim.kernels.integer.phases import Phase
from accelsim.kernels.linear.integer.parameters import QuantizedParameters
from accelsim.kernels.linear.integer.scheme import Numbers, Scheme
from accelsim.numerics.formats import Format
from accelsim.program.builder import Array, ProgramBuilder
from accelsim.program.recording import Buffer, Tensor
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
    """Codes of X in HBM, the scales of their rows, if they have any, and what makes them."""

    codes: Tensor
    row_scale: Tensor | None
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

    def allocate(self, builder: ProgramBuilder) -> dict[str, Buffer]:
        """Declare the buffers: none if the producer of X has made the codes."""
        rows, cols, scheme = self.tile_rows, self.tile_k, self.scheme

        def double(name: str, rows: int, cols: int, fmt: Format = Format.FP32) -> Buffer:
            return builder.buffer(f"x_{name}", rows, cols, fmt, slots=2)

        if self.parameters.input == "quantized":
            return {}
        own = {
            "x": builder.buffer("x", rows, cols, self.problem.dtype, slots=2),
            "wide": double("wide", rows, cols),
            "codes": double("code", rows, cols, self._format),
        }
        if scheme.is_dynamic:
            names = {"peak": "peak", "part": "part", "scale": "step"}
            own |= {key: double(name, rows, 1) for key, name in names.items()}
        if scheme.range_of == "tensor":
            own["peaks"] = double("peaks", len(row_tiles(scheme.spans, rows)), 1)
        if scheme.has_bias:
            own["bias"] = double("bias", 1, cols)
        if not scheme.is_dynamic:
            own["reciprocal"] = double("reciprocal", 1, cols)
        return own

    def declare(
        self, builder: ProgramBuilder, buffers: dict[str, Buffer], numbers: Numbers | None
    ) -> Coded:
        """Place X, its codes and what they are made with in HBM."""
        m, k = self.problem.m, self.problem.k
        if not buffers:
            return self._made_before(builder, numbers)
        tiles = row_tiles(self.scheme.spans, self.tile_rows)
        hbm = {
            "x": builder.tensor("x", "input", m, k, self.problem.dtype, numbers and numbers.x),
            "codes": builder.tensor("x_codes", "intermediate", m, k, self._format),
        }
        if not self.scheme.is_dynamic:
            hbm |= self._known_before(builder, numbers)
            layout = layout_of(builder, tiles, hbm, buffers)
            return Coded(hbm["codes"], None, [[static_loop(layout)]])
        hbm["row_scale"] = builder.tensor("x_scale", "intermediate", m, 1, Format.FP32)
        if self.scheme.range_of == "tensor":
            hbm["peaks"] = builder.tensor("x_peaks", "intermediate", len(tiles), 1, Format.FP32)
        layout = layout_of(builder, tiles, hbm, buffers)
        peaks = [peak_loop(layout)] if layout.is_shared else []
        return Coded(hbm["codes"], hbm["row_scale"], [peaks, [dynamic_loop(layout)]])

    def _made_before(self, builder: ProgramBuilder, numbers: Numbers | None) -> Coded:
        m, k, made = self.problem.m, self.problem.k, numbers and numbers.codes
        codes = builder.tensor("x_codes", "input", m, k, self._format, made and made.codes)
        if not self.scheme.is_dynamic:
            return Coded(codes, None, [])
        scale = made and made.scale.astype(np.float32)
        return Coded(codes, builder.tensor("x_scale", "input", m, 1, Format.FP32, scale), [])

    def _known_before(self, builder: ProgramBuilder, numbers: Numbers | None) -> dict[str, Tensor]:
        known, chunks = numbers and numbers.activations, len(self.scheme.spans)

        def rows(name: str, data: Array | None) -> Tensor:
            return builder.tensor(f"x_{name}", "input", chunks, self.problem.k, Format.FP32, data)

        own = {"reciprocal": rows("reciprocal", known and known.reciprocal)}
        if self.scheme.has_bias:
            own["bias"] = rows("bias", known and known.bias)
        return own

    @property
    def _format(self) -> Format:
        return self.parameters.formats[0]
