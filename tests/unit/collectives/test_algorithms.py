"""Algorithms of collectives: run on numbers, and counted against their closed forms."""

from math import ceil, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.collectives.algorithms import ring
from accelsim.collectives.hierarchical import rounds_in_two_levels
from accelsim.collectives.messages import SWITCH, parts_of
from accelsim.collectives.registry import ALGORITHMS

WORLDS = range(2, 65)
SIZES = (0, 1, 131, 64 * 5, 1009)
"""Bytes: none, fewer than devices, a multiple of some, a prime."""


def executed(rounds, buffers, received=None):
    """Run the messages of each round at once; `received`: buffers that pieces go into."""
    known = {number: own.copy() for number, own in enumerate(buffers)}
    known[SWITCH] = np.zeros_like(buffers[0])
    for one in rounds.rounds:
        before = {number: own.copy() for number, own in known.items()}
        for each in one:
            piece = before[each.source][each.begin : each.end]
            target, begin = (known, each.begin) if each.into < 0 else (received, each.into)
            place = slice(begin, begin + each.num_bytes)
            target[each.target][place] = target[each.target][place] + piece if each.adds else piece
    return [known[number] for number in range(len(buffers))]


def numbers(count, size_bytes):
    return [
        np.arange(size_bytes, dtype=np.int64) * 131 + 7919 * number**2 for number in range(count)
    ]


def ways(kind):
    return [
        pytest.param(algorithm, id=name)
        for name, algorithm in ALGORITHMS.items()
        if kind in algorithm.collectives
    ]


def cases(algorithm):
    """Yield groups of all numbers with a ragged size, and small ones with all sizes."""
    for count in WORLDS:
        if algorithm.takes(count):
            yield from ((count, size) for size in (SIZES if count < 9 else SIZES[2:3]))


@pytest.mark.parametrize("algorithm", ways("all_reduce"))
def test_an_all_reduce_leaves_the_sum_everywhere(algorithm):
    for count, size in cases(algorithm):
        buffers = numbers(count, size)
        for found in executed(algorithm.collectives["all_reduce"](count, size), buffers):
            np.testing.assert_array_equal(found, sum(buffers))


@pytest.mark.parametrize("algorithm", ways("reduce_scatter"))
def test_a_reduce_scatter_leaves_each_its_part_of_the_sum(algorithm):
    for count, size in cases(algorithm):
        buffers = numbers(count, size)
        found = executed(algorithm.collectives["reduce_scatter"](count, size), buffers)
        for (begin, end), own in zip(parts_of(size, count), found, strict=True):
            np.testing.assert_array_equal(own[begin:end], sum(buffers)[begin:end])


@pytest.mark.parametrize("algorithm", ways("all_gather"))
def test_an_all_gather_leaves_all_parts_everywhere(algorithm):
    for count, size in cases(algorithm):
        whole = numbers(1, size)[0]
        buffers = [np.full(size, -1 - number) for number in range(count)]
        for (begin, end), own in zip(parts_of(size, count), buffers, strict=True):
            own[begin:end] = whole[begin:end]
        for found in executed(algorithm.collectives["all_gather"](count, size), buffers):
            np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("algorithm", ways("broadcast"))
def test_a_broadcast_leaves_the_buffer_of_the_first_everywhere(algorithm):
    for count, size in cases(algorithm):
        buffers = numbers(count, size)
        for found in executed(algorithm.collectives["broadcast"](count, size), buffers):
            np.testing.assert_array_equal(found, buffers[0])


def test_an_all_to_all_leaves_each_what_all_have_for_it():
    algorithm = ALGORITHMS["direct"]
    for count, size in cases(algorithm):
        buffers, parts = numbers(count, size), parts_of(size, count)
        received = [np.concatenate([own[begin:end] for own in buffers]) for begin, end in parts]
        found = [np.zeros_like(each) for each in received]
        for number, (begin, end) in enumerate(parts):
            place = number * (end - begin)
            found[number][place : place + end - begin] = buffers[number][begin:end]
        executed(algorithm.collectives["all_to_all"](count, size), buffers, found)
        for one, other in zip(found, received, strict=True):
            np.testing.assert_array_equal(one, other)


def counted(rounds):
    """Return the number of rounds, all bytes, and the most that a port carries one way."""
    sent, taken = {}, {}
    for each in (message for one in rounds.rounds for message in one):
        sent[each.source] = sent.get(each.source, 0) + each.num_bytes
        taken[each.target] = taken.get(each.target, 0) + each.num_bytes
    ports = [size for way in (sent, taken) for port, size in way.items() if port != SWITCH]
    return len(rounds.rounds), sum(sent.values()), max(ports, default=0)


CLOSED_FORMS = {
    ("ring", "all_reduce"): lambda n, m: (2 * (n - 1), 2 * (n - 1) * m, 2 * (n - 1) / n * m),
    ("ring", "all_gather"): lambda n, m: (n - 1, (n - 1) * m, (n - 1) / n * m),
    ("ring", "reduce_scatter"): lambda n, m: (n - 1, (n - 1) * m, (n - 1) / n * m),
    ("ring", "broadcast"): lambda n, m: (n - 1, (n - 1) * m, m),
    ("tree", "all_reduce"): lambda n, m: (
        2 * int(log2(n)),
        2 * (n - 1) * m,
        {2: 1.0, 3: 1.5}.get(n, 2.0) * m,
    ),
    ("tree", "broadcast"): lambda n, m: (ceil(log2(n)), (n - 1) * m, ceil(log2(n)) * m),
    ("halving_doubling", "all_reduce"): lambda n, m: (
        2 * log2(n),
        2 * (n - 1) * m,
        2 * (n - 1) / n * m,
    ),
    ("halving_doubling", "all_gather"): lambda n, m: (log2(n), (n - 1) * m, (n - 1) / n * m),
    ("halving_doubling", "reduce_scatter"): lambda n, m: (log2(n), (n - 1) * m, (n - 1) / n * m),
    ("one_shot", "all_reduce"): lambda n, m: (1, n * (n - 1) * m, (n - 1) * m),
    ("one_shot", "all_gather"): lambda n, m: (1, (n - 1) * m, (n - 1) / n * m),
    ("one_shot", "broadcast"): lambda n, m: (1, (n - 1) * m, (n - 1) * m),
    ("two_shot", "all_reduce"): lambda n, m: (2, 2 * (n - 1) * m, 2 * (n - 1) / n * m),
    ("two_shot", "reduce_scatter"): lambda n, m: (1, (n - 1) * m, (n - 1) / n * m),
    ("in_switch", "all_reduce"): lambda n, m: (4, 2 * (n + 1) * m, (1 + 1 / n) * m),
    ("direct", "all_to_all"): lambda n, m: (1, (n - 1) * m, (n - 1) / n * m),
}
"""(algorithm, collective) -> of n devices and m bytes: rounds, all bytes, those of a port."""


def test_every_algorithm_has_a_closed_form():
    known = {(name, kind) for name, one in ALGORITHMS.items() for kind in one.collectives} - {
        ("direct", "send")
    }
    assert known == set(CLOSED_FORMS)


@pytest.mark.parametrize(("name", "kind"), CLOSED_FORMS)
def test_rounds_and_bytes_are_those_of_the_closed_form(name, kind):
    algorithm = ALGORITHMS[name]
    for count in (each for each in WORLDS if algorithm.takes(each)):
        rounds, whole, busiest = CLOSED_FORMS[name, kind](count, 2 * count)
        found = counted(algorithm.collectives[kind](count, 2 * count))
        assert found == (rounds, whole, pytest.approx(busiest)), (count, found)


@pytest.mark.parametrize(("name", "kind"), CLOSED_FORMS)
def test_ragged_sizes_send_as_many_bytes_and_a_port_little_more(name, kind):
    algorithm = ALGORITHMS[name]
    for count, size in cases(algorithm):
        rounds, whole, busiest = CLOSED_FORMS[name, kind](count, size)
        found = counted(algorithm.collectives[kind](count, size))
        messages = 2 * count
        assert found[:2] == (rounds, whole)
        assert abs(found[2] - busiest) <= messages


@given(size=st.integers(0, 300), count=st.integers(1, 70))
def test_parts_cover_all_and_differ_by_one_byte(size, count):
    parts = parts_of(size, count)
    assert [begin for begin, _ in parts] == [0, *(end for _, end in parts[:-1])]
    assert parts[-1][1] == size
    lengths = [end - begin for begin, end in parts]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("outer", ["ring", "tree", "halving_doubling", "one_shot", "two_shot"])
@pytest.mark.parametrize("inner", ["ring", "halving_doubling"])
def test_two_levels_leave_the_sum_everywhere_and_send_a_part_between_nodes(inner, outer):
    within, nodes = 8, 4
    for size in SIZES:
        rounds = rounds_in_two_levels(
            ALGORITHMS[inner], ALGORITHMS[outer], within * nodes, within, size
        )
        buffers = numbers(within * nodes, size)
        for found in executed(rounds, buffers):
            np.testing.assert_array_equal(found, sum(buffers))
        across = sum(
            each.num_bytes
            for one in rounds.rounds
            for each in one
            if each.source // within != each.target // within
        )
        per_part = {"one_shot": nodes * (nodes - 1)}.get(outer, 2 * (nodes - 1))
        assert across == per_part * size


@pytest.mark.parametrize("size", SIZES)
def test_rings_by_all_ports_do_what_one_ring_does_and_load_all_ports_alike(size):
    count, within = 12, 4
    buffers, parts = numbers(count, size), parts_of(size, count)
    for found in executed(ring.all_reduce(count, size, within), buffers):
        np.testing.assert_array_equal(found, sum(buffers))
    scattered = executed(ring.reduce_scatter(count, size, within), buffers)
    for (begin, end), own in zip(parts, scattered, strict=True):
        np.testing.assert_array_equal(own[begin:end], sum(buffers)[begin:end])
    own_parts = [own[begin:end] for own, (begin, end) in zip(buffers, parts, strict=True)]
    for found in executed(ring.all_gather(count, size, within), buffers):
        np.testing.assert_array_equal(found, np.concatenate(own_parts))


def test_rings_by_all_ports_leave_a_node_by_each_of_its_devices():
    count, within, size = 12, 4, 12 * 4 * 5
    left = {}
    for one in ring.all_gather(count, size, within).rounds:
        for each in one:
            if each.source // within != each.target // within:
                left[each.source] = left.get(each.source, 0) + each.num_bytes
    assert left == dict.fromkeys(range(count), (count - 1) * size // count // within)


def test_two_levels_need_a_scatter_and_a_gather_within_a_node():
    ring, tree = ALGORITHMS["ring"], ALGORITHMS["tree"]
    assert rounds_in_two_levels(tree, ring, 32, 8, 64) is None
    assert rounds_in_two_levels(ring, ALGORITHMS["direct"], 32, 8, 64) is None
    assert rounds_in_two_levels(ALGORITHMS["halving_doubling"], ring, 12, 6, 64) is None
