"""Time PASA against flash attention over the sequence length, prefill and decode; save a table.

Usage: python run.py OUT. A script, not a sweep: a prefill and a decode step run other recipes.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from accelsim import simulate

MACHINE = "ascend-910b-no-l2"
VENDOR = "flash, fp32 vector path"
"""Stand-in for the vendor kernel: scores leave the cube in FP16, everything after is FP32."""
PREFILL = {
    VENDOR: "flash(precision=fp16_fp32)",
    "flash, all fp16": "flash(precision=fp16)",
    "pasa": "pasa",
    "pasa, fp32 statistics": "pasa(statistics=fp32)",
    "pasa, K' per query tile": "pasa(shift=per_query_tile)",
    "centered": "centered",
}
DECODE = {
    VENDOR: "flash(precision=fp16_fp32)",
    "pasa, K' in the cache": "pasa(shift=cached)",
    "pasa, K' made once": "pasa",
    "pasa, K' per query tile": "pasa(shift=per_query_tile)",
    "centered, K' in the cache": "centered(shift=cached)",
}
Q_HEADS, KV_HEADS, HEAD_DIM = 28, 4, 128
PREFILL_LENGTHS = (1024, 2048, 4096, 8192)
DECODE_LENGTHS = (1024, 4096, 16384)


def points() -> Iterator[tuple[str, int, int, str, str]]:
    """Yield step, query and key lengths, variant, and its recipe."""
    for tokens in PREFILL_LENGTHS:
        yield from (("prefill", tokens, tokens, *each) for each in PREFILL.items())
    for tokens in DECODE_LENGTHS:
        yield from (("decode", 1, tokens, *each) for each in DECODE.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for step, q_len, kv_len, variant, recipe in points():
        sizes = {"q_heads": Q_HEADS, "kv_heads": KV_HEADS, "q_len": q_len, "kv_len": kv_len}
        workload = {f"workload.{name}": size for name, size in sizes.items()}
        report = simulate(MACHINE, "attention-2048", recipe, workload)
        operations = 4 * Q_HEADS * q_len * kv_len * HEAD_DIM  # of both products, as papers count
        labels = {"step": step, "tokens": kv_len, "variant": variant}
        rows.append(labels | {"tflops": operations / report.time_s / 1e12} | report.to_row())
        print(step, kv_len, variant, flush=True)
    pd.DataFrame(rows).to_csv(out / "results.csv", index=False)


if __name__ == "__main__":
    main()
