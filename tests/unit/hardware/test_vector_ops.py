"""What a vector op costs where a file has no key for it."""

import pytest
from pydantic import ValidationError

from accelsim.config.spec import Factor
from accelsim.hardware.units.vector import NAMED_OPS, OpTable, VectorCosts, with_ops
from accelsim.program.ops import VectorOp

LOGARITHM = {"logarithm": VectorOp("Logarithm", "of one logarithm", cost_class="exp")}


@with_ops(NAMED_OPS | LOGARITHM, Factor, lambda about: about.meaning, may_be_absent=True)
class Costs(OpTable):
    """Costs of all ops, and of one more, which costs as much as another."""


NEEDED = {name: 1.0 for name, about in NAMED_OPS.items() if not about.is_optional}


def test_an_op_without_a_key_costs_what_its_class_does():
    assert Costs.model_validate(NEEDED | {"exp": 4}).of("logarithm") == 4


def test_a_key_of_its_own_counts_more_than_the_class():
    assert Costs.model_validate(NEEDED | {"exp": 4, "logarithm": 9}).of("logarithm") == 9


def test_an_op_whose_class_is_missing_is_not_a_second_mistake():
    with pytest.raises(ValidationError) as error:
        Costs.model_validate({name: cost for name, cost in NEEDED.items() if name != "exp"})
    assert [each["loc"] for each in error.value.errors()] == [("exp",)]


def test_an_op_without_a_class_is_absent_or_has_its_key():
    assert VectorCosts.model_validate(NEEDED).of("square_root") is None
    assert VectorCosts.model_validate(NEEDED | {"square_root": 5}).of("square_root") == 5


def test_a_class_is_an_op_with_a_key_in_every_file():
    classes = {about.cost_class for about in NAMED_OPS.values() if about.cost_class}
    assert classes <= NEEDED.keys()
