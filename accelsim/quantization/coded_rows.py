"""Rows as the kernel that made them stores them: codes, and scales that it found for each row.

A kernel that has whole rows stores one scale a row. Attention has a row of one head at a time, on
whatever core, so a row of all heads has a scale for every run of channels that is a head. Who
multiplies such a row brings its codes to one scale, that of the run with the largest: each code
times the ratio of both scales, rounded once more. Codes of runs have 8 bits, so that a rounding to
4 bits is the only one of its size.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import QuantizationError
from accelsim.quantization.codes import Codes, Quantized, Scales, Values, largest_code
from accelsim.quantization.row_bases import best_rows

RUN_BITS = 8
"""Bits of a code of rows whose scales are of runs."""


class CodedRows(NamedTuple):
    """Codes, and what one step of them is worth in each run of a row."""

    codes: Codes
    """[rows, channels]"""
    scale: Scales
    """[rows, runs], numbers of FP32; a run is channels / runs channels."""

    @property
    def values(self) -> NDArray[np.float64]:
        """What the codes stand for [rows, channels], channels scaled by their groups."""
        run = self.codes.shape[1] // self.scale.shape[1]
        steps: Scales = np.repeat(self.scale, run, axis=1)
        return self.codes * steps


def coded_rows(scaled: Values, factors: Values, bits: int, candidates: int = 1) -> CodedRows:
    """Return rows [rows, k] as a kernel stores them that has whole rows; factors [k] scaled them.

    Values are those of the vector unit in FP32, not rounded to the format of the HBM.
    """
    return CodedRows(*best_rows(scaled, factors, bits, candidates))


def coded_runs(scaled: Values, run: int) -> CodedRows:
    """Return rows [rows, k] with a scale for each `run` channels, in codes of 8 bits.

    Raises QuantizationError for runs that do not divide the channels.
    """
    rows, k = scaled.shape
    if run < 1 or k % run:
        raise QuantizationError(f"run: found {run} of {k} channels, allowed: a divisor of them")
    ones = np.ones(run, np.float32)
    codes, scale = best_rows(scaled.reshape(-1, run), ones, RUN_BITS, 1)
    return CodedRows(codes.reshape(rows, k), scale.reshape(rows, -1))


def aligned(coded: CodedRows, bits: int) -> Quantized:
    """Return codes of `bits` bits with one scale a row [rows, 1], each step rounded to FP32.

    The step of a row is the largest of its scales, times 127 over the largest code.
    """
    scale, largest = coded.scale.astype(np.float32), largest_code(bits)
    step = scale.max(1, keepdims=True) * np.float32(largest_code(RUN_BITS) / largest)
    ratio = np.repeat(scale / step, coded.codes.shape[1] // scale.shape[1], axis=1)
    codes = np.rint(coded.codes.astype(np.float32) * ratio)
    return Quantized(
        np.clip(codes, -largest - 1, largest).astype(np.int32), step.astype(np.float64)
    )
