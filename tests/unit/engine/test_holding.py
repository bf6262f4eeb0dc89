"""The most bytes in use at once, against all changes in their order."""

import numpy as np
import pytest

from accelsim.engine.holding import Holding, highest_use
from accelsim.runtime.jit import jit


@jit
def _highest(holding, known):
    return highest_use(holding, known)


def highest(moments, changes, known):
    """Return the same, of changes that were found before."""
    none, count = np.zeros(0, np.int64), len(moments)
    room = np.empty((count, 2), np.int64), np.empty(count, np.int64)
    found = moments.copy(), changes.copy(), np.array([count])
    return _highest(Holding(none, none, none, *found, *room), known)


def uses(seed, count, cycles, longest):
    """Moments and changes of so many uses, in no order; half of them begin within a few cycles."""
    generator = np.random.default_rng(seed)
    begin = generator.integers(cycles, size=count)
    begin[::2] = cycles // 3 + begin[::2] % 50
    end = begin + generator.integers(longest, size=count)
    size = generator.integers(1, 1000, size=count)
    moments = np.stack([2 * begin + 1, 2 * end], axis=1).ravel()
    return moments, np.stack([size, -size], axis=1).ravel()


@pytest.mark.parametrize("count", [0, 1, 2, 40, 3000])
@pytest.mark.parametrize(("cycles", "longest"), [(60, 5), (10**6, 300), (2**42, 2**30)])
def test_the_highest_sum_is_that_of_the_changes_in_order(count, cycles, longest):
    for seed in range(5):
        moments, changes = uses(seed, count, cycles, longest)
        in_order = np.argsort(moments, kind="stable")
        expected = max(0, int(np.cumsum(changes[in_order]).max(initial=0)))
        assert highest(moments, changes, 0) == expected
        assert highest(moments, changes, expected - 1) == max(expected, expected - 1)
        assert highest(moments, changes, expected + 1) == expected + 1
