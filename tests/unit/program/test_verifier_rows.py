"""The verifier follows the rows of a tensor that is stored and loaded in turn."""

import pytest

from accelsim.errors import ProgramError
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.verifier import verify
from accelsim.runtime.jit import jit


@jit
def _turns(p, loaded_rows, partial, out, buffer):
    """Step i stores row i of `partial` in phase 2 i and loads another one in phase 2 i + 1."""
    for step in range(len(loaded_rows)):
        stored, loaded = al.tile(buffer, 0, 1, 8), al.tile(buffer, 1, 1, 8)
        al.begin_item(p, 2 * step)
        al.fill(p, stored, 1.0)
        al.store(p, partial, step, 0, stored)
        al.begin_item(p, 2 * step + 1)
        al.load(p, loaded, partial, loaded_rows[step], 0)
        al.store(p, out, step, 0, loaded)


def program_of(loaded_rows):
    builder = ProgramBuilder("turns", with_numbers=False)
    partial = builder.tensor("partial", "intermediate", 4, 8, Format.FP16)
    out = builder.tensor("o", "output", len(loaded_rows), 8, Format.FP16)
    buffer = builder.buffer("b", 1, 8, Format.FP16, slots=2)
    return builder.record(_turns, 2 * len(loaded_rows), loaded_rows, partial, out, buffer)


@pytest.mark.parametrize("rows", [(0, 1, 2), (0, 0, 1)])
def test_rows_stored_in_an_earlier_phase_may_be_loaded(rows):
    verify(program_of(rows))


@pytest.mark.parametrize(("rows", "index"), [((0, 2, 2), 6), ((3, 0, 0), 2)])
def test_a_row_stored_later_or_never_may_not_be_loaded(rows, index):
    with pytest.raises(ProgramError) as error:
        verify(program_of(rows))
    assert str(error.value) == (
        f"turns: op {index} load   load     b[1] <- partial: 1 rows x 16 B at "
        f"{16 * rows[index // 4]} step 16: loads what is not stored in an earlier phase"
    )
