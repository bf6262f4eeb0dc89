"""Where a vector function is laid out: matrices in HBM, and tiles of them on chip."""

from typing import NamedTuple

import numpy as np

from accelsim.kernels.base import Array
from accelsim.kernels.estimate.footprint import Footprint
from accelsim.kernels.integer.code_form import CodeForm
from accelsim.kernels.integer.coded_output import coded_matrices
from accelsim.kernels.integer.coder import allocate_coder, coder_of
from accelsim.kernels.vector.operands import Operand
from accelsim.kernels.vector.parameters import VectorParameters
from accelsim.kernels.vector.tiles import Tile, matrix_of
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer, Tensor
from accelsim.quantization.codes import Values
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors


class Workspace(NamedTuple):
    """A builder, and what every declaration follows from.

    With a footprint for a builder only the bytes on chip are asked: then sizes of a tile may be
    arrays, and nothing is placed in HBM.
    """

    builder: ProgramBuilder | Footprint
    problem: VectorProblem
    asked: VectorParameters
    tile: Tile
    tensors: VectorTensors | None = None
    factors: Values | None = None
    """2^group of the channels of a coded result, where there are numbers [cols]."""

    def given(self, name: str, shape: tuple[int, int] | None = None) -> Tensor:
        """Place x or y in HBM, with the shape that the function sees."""
        shape, data = shape or matrix_of(self.problem), self._data(name)
        data = None if data is None else data.reshape(shape)
        return self.builder.tensor(name, "input", *shape, self.problem.dtype, data)

    def table(self, name: str, cols: int) -> Tensor:
        """Place x or y in HBM where it is a table, of which a run needs the rows that are named."""
        if isinstance(self.builder, Footprint):
            return self.builder.no_tensor()
        rows, needed, data = (
            self.problem.table_rows or 1,
            self.problem.needed_rows,
            self._data(name),
        )
        return self.builder.tensor(name, "input", rows, cols, self.problem.dtype, data, needed)

    def _data(self, name: str) -> Array | None:
        return None if self.tensors is None else getattr(self.tensors, name)

    @property
    def row_numbers(self) -> Array:
        """Rows that tokens name; none where only bytes are asked, for to draw them takes long."""
        is_measured = isinstance(self.builder, Footprint)
        return np.zeros(0, np.int32) if is_measured else self.problem.row_numbers

    def numbers(self) -> Tensor:
        """Place the numbers of the rows that tokens name in HBM."""
        if isinstance(self.builder, Footprint):
            return self.builder.no_tensor()
        return self.builder.index_tensor("numbers", self.row_numbers)

    def made(self, name: str, cols: int | None = None, fmt: Format | None = None) -> Tensor:
        """Place a result in HBM: of so many columns, or of the shape of x; fmt: as x, if absent."""
        rows, all_cols = matrix_of(self.problem)
        fmt = fmt or self.problem.dtype
        return self.builder.tensor(name, "output", rows, cols or all_cols, fmt)

    def buffer(self, name: str, cols: int, fmt: Format = Format.FP32, slots: int = 1) -> Buffer:
        """Declare tiles with the rows of all, and so many columns."""
        return self.builder.buffer(name, self.tile.rows, cols, fmt, slots=slots)

    def loaded(self, name: str, matrix: Tensor | None = None, cols: int | None = None) -> Operand:
        """Return what is loaded in its format and computed in FP32: x or y, if nothing is said."""
        matrix, cols = matrix or self.given(name), cols or self.tile.cols
        stored = self.buffer(name, cols, self.problem.dtype, self.asked.stages)
        if self.problem.dtype == Format.FP32:
            return Operand(matrix, stored, stored)
        return Operand(matrix, stored, self.buffer(f"{name}_vector", cols))

    def coded(self, name: str, computed: Buffer, large: Buffer) -> Operand:
        """Return what is computed in the tiles `computed` in FP32, and stored as codes.

        large: tiles as large as these, which nobody needs any more when a result is stored.
        """
        form, problem = self.asked.form or CodeForm(), self.problem
        powers = None if self.factors is None else self.factors[None]
        shape = (problem.rows, problem.cols)
        hbm = coded_matrices(self.builder, name, shape, form, (1, powers))
        own = allocate_coder(self.builder, form, self.tile.rows, problem.cols)
        columns = {key: self.buffer(f"code_{key}", 1) for key in ("peak", "part")}
        buffers = {"large": large, **own, **columns}
        coder = coder_of(self.builder, form, hbm, problem.rows, buffers)
        return Operand(self.builder.no_tensor(), coder, computed)

    def stored(
        self, name: str, matrix: Tensor, computed: Buffer, cols: int | None = None
    ) -> Operand:
        """Return what is computed in the tiles `computed`, and stored in the format of x."""
        return self._stored_as(self.problem.dtype, name, matrix, computed, cols)

    def result(self, computed: Buffer) -> Operand:
        """Return the result, with the shape of x, which is computed in the tiles `computed`."""
        fmt = self.problem.output_dtype
        return self._stored_as(fmt, "result", self.made("result", fmt=fmt), computed)

    def _stored_as(
        self, fmt: Format, name: str, matrix: Tensor, computed: Buffer, cols: int | None = None
    ) -> Operand:
        """Return what is computed in the tiles `computed`, and stored in a format."""
        if fmt == Format.FP32:
            return Operand(matrix, computed, computed)
        stored = self.buffer(name, cols or self.tile.cols, fmt, 2)
        return Operand(matrix, stored, computed)
