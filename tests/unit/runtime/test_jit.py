"""What `accelsim.runtime.jit` adds to Numba: choices by type, and one code for all constants."""

from typing import NamedTuple

import numba
import numpy as np
import pytest
from numba import types

from accelsim.runtime.closure import closure_digest
from accelsim.runtime.jit import borrow, chosen_by_type, jit, jit_inner


class Square(NamedTuple):
    side: int


class Box(NamedTuple):
    width: int
    height: int


@jit
def _area_of_square(square, scale):
    return scale * square.side * square.side


@jit
def _area_of_box(box, scale):
    return scale * box.width * box.height


area = chosen_by_type({Square: _area_of_square, Box: _area_of_box})


@jit
def twice(shape):
    return 2 * area(shape, 1) + area(shape, 0)


@jit_inner
def _plus(value, other):
    return value + other


@pytest.mark.parametrize(("shape", "expected"), [(Square(3), 9), (Box(2, 5), 10)])
def test_the_type_of_the_first_argument_chooses_in_python_and_when_compiled(shape, expected):
    assert area(shape, 1) == expected
    assert twice(shape) == 2 * expected


def test_a_type_without_a_choice_is_an_error():
    with pytest.raises(KeyError):
        area((1, 2), 1)


def test_what_may_be_chosen_belongs_to_the_key_of_the_compiled_code():
    other = chosen_by_type({Square: _area_of_square})

    def caller(shape):
        return area(shape, 1)

    def narrow(shape):
        return other(shape, 1)

    narrow.__qualname__ = caller.__qualname__
    assert closure_digest(caller) != closure_digest(narrow)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_constants_do_not_make_codes_of_their_own():
    for constant in (1, 2, 3):
        _plus.get_call_template((types.int64, types.literal(constant)), {})
    assert list(_plus.overloads) == [(types.int64, types.int64)]


class Part(NamedTuple):
    size: int
    values: np.ndarray


def test_a_borrowed_tuple_has_the_values_of_its_arrays_and_of_tuples_inside():
    @jit
    def total(parts):
        one, other = borrow(parts)
        return one.size + one.values.sum() + other[0] + other[1].sum()

    assert total((Part(1, np.array([20, 300])), (4000, np.array([50000])))) == 54321
