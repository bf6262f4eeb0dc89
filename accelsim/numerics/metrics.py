"""How far an output is from its reference, with no element left out that has a reference."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Distance of an output from a reference.

    The errors are taken over all elements whose reference is finite, and are infinite if the output
    is not finite at one of them: what overflowed never looks better than what did not. Where the
    reference itself is infinite or NaN there is no error; with no other element they are None.
    """

    rmse: float | None
    """Root of the mean squared error."""
    relative_rmse: float | None
    """`rmse` over the root mean square of the reference at the same elements; None if that is 0."""
    max_abs_error: float | None
    """Largest absolute error of one element."""
    nonfinite_fraction: float
    """Share of the elements of the output that are infinite or NaN."""


def compare(output: npt.ArrayLike, reference: npt.ArrayLike) -> Accuracy:
    """Compare two arrays of one shape, in float64.

    Raises ValueError if the shapes differ or hold no element.
    """
    found, expected = np.asarray(output, np.float64), np.asarray(reference, np.float64)
    if found.shape != expected.shape or found.size == 0:
        raise ValueError(f"cannot compare shape {found.shape} with reference {expected.shape}")
    nonfinite_fraction = 1.0 - float(np.isfinite(found).mean())
    judged = np.isfinite(expected)
    if not judged.any():
        return Accuracy(
            rmse=None,
            relative_rmse=None,
            max_abs_error=None,
            nonfinite_fraction=nonfinite_fraction,
        )
    error = _errors(found[judged], expected[judged])
    rmse, reference_rms = _root_mean_square(error), _root_mean_square(expected[judged])
    return Accuracy(
        rmse=rmse,
        relative_rmse=rmse / reference_rms if reference_rms else None,
        max_abs_error=float(error.max()),
        nonfinite_fraction=nonfinite_fraction,
    )


def _errors(
    found: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    finite = np.isfinite(found)
    return np.abs(np.subtract(found, expected, out=np.full_like(found, np.inf), where=finite))


def _root_mean_square(values: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))
