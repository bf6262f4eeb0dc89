"""What is known before a run, and where it is placed."""

from collections.abc import Mapping

from accelsim.kernels.base import Array
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Tensor
from accelsim.units import BITS_PER_BYTE

Known = Mapping[str, Array]
"""Numbers by the name of the tensor that they become; none where only costs are asked for."""


def input_tensor(
    builder: ProgramBuilder, known: Known, name: str, rows: int, cols: int, fmt: Format
) -> Tensor:
    """Place an input in HBM, with what is known of it."""
    return builder.tensor(name, "input", rows, cols, fmt, known.get(name))


def in_rows(column: Tensor, rows: int, cols: int) -> Tensor:
    """Return a column [rows x cols, 1] as the matrix [rows, cols] that lies there."""
    data = None if column.data is None else column.data.reshape(rows, cols)
    row_bytes = cols * column.bits // BITS_PER_BYTE
    return column._replace(rows=rows, cols=cols, row_bytes=row_bytes, data=data)
