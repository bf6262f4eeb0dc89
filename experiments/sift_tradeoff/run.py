"""Run this experiment: `python run.py OUT`; writes OUT/quality.csv and OUT/cost.csv.

quality.csv: a generation over captured heads, sift against what keeps as much in another way, which
a sweep cannot express: the share that top-k may keep is the one that sift kept.
cost.csv: one decode step of a larger model without tensors, against the share of V that is read.
"""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from accelsim import Recipe, load_machine, load_workload, simulate

MACHINE = load_machine("ascend-910b-no-l2")
TOKENS = 1024
GENERATION = {"q_len": 1, "steps": TOKENS}
HEADS = {
    "broad": load_workload("smollm2-real", GENERATION),
    "sink": load_workload("smollm2-real-sink", GENERATION),
}
TAUS = (0.5, 0.75, 0.9, 0.95)
WARMUPS = (64, 128, 256)
PEER_WARMUP = 256
SINKS = 4

STEP = "llama-3-8b/decode-4096/attention-of-steps"
CONTEXT, BATCHES = 8192, (1, 6)
UNIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
RANKINGS = ("radix", "merge", "bitonic")

Row = dict[str, Any]


class Point(NamedTuple):
    """What a generation is compared at."""

    heads: str
    tau: float
    warmup: int


def generation(point: Point, method: str, recipe: Recipe) -> Row:
    report = simulate(MACHINE, HEADS[point.heads], recipe)
    return point._asdict() | {"method": method} | report.to_row()


def quality() -> Iterator[Row]:
    for heads in HEADS:
        yield generation(Point(heads, 0.0, 0), "dense", Recipe("split_kv", splits=1))
        for warmup, tau in product(WARMUPS, TAUS):
            point, law = Point(heads, tau, warmup), {"tau": tau, "warmup": warmup}
            for rule in ("fit", "c_over_t"):
                sift = generation(point, f"sift {rule}", Recipe("sift", rule=rule, **law))
                same = {"kept": sift["statistics.kept_fraction"], "exact_steps": warmup}
                yield sift
                yield generation(point, f"topk as {rule}", Recipe("topk", **same))
            plain = Recipe("sift", renormalize=False, **law)
            yield generation(point, "sift not renormalized", plain)
            if warmup == PEER_WARMUP:
                yield from peers(point)


def peers(point: Point) -> Iterator[Row]:
    """Run what also spares rows of K: pages and windows of about 1 - tau of the keys."""
    mean_keys = (point.warmup + TOKENS) / 2
    window = round((1 - point.tau) * mean_keys) - SINKS
    pages = {"kept": 1 - point.tau, "exact_steps": point.warmup}
    recent = {"window": window, "sinks": SINKS, "exact_steps": point.warmup}
    yield generation(point, "quest", Recipe("quest", **pages))
    yield generation(point, "window", Recipe("window", **recent))


def step(batch: int, method: str, union: float, kernel: str, **parameters: Any) -> Row:
    """Return the row of one decode step whose groups read `union` of the rows of V."""
    workload = load_workload(STEP, {"kv_len": CONTEXT, "batch": batch})
    report = simulate(MACHINE, workload, Recipe(kernel, **parameters))
    return {"batch": batch, "method": method, "union": union} | report.to_row()


def cost() -> Iterator[Row]:
    for batch in BATCHES:
        yield step(batch, "dense", 1.0, "split_kv", splits=1)
        yield step(batch, "split over cores", 1.0, "split_kv")
        for union in UNIONS:
            # Four heads share the rows: each is taken to keep half of what they keep together.
            ranked = {"kept": union / 2, "assumed_union": union}
            yield step(batch, "sift", union, "sift", assumed_union=union)
            for ranking in RANKINGS:
                yield step(batch, f"topk {ranking}", union, "topk", ranking=ranking, **ranked)
            yield step(batch, "quest", union, "quest", **ranked)


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in {"quality": quality, "cost": cost}.items():
        pd.DataFrame(rows()).to_csv(out / f"{name}.csv", index=False)
        print(f"wrote {out / name}.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
