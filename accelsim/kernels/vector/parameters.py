"""Parameters of the vector kernel."""

from accelsim.config.spec import Size, Spec
from accelsim.kernels.integer.code_form import CodedOutput


class VectorTiling(Spec):
    """How the vector kernel cuts a matrix."""

    tile_rows: Size | None = None
    """Rows of a tile of a row function; absent: chosen."""
    tile_cols: Size | None = None
    """Columns of a step of a row function, whose rows are then read twice; absent: whole rows on
    chip, or chosen where these do not fit or take longer."""
    stages: Size = 2
    """Steps or tiles of the operands on chip at a time, one in use and the others on their way."""
    tile_elements: Size | None = None
    """Elements of a tile of an element-wise function; absent: chosen."""


class VectorParameters(CodedOutput, VectorTiling):
    """Choices of the vector kernel."""
