"""What speculative sampling writes is distributed as the target alone would write."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.quality.rejection import checked, drawn, turn

VOCABULARY = 4
TARGET = np.array([[0.5, 0.3, 0.2, 0], [0, 0.1, 0.6, 0.3], [0.25, 0.25, 0.25, 0.25], [1, 0, 0, 0]])
DRAFT = np.array([[0.2, 0.3, 0.1, 0.4], [0.3, 0.3, 0.4, 0], [0.7, 0.1, 0.1, 0.1], [0, 0.5, 0.5, 0]])
"""Laws of the token behind each token; each leaves out some that the other has."""


def chain(laws):
    return lambda ids, count: laws[np.array(ids[-count:])]


def written(length, turns, seed=0):
    """Return what so many turns write, and the tokens of each turn."""
    rng, ids, counts = np.random.default_rng(seed), [0], []
    for _ in range(turns):
        found = turn(chain(DRAFT), chain(TARGET), ids, length, rng)
        counts.append(len(found))
        ids += found
    return ids, counts


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_law_of_what_is_written_is_that_of_the_target(length):
    """Chi squared of every token behind every other; the seed is fixed."""
    ids, _ = written(length, 20_000)
    seen = np.zeros((VOCABULARY, VOCABULARY))
    for one, two in pairwise(ids):
        seen[one, two] += 1
    expected = seen.sum(axis=1, keepdims=True) * TARGET
    assert not seen[TARGET == 0].any()
    possible = TARGET > 0
    chi = ((seen - expected)[possible] ** 2 / expected[possible]).sum()
    # 11 cells that may be, a sum for each of 4 rows: 7 degrees; 24.3 is passed once in a thousand.
    assert chi < 24.3


def test_the_draft_alone_fails_that_test():
    rng, ids = np.random.default_rng(0), [0]
    for _ in range(20_000):
        ids.append(drawn(DRAFT[ids[-1]], rng))
    seen = np.zeros((VOCABULARY, VOCABULARY))
    for one, two in pairwise(ids):
        seen[one, two] += 1
    assert seen[TARGET == 0].any()


@pytest.mark.parametrize("length", [1, 3, 6])
def test_tokens_of_a_turn_are_those_of_the_closed_form(length):
    """Where laws do not depend on the token before, each is kept with sum min(p, q)."""
    q, p = np.array([0.6, 0.3, 0.1]), np.array([0.3, 0.3, 0.4])
    rate = np.minimum(p, q).sum()
    laws = [lambda _, count, law=law: np.tile(law, (count, 1)) for law in (q, p)]
    rng = np.random.default_rng(1)
    counts = [len(turn(*laws, [0], length, rng)) for _ in range(20_000)]
    expected = (1 - rate ** (length + 1)) / (1 - rate)
    assert np.mean(counts) == pytest.approx(expected, abs=4 * np.std(counts) / len(counts) ** 0.5)


def test_a_draft_that_is_the_target_is_kept_whole():
    rng = np.random.default_rng(2)
    counts = [len(turn(chain(TARGET), chain(TARGET), [0], 4, rng)) for _ in range(200)]
    assert counts == [5] * 200


def test_a_draft_that_the_target_never_writes_is_dropped():
    q, p = np.array([[1.0, 0.0]] * 2), np.array([[0.0, 1.0]] * 3)
    assert checked([0, 0], q, p, np.random.default_rng(3)) == [1]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=6).filter(any),
    st.lists(st.integers(0, 5), min_size=2, max_size=6).filter(any),
)
def test_kept_and_replaced_tokens_make_up_the_target(q, p):
    """min(p, q) and the rest in the share of those dropped sum to p, for any two laws."""
    size = min(len(q), len(p))
    if not any(q[:size]) or not any(p[:size]):
        return
    q, p = (np.array(each[:size]) / sum(each[:size]) for each in (q, p))
    kept, rest = np.minimum(p, q), np.maximum(p - q, 0)
    dropped = 1 - kept.sum()
    total = kept + (dropped * rest / rest.sum() if dropped > 1e-12 else 0)
    assert total == pytest.approx(p, abs=1e-12)
    rng = np.random.default_rng(4)
    for token, _ in product(np.flatnonzero(q), range(20)):
        (*_, last) = checked([int(token)], q[None], np.stack([p, p]), rng)
        assert p[last] > 0
