"""Hypervolumes against counting, closed forms and what must be true of any front."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.exploring.hypervolume import MARGIN, hypervolume, reference_of, share_of_front

SIDE = 5


def points(objectives: int) -> st.SearchStrategy[np.ndarray]:
    row = st.tuples(*[st.integers(0, SIDE)] * objectives)
    return st.lists(row, min_size=1, max_size=8).map(lambda rows: np.array(rows, dtype=float))


@given(st.integers(1, 4).flatmap(points))
def test_it_is_the_number_of_unit_cells_that_are_beaten(costs: np.ndarray) -> None:
    cells = itertools.product(range(SIDE), repeat=costs.shape[1])
    beaten = sum(bool((costs <= cell).all(axis=1).any()) for cell in cells)
    assert hypervolume(costs, [SIDE] * costs.shape[1]) == beaten


@given(st.integers(1, 4).flatmap(points), st.randoms(use_true_random=False))
def test_it_is_that_of_the_front_in_any_order_and_grows_with_points(
    costs: np.ndarray, random: object
) -> None:
    bound = [SIDE] * costs.shape[1]
    shuffled = np.array(random.sample(costs.tolist(), len(costs)))  # type: ignore[attr-defined]
    assert hypervolume(shuffled, bound) == hypervolume(costs, bound)
    assert hypervolume(costs[:-1], bound) <= hypervolume(costs, bound)
    doubled = np.vstack([costs, costs])
    assert hypervolume(doubled, bound) == hypervolume(costs, bound)


def test_a_line_has_the_area_of_its_steps() -> None:
    steps = 100
    line = np.array([[x, steps - x] for x in range(steps + 1)]) / steps
    assert hypervolume(line, [1.0, 1.0]) == pytest.approx((1 - 1 / steps) / 2)


def test_the_reference_is_a_little_beyond_the_worst() -> None:
    front = np.array([[0.0, 8.0], [2.0, 4.0]])
    assert reference_of(front).tolist() == [2.0 + MARGIN * 2.0, 8.0 + MARGIN * 4.0]
    # Without a range, it is beyond by a share of the value, or of the smallest number there is.
    alone = np.array([[3.0, -5.0, 0.0]])
    assert (reference_of(alone) > alone[0]).all()
    assert share_of_front(alone, alone) == 1.0


@given(points(2), points(2))
def test_a_share_is_one_for_the_front_and_less_for_a_part(
    costs: np.ndarray, more: np.ndarray
) -> None:
    both = np.vstack([costs, more])
    front = np.array(
        [row for row in both if not ((both <= row).all(1) & (both < row).any(1)).any()]
    )
    assert share_of_front(both, front) == pytest.approx(1)
    assert 0 <= share_of_front(costs, front) <= 1 + 1e-12
