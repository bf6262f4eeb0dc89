"""What an op of a core waits for, by the tiles it touches."""

from accelsim.kernels.estimate.order import order_of_none
from accelsim.program.ops import Unit

TWO_SLOTS = (("a", 2),)


def test_a_product_waits_for_the_last_of_its_operands_and_no_longer_for_the_claim():
    loaded = order_of_none(TWO_SLOTS).then_claim().then(Unit.LOAD, (), ("a", 0))
    both = loaded.then(Unit.LOAD, (), ("b", 0))
    product = both.then(Unit.CUBE, (("a", 0), ("b", 0)), ("sum", 0))

    assert loaded.awaits_claim
    assert loaded.waits == ((),)
    assert product.waits == ((1,),)
    assert not product.awaits_claim


def test_a_tile_is_loaded_into_a_slot_once_what_was_there_has_been_read():
    order = order_of_none(TWO_SLOTS).then_claim()
    for use in range(2):
        order = order.then(Unit.LOAD, (), ("a", use))
        order = order.then(Unit.CUBE, (("a", use),), ("sum", 0))
    third = order.then(Unit.LOAD, (), ("a", 2))

    assert third.waits == ((1,),)


def test_what_has_surely_ended_is_not_waited_for():
    order = order_of_none(()).then_claim().then(Unit.LOAD, (), ("a", 0))
    order = order.then(Unit.CUBE, (("a", 0),), ("sum", 0))
    order = order.then(Unit.MOVE, (("sum", 0),), ("x", 0))
    both = order.then(Unit.VECTOR, (("a", 0), ("x", 0)), ("y", 0))

    assert both.waits == ((2,),)


def test_the_next_item_waits_for_its_claim_where_nothing_of_its_own_came_before():
    order = order_of_none(()).then_claim().then(Unit.LOAD, (), ("a", 0)).then_claim()
    first = order.then(Unit.LOAD, (), ("a", 1))
    second = first.then(Unit.LOAD, (), ("b", 1))

    assert first.awaits_claim
    assert not second.awaits_claim


def test_the_same_ops_are_the_same_order():
    first, again = (
        order_of_none(TWO_SLOTS).then_claim().then(Unit.LOAD, (), ("a", 0)) for _ in range(2)
    )

    assert first is again


def test_layouts_of_more_slots_wait_for_ops_before_or_for_none():
    order = order_of_none((("a", 1),), (("a", 2),), (("a", 3),)).then_claim()
    for use in range(2):
        order = order.then(Unit.LOAD, (), ("a", use))
        order = order.then(Unit.CUBE, (("a", use),), ("sum", 0))
    third = order.then(Unit.LOAD, (), ("a", 2))

    assert third.waits == ((3,), (1,), ())
