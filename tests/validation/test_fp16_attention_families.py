"""Error of FP16 attention on the random families of the PASA paper (arXiv 2503.01873)."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.numerics.metrics import compare
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import load_tensors

FAMILIES = [
    *(("uniform", mean, amplitude) for mean in (10, 20, 30) for amplitude in (5, 20)),
    *(("hybrid", mean, 20) for mean in (10, 20, 30)),
]
"""Families with a mean, for there is nothing to shift without one, and with enough spread that the
queries do not all choose the same key, whose value would be the output whatever the rounding."""

FP16_VARIANTS = {
    "flash": ("flash", {"precision": "fp16"}),
    "flash, scaled query": ("flash", {"precision": "fp16", "scale_at": "query"}),
    "flash, fp32 vector path": ("flash", {"precision": "fp16_fp32", "scale_at": "query"}),
    "pasa, published": ("pasa", {"condition": "published"}),
    "pasa": ("pasa", {}),
    "pasa, larger beta": ("pasa", {"beta": 1 - 2**-6}),
    "pasa, fp32 statistics": ("pasa", {"statistics": "fp32"}),
}


@cache
def inputs(source, mean, amplitude):
    problem = AttentionProblem(
        kind="attention",
        name="family",
        q_heads=4,
        kv_heads=4,
        head_dim=128,
        q_len=64,
        kv_len=640 + 77,
        tensors={"source": source, "mean": mean, "amplitude": amplitude, "seed": 5},
    )
    tensors = load_tensors(problem, Path())
    return problem, tensors, softmax_attention(problem, tensors)


def accuracy(family, kernel, settings):
    problem, tensors, oracle = inputs(*family)
    chosen = get_kernel(kernel)
    machine = load_machine("ascend-910b-no-l2")
    tiles = {"tile_q": 64, "tile_k": 128}
    _, output = chosen.record(problem, machine, chosen.parameters(**tiles, **settings), tensors)
    return compare(output, oracle)


@pytest.mark.parametrize("variant", FP16_VARIANTS)
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_centered_has_a_smaller_error_than_every_fp16_variant(family, variant):
    other = accuracy(family, *FP16_VARIANTS[variant])
    ours = accuracy(family, "centered", {})
    assert ours.nonfinite_fraction == 0
    assert other.nonfinite_fraction == 1 or ours.relative_rmse < other.relative_rmse


@pytest.mark.parametrize("family", [("uniform", 30, 5), ("hybrid", 30, 20)], ids=str)
def test_only_scores_scaled_after_the_product_overflow(family):
    """Scores of 30 x 30 x 128 = 115,200 are beyond FP16, but not once divided by sqrt(128)."""
    assert accuracy(family, "flash", {"precision": "fp16_fp32"}).nonfinite_fraction == 1
    assert accuracy(family, *FP16_VARIANTS["flash, fp32 vector path"]).nonfinite_fraction == 0
    assert accuracy(family, "pasa", {}).nonfinite_fraction == 0


def test_fp32_statistics_are_what_pasa_lacks():
    """The rounding of row means, times beta / (1 - beta), is most of the error of FP16 PASA."""
    errors = {
        statistics: [
            accuracy(family, "pasa", {"statistics": statistics}).relative_rmse
            for family in FAMILIES
        ]
        for statistics in ("fp16", "fp32")
    }
    assert np.all(np.array(errors["fp16"]) > 2 * np.array(errors["fp32"]))
