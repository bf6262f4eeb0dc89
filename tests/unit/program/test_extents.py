"""No call of the kernel language reaches beyond what it touches, with numbers or without."""

import re
from inspect import isfunction

import pytest

from accelsim.errors import ProgramError
from accelsim.program.old import block_ops, integer, language, quantizing, row_ops, selection
from tests.calls import NEEDS, WITH_DEPTH, WITHOUT_COLS, Call, record


def _is_call(function, module):
    """Whether this is a function of a module whose first argument is the recorder."""
    python = getattr(function, "py_func", function)
    is_own = isfunction(python) and python.__module__ == module.__name__
    return is_own and python.__code__.co_varnames[:1] == ("p",)


def test_every_call_is_here():
    modules = (language, block_ops, integer, quantizing, row_ops, selection)
    found = {
        name
        for module in modules
        for name, each in vars(module).items()
        if not name.startswith("_") and _is_call(each, module)
    }
    assert found - {"begin_item"} <= {call.name.lower().partition("_by_")[0] for call in Call}
    assert len(found) > 35


def refusal(*arguments, **changes):
    with pytest.raises(ProgramError) as error:
        record(*arguments, **changes)
    return str(error.value)


both = pytest.mark.parametrize("with_numbers", [False, True], ids=["cost only", "with numbers"])
every_call = pytest.mark.parametrize("call", list(Call), ids=lambda call: call.name.lower())
LACKS = [
    (call, name, axis)
    for call in Call
    for name, size in NEEDS[call].items()
    for axis in (0, 1)
    if size[axis] > 1
]


@both
@every_call
def test_operands_of_just_the_right_size_pass(call, with_numbers):
    assert record(call, with_numbers).num_ops >= (call is not Call.READ_ELEMENT)


@both
@pytest.mark.parametrize(("call", "name", "axis"), LACKS, ids=str)
def test_an_operand_that_lacks_a_row_or_a_column_is_named(call, name, axis, with_numbers):
    size = list(NEEDS[call][name])
    size[axis] -= 1
    message = refusal(call, with_numbers, sizes={name: tuple(size)})
    asks = "read_element before" if call is Call.READ_ELEMENT else ""
    place = name if name in ("src", "out") else rf"{name}\[0\]; allowed: "
    assert re.match(rf"extents: {asks} ?op \d+.*: asks for \d+x\d+ elements of {place}", message)


@both
@pytest.mark.parametrize("size", [0, -1, -(2**62), 2**62, 2**63 - 1])
@every_call
def test_sizes_that_make_no_sense_are_refused(call, size, with_numbers):
    refusal(call, with_numbers, rows=size)
    if call not in WITHOUT_COLS:
        refusal(call, with_numbers, cols=size)
    if call in WITH_DEPTH:
        refusal(call, with_numbers, depth=size)
