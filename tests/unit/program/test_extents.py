"""No call of the kernel language reaches beyond what it touches, with numbers or without."""

import re
from inspect import isfunction

import pytest

from accelsim.errors import ProgramError
from accelsim.program import language
from tests.calls import MAY_BE_LARGER, WITH_DEPTH, WITHOUT_COLS, Call, needs, record


def _is_call(function):
    """Whether the first argument of a function is the recorder."""
    python = getattr(function, "py_func", function)
    return isfunction(python) and python.__code__.co_varnames[:1] == ("p",)


def test_every_call_is_here():
    found = {name for name in language.__all__ if _is_call(getattr(language, name))}
    assert found - {"begin_item", "next_turn"} <= {
        call.name.lower().partition("_by_")[0] for call in Call
    }
    assert len(found) > 35


def refusal(*arguments, **changes):
    with pytest.raises(ProgramError) as error:
        record(*arguments, **changes)
    return str(error.value)


both = pytest.mark.parametrize("with_numbers", [False, True], ids=["cost only", "with numbers"])
every_call = pytest.mark.parametrize("call", list(Call), ids=lambda call: call.name.lower())
OPERANDS = [(call, name, axis) for call in Call for name in needs(call) for axis in (0, 1)]
LACKS = [each for each in OPERANDS if needs(each[0])[each[1]][each[2]] > 1]
TILES = [
    each
    for each in OPERANDS
    if each not in MAY_BE_LARGER and each[1] not in ("src", "out") and len(needs(each[0])) > 1
]


@both
@every_call
def test_operands_of_just_the_right_size_pass(call, with_numbers):
    assert record(call, with_numbers).num_ops >= (call is not Call.READ_ELEMENT)


@both
@pytest.mark.parametrize(("call", "name", "axis"), LACKS, ids=str)
def test_an_operand_that_lacks_a_row_or_a_column_is_named(call, name, axis, with_numbers):
    size = list(needs(call)[name])
    size[axis] -= 1
    message = refusal(call, with_numbers, sizes={name: tuple(size)})
    asks = "read_element before" if call is Call.READ_ELEMENT else ""
    place = name if name in ("src", "out") else rf"{name}\[0\], where there are "
    assert re.match(rf"extents: {asks} ?op \d+.*: asks for \d+x\d+ elements of {place}", message)


@both
@pytest.mark.parametrize(("call", "name", "axis"), TILES, ids=str)
def test_a_tile_of_another_extent_than_the_call_needs_is_refused(call, name, axis, with_numbers):
    """By one more, in a buffer that has it; in no other operand is anything wrong."""
    extent = list(needs(call)[name])
    extent[axis] += 1
    changes = {"sizes": {name: tuple(extent)}, "asked": {name: tuple(extent)}}
    assert "elements of" in refusal(call, with_numbers, **changes)


@both
@pytest.mark.parametrize("size", [0, -1, -(2**62), 2**62, 2**63 - 1])
@every_call
def test_sizes_that_make_no_sense_are_refused(call, size, with_numbers):
    refusal(call, with_numbers, rows=size)
    if call not in WITHOUT_COLS:
        refusal(call, with_numbers, cols=size)
    if call in WITH_DEPTH:
        refusal(call, with_numbers, depth=size)
