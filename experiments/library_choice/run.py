"""Whether a recipe tried by hand beats the library: `python run.py OUT [EVERY]`.

Writes OUT/results.csv: for each machine and operation the cycles of the library's choice, and the
fastest of all recipes by hand. EVERY: only each so-manieth operation, for a quick look. A run that
was stopped goes on where it was.
"""

import csv
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from operations import MACHINES, OPERATIONS, by_hand

from accelsim.bench import Bench
from accelsim.errors import DoesNotFitError
from accelsim.library.recipe import Recipe
from accelsim.loading import load_machine
from accelsim.workload.problem import Problem

Job = tuple[str, str, Problem]
COLUMNS = (
    "machine",
    "kind",
    "operation",
    "library",
    "cycles",
    "by_hand",
    "by_hand_cycles",
    "tried",
)


def jobs(every: int) -> Iterator[Job]:
    """Yield machine, kind and operation."""
    for kind, operations in OPERATIONS.items():
        for problem in islice(operations(), 0, None, every):
            for machine in MACHINES:
                yield machine, kind, problem


def cycles_of(machine: str, recipe: Recipe | None, problem: Problem) -> tuple[int, str] | None:
    """Return cycles and the whole recipe; None where it does not fit."""
    try:
        report, _ = Bench(load_machine(machine), recipe).execute(problem)
    except DoesNotFitError:
        return None
    return report.cycles, report.recipe


def compare(job: Job) -> dict[str, Any]:
    """Return the row of one operation."""
    machine, kind, problem = job
    chosen = cycles_of(machine, None, problem)
    if chosen is None:
        raise ValueError(f"the library has nothing for {problem.name} on {machine}")
    tried = [cycles_of(machine, recipe, problem) for recipe in by_hand(problem)]
    cycles, recipe = min(each for each in tried if each is not None)
    values = (machine, kind, _label(problem), chosen[1], chosen[0], recipe, cycles, len(tried))
    return dict(zip(COLUMNS, values, strict=True))


def _label(problem: Problem) -> str:
    return problem.name + (", causal" if getattr(problem, "causal", False) else "")


def main(out: Path, every: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.csv"
    done = set()
    if path.exists():
        with path.open(newline="") as file:
            done = {(row["machine"], row["operation"]) for row in csv.DictReader(file)}
    waiting = [job for job in jobs(every) if (job[0], _label(job[2])) not in done]
    with path.open("a", newline="") as file, ProcessPoolExecutor() as pool:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not done:
            writer.writeheader()
        for row in pool.map(compare, waiting):
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
