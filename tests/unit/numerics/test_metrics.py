import re

import numpy as np
import pytest

from accelsim.numerics.metrics import Accuracy, compare


def test_errors_match_their_definitions() -> None:
    accuracy = compare(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 6.0, 0.0]))
    assert accuracy == Accuracy(
        rmse=2.5,  # sqrt((9 + 16) / 4)
        relative_rmse=2.5 / np.sqrt(41 / 4),
        max_abs_error=4.0,
        nonfinite_fraction=0.0,
    )


@pytest.mark.parametrize("lost", [np.inf, -np.inf, np.nan])
def test_an_output_that_is_not_finite_is_infinitely_wrong(lost: float) -> None:
    accuracy = compare(np.array([lost, 3.0, 4.0, 5.0]), np.array([9.0, 3.0, 6.0, 5.0]))
    assert accuracy == Accuracy(
        rmse=np.inf, relative_rmse=np.inf, max_abs_error=np.inf, nonfinite_fraction=0.25
    )


def test_elements_whose_reference_is_not_finite_have_no_error() -> None:
    output, reference = (
        np.array([np.inf, np.nan, 7.0, 4.0]),
        np.array([np.inf, np.nan, np.nan, 6.0]),
    )
    assert compare(output, reference) == Accuracy(
        rmse=2.0, relative_rmse=2 / 6, max_abs_error=2.0, nonfinite_fraction=0.5
    )


def test_without_a_finite_reference_there_is_no_error_to_state() -> None:
    assert compare(np.array([np.inf, 1.0]), np.array([np.inf, np.nan])) == Accuracy(
        rmse=None, relative_rmse=None, max_abs_error=None, nonfinite_fraction=0.5
    )


def test_relative_error_is_undefined_for_a_zero_reference() -> None:
    assert compare(np.array([1.0]), np.array([0.0])).relative_rmse is None


def test_squares_of_fp32_inputs_do_not_overflow() -> None:
    huge = np.array([3e38], dtype=np.float32)
    assert compare(-huge, huge).rmse == 2 * float(huge[0])


@pytest.mark.parametrize("output", [np.zeros((2, 3)), np.zeros((0,))])
def test_shapes_must_agree_and_hold_something(output: np.ndarray) -> None:
    reference = np.zeros((3, 2)) if output.size else output
    message = f"cannot compare shape {output.shape} with reference {reference.shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compare(output, reference)
