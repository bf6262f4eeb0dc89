"""Systolic arrays against the cycle in which each of their elements works."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.hardware.units.cube import SystolicSpec, matrix_steps, operand_passes

sizes = st.integers(1, 40)
DATAFLOWS = {
    "output_stationary": ("m", "n", "k"),
    "weight_stationary": ("k", "n", "m"),
    "input_stationary": ("k", "m", "n"),
}
"""Dataflow -> the sizes along the rows, along the columns, and of what streams past."""


def array(dataflow, rows, cols, *, overlaps=False):
    return SystolicSpec(
        rows=rows,
        cols=cols,
        dataflow=dataflow,
        overlap_folds=overlaps,
        rates={"bf16": 1},
        pipeline_depth_cycles=0,
        operand_buffer=1024,
    )


def folds_of(dataflow, rows, cols, shape):
    """Number of folds, and the length of the stream past each."""
    along_rows, along_cols, streamed = (shape[name] for name in DATAFLOWS[dataflow])
    return -(-along_rows // rows) * -(-along_cols // cols), streamed


def fold_cycles(dataflow, rows, cols, streamed):
    """Element (r, c) meets beat t in cycle r + c + t, once a stationary operand is filled in."""
    fill = 0 if dataflow == "output_stationary" else rows
    return fill + int(np.indices((rows, cols, streamed)).sum(axis=0).max()) + 1


@given(st.sampled_from(list(DATAFLOWS)), st.integers(1, 9), st.integers(1, 9), sizes, sizes, sizes)
def test_folds_one_after_the_other(dataflow, rows, cols, m, n, k):
    folds, streamed = folds_of(dataflow, rows, cols, {"m": m, "n": n, "k": k})
    spec = array(dataflow, rows, cols)
    expected = folds * fold_cycles(dataflow, rows, cols, streamed)
    assert matrix_steps(m, n, k, spec.unit) == expected
    assert spec.latency_cycles == 0


@given(st.sampled_from(list(DATAFLOWS)), st.integers(1, 9), st.integers(1, 9), sizes, sizes, sizes)
def test_folds_behind_each_other(dataflow, rows, cols, m, n, k):
    """A second set of registers is filled, or emptied, row by row while a fold streams.

    The last result leaves when the stream of the last fold has passed. Where streams are shorter
    than a fill, the array is taken until the next fill could be done: as much later.
    """
    folds, streamed = folds_of(dataflow, rows, cols, {"m": m, "n": n, "k": k})
    spec = array(dataflow, rows, cols, overlaps=True)
    start = 0  # of the stream of a fold; the first stationary operand is not in place yet
    for _ in range(folds - 1):
        start = max(start + streamed, start + rows)
    last = start + fold_cycles(dataflow, rows, cols, streamed)
    found = matrix_steps(m, n, k, spec.unit) + spec.latency_cycles
    assert found == last + max(0, rows - streamed)


@given(st.sampled_from(list(DATAFLOWS)), st.integers(1, 9), st.integers(1, 9), sizes, sizes, sizes)
def test_overlap_never_occupies_the_array_longer_and_never_beats_its_macs(
    dataflow, rows, cols, m, n, k
):
    overlapped = matrix_steps(m, n, k, array(dataflow, rows, cols, overlaps=True).unit)
    assert overlapped <= matrix_steps(m, n, k, array(dataflow, rows, cols).unit)
    assert overlapped * rows * cols >= m * n * k


@pytest.mark.parametrize(
    ("dataflow", "passes"),
    [
        # 9 x 10 x 11 on 4 x 5. Output: 2 columns of folds read A, 3 rows of them B; sums stay.
        ("output_stationary", (2, 3, 1)),
        # Weights: 3 x 2 folds of B; A goes past the 2 columns of folds; 3 folds along k add up.
        ("weight_stationary", (2, 1, 3)),
        # Input: 3 x 2 folds of A; B goes past the 2 folds along m; 3 folds along k add up.
        ("input_stationary", (1, 2, 3)),
    ],
)
def test_what_is_stationary_is_read_once(dataflow, passes):
    assert operand_passes(9, 10, 11, array(dataflow, 4, 5).unit) == passes


def test_the_peak_is_one_mac_an_element():
    assert array("weight_stationary", 128, 64).macs_per_step == 128 * 64
