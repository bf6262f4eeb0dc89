"""What is kept of objects is never that of another object."""

from accelsim.runtime.kept import once_for_each


class _Thing:
    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return True

    __hash__ = None


def test_it_is_made_once_for_the_same_objects():
    made = []

    @once_for_each
    def of(one, other):
        made.append((one.number, other.number))
        return one.number - other.number

    one, other = _Thing(1), _Thing(2)
    assert [of(one, other), of(one, other), of(other, one)] == [-1, -1, 1]
    assert made == [(1, 2), (2, 1)]


def test_equal_objects_and_those_in_the_place_of_others_are_told_apart():
    """Objects that are gone leave their place in memory to the next; a hundred of them do so."""

    @once_for_each
    def of(one):
        return one.number

    assert [of(_Thing(number)) for number in range(1000)] == list(range(1000))


def test_what_is_raised_is_not_kept():
    one = _Thing(0)

    @once_for_each
    def of(one):
        return 1 // one.number

    for number, expected in ((0, None), (1, 1)):
        one.number = number
        try:
            found = of(one)
        except ZeroDivisionError:
            found = None
        assert found == expected
