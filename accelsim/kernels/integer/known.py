"""What is known before a run, and where it is placed."""

from collections.abc import Mapping

from accelsim.kernels.base import Array
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Tensor

Known = Mapping[str, Array]
"""Numbers by the name of the tensor that they become; none where only costs are asked for."""


def input_tensor(
    builder: ProgramBuilder, known: Known, name: str, rows: int, cols: int, fmt: Format
) -> Tensor:
    """Place an input in HBM, with what is known of it."""
    return builder.tensor(name, "input", rows, cols, fmt, known.get(name))
