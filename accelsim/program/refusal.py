"""Why recording stopped: an op that asked for more than a tile or a tensor has."""

import numpy as np
import numpy.typing as npt

from accelsim.errors import ProgramError
from accelsim.program.ops import (
    ASKED_COL,
    ASKED_COLS,
    ASKED_ROW,
    ASKED_ROWS,
    HELD_COLS,
    HELD_ROWS,
    KERNEL_ARRAY,
    NO_SLOT,
    NO_TENSOR,
    REFUSED_OP,
    REFUSED_PLACE,
)
from accelsim.program.printer import format_operands
from accelsim.program.program import Program


def refusal(program: Program, header: npt.NDArray[np.int64]) -> ProgramError:
    """Return the error for the op that the header of a recorder notes.

    REFUSED_OP: its index plus 1; negative if the control core asked, before that op. REFUSED_PLACE:
    a slot, -1 - a tensor, or KERNEL_ARRAY for an array of the kernel.
    """
    return ProgramError(f"{program.name}: {_who(program, header)}: {_what(program, header)}")


def _who(program: Program, header: npt.NDArray[np.int64]) -> str:
    index = abs(int(header[REFUSED_OP])) - 1
    if header[REFUSED_OP] < 0:
        return f"read_element before op {index}"
    return f"op {format_operands(program, program.decode(index)).strip()}"


def _what(program: Program, header: npt.NDArray[np.int64]) -> str:
    row, col, rows, cols, held_rows, held_cols = (
        int(header[word])
        for word in (ASKED_ROW, ASKED_COL, ASKED_ROWS, ASKED_COLS, HELD_ROWS, HELD_COLS)
    )
    place = int(header[REFUSED_PLACE])
    if place == KERNEL_ARRAY:
        return f"asks for {cols} numbers from number {col} of an array of {held_cols}"
    if place == NO_SLOT:
        return f"asks for {rows}x{cols} elements of a buffer that this kernel has not"
    if place == -1 - NO_TENSOR:
        return f"asks for {rows}x{cols} elements of a tensor that this kernel has not"
    if place < 0:
        name = program.tensors[-1 - place].name
        asked = f"{rows}x{cols} elements of {name} from row {row}, column {col}"
        return f"asks for {asked}; {name} has {held_rows}x{held_cols}"
    name = program.slot_name(place)
    return f"asks for {rows}x{cols} elements of {name}, where there are {held_rows}x{held_cols}"
