"""Whether a recipe tried by hand beats the library: `python run.py OUT [EVERY]`.

Writes OUT/results.csv: for each machine and operation the cycles of the library's choice, and the
fastest of all recipes by hand. EVERY: only each so-manieth operation, for a quick look. A run that
was stopped goes on where it was. What is quick to try comes first.

    python run.py again OUT      # after a change of the library: only its choices are run anew
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
from accelsim.workload.problem import GemmProblem, Problem, VectorProblem

Job = tuple[str, str, Problem]
ELEMENTS_OF_A_TILE = 128
"""Of a product along k, that are one step as a key of a query is."""
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


def work(job: Job) -> float:
    """Return about how much is to be simulated for all recipes by hand."""
    problem = job[2]
    if isinstance(problem, GemmProblem):
        return problem.m * problem.n * problem.k / ELEMENTS_OF_A_TILE
    if isinstance(problem, VectorProblem):
        return problem.rows * problem.cols
    return problem.batch * problem.q_heads * problem.q_len * problem.kv_len


def again(out: Path) -> None:
    """Run the library's choice of each row anew; what the hand needs stays."""
    path = out / "results.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = {(job[0], _label(job[2])): job[2] for job in jobs(1)}
    for row in rows:
        found = cycles_of(row["machine"], None, known[row["machine"], row["operation"]])
        if found is None:
            raise ValueError(f"the library has nothing for {row['operation']}")
        row["cycles"], row["library"] = found
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(out: Path, every: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.csv"
    done = set()
    if path.exists():
        with path.open(newline="") as file:
            done = {(row["machine"], row["operation"]) for row in csv.DictReader(file)}
    waiting = [job for job in jobs(every) if (job[0], _label(job[2])) not in done]
    waiting.sort(key=work)
    with path.open("a", newline="") as file, ProcessPoolExecutor() as pool:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not done:
            writer.writeheader()
        for row in pool.map(compare, waiting):
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    if sys.argv[1] == "again":
        again(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
