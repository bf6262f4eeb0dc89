"""Energy of more kernels, measured on two more NVIDIA H200s, as `h200-energy` has it of one.

Every other row was looked at when the energies of the machine were chosen, those with an even line;
`held_out` has the others.
"""

from collections.abc import Sequence
from dataclasses import replace

from accelsim.validation.h200_energy import REFERENCE as FIRST_BOARD
from accelsim.validation.h200_energy import EnergyRow


def held_out(rows: Sequence[EnergyRow]) -> list[EnergyRow]:
    """Return the rows that no number of the machine was chosen with."""
    return [row for row in rows if row.line % 2]


REFERENCE = replace(
    FIRST_BOARD,
    name="h200-energy-boards",
    summary="energy of kernels measured on two more NVIDIA H200 SXM",
    file="h200-energy-boards.csv",
)
