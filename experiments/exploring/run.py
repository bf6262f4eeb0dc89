"""Samplers against the full grid: how much of the front few points find.

    python experiments/exploring/run.py out/exploring

Runs the grid of explore.yaml once, then explorations with every sampler and several seeds into the
same folder, whose points are there already. Writes growth.csv and samplers.csv.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from accelsim.exploring.explore import explore
from accelsim.exploring.findings import Judge, best_of, comparable, costs_of
from accelsim.exploring.hypervolume import share_of_front
from accelsim.exploring.spec import Budget, load_exploration
from accelsim.sweeps.run import sweep
from accelsim.sweeps.spec import SweepSpec

FILE = Path(__file__).with_name("explore.yaml")
SAMPLERS = ("tpe", "nsga2", "nsga3", "quasi_random", "random")
SEEDS = range(5)
SHARE_OF_POINTS = 0.1
ENOUGH = 0.99


def main(out: Path) -> None:
    """Print and write what each sampler finds."""
    spec = load_exploration(FILE)
    judge = Judge(spec)
    grid = sweep(SweepSpec(**spec.model_dump(include=set(SweepSpec.model_fields))), out)
    front = costs_of(best_of(comparable(grid.rows, judge), judge), judge)
    num_points = int(SHARE_OF_POINTS * grid.num_points)
    print(f"grid: {grid.num_points} points, {grid.num_by_status}, {len(front)} on the front")
    rows, curves = [], []
    for sampler in SAMPLERS:
        for seed in SEEDS:
            changes = {
                "sampler": sampler,
                "seed": seed,
                "budget": Budget(points=num_points, time=None),
            }
            found = explore(spec.model_copy(update=changes), out, workers=1)
            shares = growth(found.points, front, judge)
            curve = {"sampler": sampler, "seed": seed, "points": range(1, len(shares) + 1)}
            curves.append(pd.DataFrame({**curve, "hypervolume_share": shares}))
            is_enough = np.flatnonzero(shares >= ENOUGH)
            rows.append(
                {
                    "sampler": sampler,
                    "seed": seed,
                    "hypervolume_share": shares[-1],
                    "points_to_99_percent": is_enough[0] + 1 if len(is_enough) else None,
                }
            )
    pd.concat(curves).to_csv(out / "growth.csv", index=False)
    table = pd.DataFrame(rows)
    table.to_csv(out / "samplers.csv", index=False)
    print(f"with {num_points} points ({SHARE_OF_POINTS:.0%} of the grid), {len(SEEDS)} seeds:")
    print(table.groupby("sampler", sort=False).apply(summary).to_string())


def growth(points: list, front: np.ndarray, judge: Judge) -> np.ndarray:
    """Return the share of the front's hypervolume after each point."""
    shares, known = np.zeros(len(points)), []
    for index, row in enumerate(points):
        if judge.violation(row) == 0.0:
            known = best_of([*known, row], judge)
        shares[index] = share_of_front(costs_of(known, judge), front) if known else 0.0
    return shares


def summary(rows: pd.DataFrame) -> pd.Series:
    """Return what the seeds of one sampler have in common."""
    share, points = rows["hypervolume_share"], rows["points_to_99_percent"]
    return pd.Series(
        {
            "worst share": f"{share.min():.4f}",
            "median share": f"{share.median():.4f}",
            "seeds with 99 %": f"{points.notna().sum()} of {len(rows)}",
            "median points to 99 %": points.median(),
        }
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
