"""Run every variant on the published random families and save a table of errors.

Usage: python run.py OUT [--heads N]. A script, not a sweep: it keeps
the errors of outputs and runs no schedule.
"""

import argparse
from pathlib import Path

import pandas as pd

from accelsim import Recipe
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.loading import load_machine
from accelsim.numerics.metrics import compare
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import load_tensors

MEANS, AMPLITUDES = (0, 10, 20, 30), (0.5, 5, 10, 20)
KV_HEADS, TOKENS, HEAD_DIM, SEED = 4, 1280 + 127, 128, 2024724
LOW, HIGH = 1 - 2**-4, 1 - 2**-6

VARIANTS = {
    "flash fp32": Recipe("flash", precision="fp32"),
    "flash fp16_fp32": Recipe("flash", precision="fp16_fp32"),
    "flash fp16_fp32, scaled query": Recipe("flash", precision="fp16_fp32", scale_at="query"),
    "flash fp16": Recipe("flash", precision="fp16"),
    "flash fp16, scaled query": Recipe("flash", precision="fp16", scale_at="query"),
    "pasa .9375 published": Recipe("pasa", beta=LOW, condition="published"),
    "pasa .9375": Recipe("pasa", beta=LOW),
    "pasa .9845 published": Recipe("pasa", beta=HIGH, condition="published"),
    "pasa .9845": Recipe("pasa", beta=HIGH),
    "pasa .9375 fp32 statistics": Recipe("pasa", beta=LOW, statistics="fp32"),
    "pasa .9845 fp32 statistics": Recipe("pasa", beta=HIGH, statistics="fp32"),
    "centered": Recipe("centered"),
}


def family(source: str, mean: float, amplitude: float, heads: int) -> AttentionProblem:
    """Return one member of a family; published with 28 query heads."""
    return AttentionProblem(
        kind="attention",
        name=f"{source} {mean} {amplitude}",
        q_heads=heads,
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        q_len=TOKENS,
        kv_len=TOKENS,
        tensors={"source": source, "mean": mean, "amplitude": amplitude, "seed": SEED},
    )


def rows_of(problem: AttentionProblem) -> list[dict[str, object]]:
    """Return a row for each variant."""
    machine = load_machine("ascend-910b")
    tensors = load_tensors(problem, Path())
    oracle = softmax_attention(problem, tensors)
    rows = []
    for variant, recipe in VARIANTS.items():
        _, output = recipe.algorithm.record(problem, machine, recipe.parameters(), tensors)
        accuracy = compare(output, oracle)
        rows.append(
            {
                "source": problem.tensors.source,
                "mean": problem.tensors.mean,
                "amplitude": problem.tensors.amplitude,
                "variant": variant,
                "relative_rmse": accuracy.relative_rmse,
                "nonfinite_fraction": accuracy.nonfinite_fraction,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--heads", type=int, default=2 * KV_HEADS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for source in ("uniform", "hybrid"):
        for mean in MEANS:
            for amplitude in AMPLITUDES:
                problem = family(source, mean, amplitude, arguments.heads)
                print(problem.name, flush=True)
                rows += rows_of(problem)
    pd.DataFrame(rows).to_csv(arguments.out / "results.csv", index=False)


if __name__ == "__main__":
    main()
