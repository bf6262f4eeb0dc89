"""Run attention that takes means off K on the random families of PASA, and save a table of errors.

Usage: python run.py OUT [--heads N]. A script, not a sweep: it keeps the errors of outputs and runs
no schedule.
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

MEANS, AMPLITUDES = (0, 10, 20, 30), (5, 20)
TOKENS, HEAD_DIM, SEED = 1280 + 127, 128, 2024724
ARRAY = {
    "rows": 64,
    "cols": 64,
    "formats": ["int4", "int8"],
    "accumulator_bits": 32,
    "overflow": "wrap",
    "can_shift": True,
    "pipeline_depth_cycles": 2,
    "index_buffer": "64 KiB",
}
HARDWARE = {"int_mac": ARRAY, "cube.rates.fp8_e4m3": 2}
"""What ascend-910b lacks: an array for int_flash, and products of FP8."""

VARIANTS = {
    "flash fp32_scores": Recipe("flash", precision="fp32_scores"),
    "flash fp16_fp32": Recipe("flash", precision="fp16_fp32"),
    "pasa": Recipe("pasa"),
    "pasa fp32 statistics": Recipe("pasa", statistics="fp32"),
    "centered": Recipe("centered"),
    "int_flash": Recipe("int_flash"),
    "sage, not smoothed": Recipe("sage", smoothing="none"),
    "sage": Recipe("sage"),
    "sage thread": Recipe("sage", granularity="thread"),
    "sage thread fp8": Recipe("sage", granularity="thread", pv="fp8"),
    "sage thread int4": Recipe("sage", granularity="thread", qk="int4"),
}


def family(source: str, mean: float, amplitude: float, heads: int) -> AttentionProblem:
    """Return one member of a family; heads: of queries, which share one KV head."""
    return AttentionProblem(
        kind="attention",
        name=f"{source} {mean} {amplitude}",
        q_heads=heads,
        kv_heads=1,
        head_dim=HEAD_DIM,
        q_len=TOKENS,
        kv_len=TOKENS,
        tensors={"source": source, "mean": mean, "amplitude": amplitude, "seed": SEED},
    )


def rows_of(problem: AttentionProblem) -> list[dict[str, object]]:
    """Return a row for each variant."""
    machine = load_machine("ascend-910b", HARDWARE, needs_costs=False)
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
    parser.add_argument("--heads", type=int, default=1)
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
