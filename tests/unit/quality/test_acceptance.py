"""Shares of drafts that are kept, against every draft counted alone."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.quality.acceptance import LONGEST, accepted_shares, mean_shares

WINDOWS = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=12), min_size=1, max_size=3)


@given(WINDOWS)
def test_shares_are_those_of_every_draft_counted_alone(windows):
    longest = min(LONGEST, *map(len, windows))
    starts = [(window, start) for window in windows for start in range(len(window) - longest + 1)]
    expected = [
        np.mean([prod(window[start : start + length]) for window, start in starts])
        for length in range(1, longest + 1)
    ]
    found = accepted_shares([np.array(each) for each in windows])
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_hard_place_stops_the_drafts_that_run_into_it():
    """With rates 1, 1, 0, 1 the mean rate of 3/4 would let 9/16 of all pairs through."""
    window = np.array([1.0, 1.0, 0.0, 1.0] * 5)
    shares = accepted_shares([window])
    starts = range(len(window) - LONGEST + 1)
    assert shares[1] == sum(window[s] * window[s + 1] for s in starts) / len(starts)
    assert shares[3] == shares[7] == 0


def test_texts_count_alike():
    assert mean_shares([(0.5, 0.25), (1.0, 0.75, 0.5)]) == (0.75, 0.5)
