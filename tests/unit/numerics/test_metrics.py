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


def test_overflowed_elements_are_counted_and_left_out_of_the_errors() -> None:
    accuracy = compare(np.array([np.inf, np.nan, 3.0, 4.0]), np.array([9.0, 9.0, 3.0, 6.0]))
    assert accuracy == Accuracy(
        rmse=np.sqrt(2.0),
        relative_rmse=np.sqrt(2.0) / np.sqrt(45 / 2),
        max_abs_error=2.0,
        nonfinite_fraction=0.5,
    )


def test_without_a_finite_element_there_is_no_error_to_state() -> None:
    assert compare(np.array([np.inf, np.nan]), np.array([1.0, 2.0])) == Accuracy(
        rmse=None, relative_rmse=None, max_abs_error=None, nonfinite_fraction=1.0
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
