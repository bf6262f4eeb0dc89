"""What an op of a core waits for, by the tiles it touches."""

import pytest

from accelsim.kernels.estimate.order import KIND, NOTE, PLACE, WAITS, Order, orders_of
from accelsim.program.ops import Unit


def waits_of(order, number=-1):
    """Return the ops that one waits for, by their units."""
    waits = [row for row in order.rows[number][WAITS:] if row >= 0]
    return {Unit(order.rows[row][KIND]): row for row in waits}


def used_in_turn(slots, uses):
    """Return an order that loads tiles of a buffer and multiplies each."""
    order = Order({"a": slots})
    for use in range(uses):
        order.load(0, ("a", use))
        order.run(Unit.CUBE, 1, (("a", use),), ("sum", 0))
    return order


def test_a_product_waits_for_its_operands():
    order = Order({"a": 2})
    order.load(0, ("a", 0))
    order.load(0, ("b", 0))
    order.run(Unit.CUBE, 1, (("a", 0), ("b", 0)), ("sum", 0))

    assert waits_of(order, 0) == {}
    assert waits_of(order) == {Unit.LOAD: 1}


@pytest.mark.parametrize(("slots", "waits"), [(1, {Unit.CUBE: 3}), (2, {Unit.CUBE: 1}), (3, {})])
def test_a_tile_is_loaded_into_a_slot_once_what_was_there_has_been_read(slots, waits):
    order = used_in_turn(slots, 2)
    order.load(0, ("a", 2))

    assert waits_of(order) == waits


def test_an_op_waits_for_all_reads_since_the_last_write():
    order = Order({})
    order.load(0, ("a", 0))
    order.run(Unit.CUBE, 1, (("a", 0),), ("sum", 0))
    order.run(Unit.VECTOR, 1, (("a", 0),), ("x", 0))
    order.load(0, ("a", 0))
    order.load(0, ("a", 0))

    assert waits_of(order, 3) == {Unit.CUBE: 1, Unit.VECTOR: 2}
    assert waits_of(order, 4) == {}


def test_a_unit_never_waits_for_itself():
    order = Order({})
    order.run(Unit.VECTOR, 0, (), ("x", 0))
    order.run(Unit.VECTOR, 0, (("x", 0),), ("x", 0))

    assert waits_of(order) == {}


def test_tables_of_several_orders_follow_each_other():
    orders = []
    for uses in (1, 2):
        orders.append(used_in_turn(2, uses))
        orders[-1].note_retired(uses)
    tables = orders_of(orders)

    assert tables.begins.tolist() == [0, 3, 8]
    assert tables.rows[[2, 7], KIND].tolist() == [NOTE, NOTE]
    assert tables.rows[[2, 7], PLACE].tolist() == [1, 2]
    assert tables.num_notes == 3
