"""Errors of the integer schemes on channels with outliers, against figures of one draw.

The figures were computed once, independently, for one draw of the family: 1,024 x 512 activations
with six channels 60 times as large and an offset for each channel, weights of 256 columns. So each
is one more sample of what the kernels give over seeds, and has to lie in the interval that a next
sample falls into with a probability of 99 %: mean +- t s sqrt(1 + 1 / n), Student's t with n - 1
degrees of freedom.
"""

import numpy as np
import pytest

from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from tests.oracle.linear_statements import linear
from tests.oracle.recorded import run

MACHINE = load_machine("tender-asic")
SEEDS = range(8)
STUDENT_T = 3.499
"""Two-sided 99 % with 7 degrees of freedom."""

FIGURES = {
    ("tensor", 8): 0.103,
    ("row", 8): 0.037,
    ("channel", 8): 0.0105,
    (4, 8): 0.0148,
    (8, 8): 0.0110,
    ("tensor", 4): 0.397,
    ("row", 4): 0.333,
    ("channel", 4): 0.194,
    (4, 4): 0.237,
    (8, 4): 0.199,
}
"""(what shares a scale, or the number of groups; bits) -> relative error of X W."""


def relative_error(scheme, bits, seed):
    problem, tensors = linear(1024, 256, 512, seed, outliers=6, dtype=Format.FP32)
    chosen = {"activation_bits": bits, "weight_bits": bits}
    if isinstance(scheme, int):
        kernel = "tender"
        chosen |= {"groups": scheme, "base": "static", "use_bias": True, "chunk_rows": 256}
    else:
        kernel, chosen["activation_scale"] = "quantized", scheme
    _, output = run(kernel, problem, tensors, machine=MACHINE, **chosen)
    exact = tensors.a.astype(np.float64) @ tensors.b
    return np.linalg.norm(output - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize(("scheme", "bits"), list(FIGURES))
def test_a_figure_is_one_more_sample(scheme, bits):
    errors = [relative_error(scheme, bits, seed) for seed in SEEDS]
    mean, spread = np.mean(errors), np.std(errors, ddof=1)
    noise = STUDENT_T * spread * np.sqrt(1 + 1 / len(errors))
    assert abs(FIGURES[scheme, bits] - mean) <= noise
