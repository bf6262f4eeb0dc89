"""Loads of experts: chances, sums, what is drawn, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import WorkloadError
from accelsim.models.expert_load import Balanced, Counted, Histogram, Uniform, Zipf

SIZES = st.tuples(st.integers(1, 50), st.integers(2, 40), st.integers(1, 4)).filter(
    lambda sizes: sizes[2] <= sizes[1]
)


@given(SIZES, st.integers(1, 4), st.sampled_from([Uniform(), Zipf(), Balanced()]))
def test_all_choices_are_there_and_a_token_picks_an_expert_once(sizes, draws, load):
    tokens, experts, top_k = sizes
    found = load.loads(tokens, experts, top_k, draws)
    assert 1 <= len(found) <= draws
    for rows in found:
        assert len(rows) == experts
        assert sum(rows) == tokens * top_k
        assert max(rows) <= tokens
        assert list(rows) == sorted(rows, reverse=True)


def test_balanced_loads_differ_by_one_row():
    assert Balanced().loads(5, 4, 2, 3) == ((3, 3, 2, 2),)
    assert Balanced(3).loads(6, 8, 2, 1) == ((4, 4, 4, 0, 0, 0, 0, 0),)


@pytest.mark.parametrize("tokens", [2, 8, 32])
def test_a_uniform_choice_touches_as_many_experts_as_the_closed_form_says(tokens):
    """E (1 - (1 - k / E)^T), serving.md 2h."""
    found = Uniform().loads(tokens, 64, 4, 40)
    touched = np.mean([np.count_nonzero(rows) for rows in found])
    assert touched == pytest.approx(64 * (1 - (1 - 4 / 64) ** tokens), rel=0.02)


@pytest.mark.parametrize(("experts", "top_k", "share"), [(128, 8, 0.11875), (8, 2, 0.368)])
def test_the_largest_expert_of_zipf_has_its_share(experts, top_k, share):
    """At 0.95 of all tokens for 8 of 128, and by hand 1 / (1 + .. + 1 / 8) for 2 of 8."""
    (rows,) = Zipf().loads(20_000, experts, top_k, 1)
    assert rows[0] / sum(rows) == pytest.approx(share, rel=0.01)
    chances = Zipf().chances(experts, top_k)
    assert chances.sum() == pytest.approx(top_k)
    below = chances[chances < 0.95]
    ranks = np.arange(experts - len(below), experts) + 1
    assert below * ranks == pytest.approx(below[0] * ranks[0])


def test_zipf_of_almost_all_experts_is_uniform():
    assert Zipf().chances(2, 2).tolist() == [1, 1]


def test_draws_depend_on_the_seed_and_on_nothing_else():
    assert Uniform(3).loads(9, 16, 2, 2) == Uniform(3).loads(9, 16, 2, 2)
    assert Uniform(3).loads(9, 16, 2, 2) != Uniform(4).loads(9, 16, 2, 2)


def test_taken_draws_stand_for_all():
    """Row blocks of two taken draws are as many as those of many."""

    def blocks(found):
        return np.mean([sum(-(-rows // 128) for rows in each) for each in found])

    many = blocks(Uniform().loads(512, 8, 2, 64))
    assert blocks(Uniform().loads(512, 8, 2, 2)) == pytest.approx(many, rel=0.05)


def test_a_histogram_gives_shares():
    load = Histogram(counts=(60.0, 30.0, 10.0, 0.0))
    (rows,) = load.loads(50_000, 4, 1, 1)
    assert np.array(rows) / 50_000 == pytest.approx([0.6, 0.3, 0.1, 0], abs=0.01)
    assert load.chances(4, 2) == pytest.approx([1, 0.75, 0.25, 0])


def test_counted_rows_are_rounded_in_equal_measure():
    found = Counted((2.0, 1.25, 0.5, 0.25)).loads(2, 4, 2, 4)
    assert np.mean(found, axis=0) == pytest.approx([2, 1.25, 0.75, 0], abs=0.3)
    assert np.mean([np.count_nonzero(rows) for rows in found]) == pytest.approx(2.75, abs=0.3)
    assert Counted((3.0, 1.0)).loads(2, 2, 2, 2) == ((3, 1), (3, 1))


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            Balanced(9),
            "experts: found spread_9, allowed: 2 to 8, as a token picks 2 of 8",
        ),
        (
            Balanced(1),
            "experts: found spread_1, allowed: 2 to 8, as a token picks 2 of 8",
        ),
        (
            Histogram(counts=(1.0, 2.0)),
            "experts: found a histogram of 2 experts, allowed: 8, as the model has",
        ),
        (
            Counted((1.0, 2.0)),
            "experts: found a histogram of 2 experts, allowed: 8, as the model has",
        ),
        (
            Histogram(counts=(1.0, *[0.0] * 7)),
            "experts: found rows of 1 experts in the histogram, allowed: of 2 at least, which a "
            "token picks",
        ),
    ],
)
def test_loads_that_cannot_be_are_refused(load, message):
    with pytest.raises(WorkloadError) as caught:
        load.loads(4, 8, 2, 1)
    assert str(caught.value) == message
