"""The same question of operations drawn at random, and whether a better machine is ever slower.

    python drawn.py hand KIND SEED COUNT OUT.jsonl      # recipes by hand against the library
    python drawn.py better KIND SEED COUNT OUT.jsonl    # a machine against one with less of a thing
    python drawn.py summary OUT.jsonl...

KIND: masked (prompts of 150 to 256 tokens under a causal mask), prompt, decode, gemm or experts.
Each row has the cycles with the tiles of the best estimate too, so it shows what trials change.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from operations import MACHINES, by_hand

from accelsim.bench import Bench
from accelsim.engine.window import schedule
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.library.recipe import Recipe
from accelsim.loading import load_machine
from accelsim.workload.problem import AttentionProblem, GemmProblem, GroupedGemmProblem, Problem

HEADS = ((1, 1), (2, 2), (4, 1), (4, 4), (8, 8), (8, 2), (9, 3), (16, 4), (28, 4), (32, 8))
BETTER = {
    "scratchpad.capacity": ("256 KiB", "704 KiB"),
    "cores": (12, 24),
    "hbm.bandwidth": ("400 GB/s", "1.6 TB/s"),
    "load.bandwidth": ("55 B/cycle", "110 B/cycle"),
    "l2.bandwidth": ("2.4 TB/s", "4.752 TB/s"),
}
"""Fields of a machine -> less and more of it."""
MOST_PRODUCTS = 60
"""Recipes of a product that are tried, drawn from the grid."""
LIMITS = {"hand": 0.05, "better": 0.02}


def drawn(kind: str, number: np.random.Generator) -> Problem:
    """Return an operation."""
    if kind == "gemm":
        m, (n, k) = _between(number, 1, 2048), 16 * number.integers(4, 300, 2)
        return GemmProblem(kind="gemm", name="drawn", m=m, n=int(n), k=int(k))
    if kind == "experts":
        return _experts(number)
    q_heads, kv_heads = HEADS[number.integers(len(HEADS))]
    sizes = {"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": int(number.choice([64, 128]))}
    if kind == "decode":
        own = {"q_len": 1, "kv_len": _between(number, 64, 16384)}
        own["batch"] = int(number.choice([1, 1, 2, 4, 16]))
    else:
        is_masked = kind == "masked"
        length = int(number.integers(150, 257)) if is_masked else _between(number, 16, 1500)
        own = {"q_len": length, "kv_len": length, "causal": is_masked or bool(number.integers(2))}
    known = {"kind": "attention", "name": "drawn", **sizes, **own}
    return AttentionProblem.model_validate(known)


def _experts(number: np.random.Generator) -> GroupedGemmProblem:
    count, mean = int(number.integers(2, 17)), _between(number, 2, 300)
    rows = number.poisson(mean * count * number.dirichlet(np.full(count, 3.0)))
    n, k = 64 * number.integers(2, 33, 2)
    own = {"rows": tuple(map(int, rows)) if rows.any() else (1,) * count, "n": int(n), "k": int(k)}
    return GroupedGemmProblem.model_validate({"kind": "grouped_gemm", "name": "drawn", **own})


def _between(number: np.random.Generator, few: int, many: int) -> int:
    return int(np.exp(number.uniform(np.log(few), np.log(many))))


def recipes(problem: Problem, number: np.random.Generator) -> Iterator[Recipe]:
    """Yield what somebody would try by hand."""
    if isinstance(problem, GroupedGemmProblem):
        for tile_m in (16, 32, 64, 128, 256):
            for tile_n in (64, 128, 256):
                for tile_k in (64, 128, 256):
                    tiles = {"tile_m": tile_m, "tile_n": tile_n, "tile_k": tile_k}
                    yield Recipe("grouped_gemm", **tiles, stages=2)
    elif isinstance(problem, GemmProblem):
        found = list(by_hand(problem))
        own = number.permutation(len(found))[:MOST_PRODUCTS]
        yield from (found[each] for each in own)
    else:
        yield from by_hand(problem)


def cycles_of(machine: MachineSpec, recipe: Recipe | None, problem: Problem) -> int | None:
    """Return the cycles of a recipe, or of the library's choice; None where it does not fit."""
    try:
        return Bench(machine, recipe).execute(problem)[0].cycles
    except DoesNotFitError:
        return None


def by_estimate(machine: MachineSpec, problem: Problem) -> int:
    """Return the cycles with the tiles of the best estimate."""
    recipe = Bench(machine).recipe_for(problem)
    program, _ = recipe.algorithm.record(problem, machine, recipe.parameters(), None)
    return schedule(program, machine).cycles


def against_hand(problem: Problem, place: int, number: np.random.Generator) -> dict[str, Any]:
    """Return what the library and the hand need on one of the machines."""
    name = MACHINES[place % len(MACHINES)]
    machine = load_machine(name)
    tried = [(cycles_of(machine, each, problem), str(each)) for each in recipes(problem, number)]
    cycles, recipe = min(each for each in tried if each[0] is not None)
    own = {"cycles": cycles_of(machine, None, problem), "estimate": by_estimate(machine, problem)}
    return {"where": name, **own, "limit": cycles, "by": recipe}


def against_less(problem: Problem, place: int, _number: np.random.Generator) -> dict[str, Any]:
    """Return what the library needs on a machine, and on one with less of something."""
    fields = list(BETTER)
    name = MACHINES[place % len(MACHINES)]
    field = fields[place // len(MACHINES) % len(fields)]
    if (field, name) == ("l2.bandwidth", MACHINES[1]):
        field = "cores"
    if (field, name) == ("hbm.bandwidth", MACHINES[2]):
        field = "load.bandwidth"
    worse, better = (load_machine(name, {field: value}) for value in BETTER[field])
    less, more = cycles_of(worse, None, problem), cycles_of(better, None, problem)
    estimates = {"estimate": by_estimate(better, problem), "worse": by_estimate(worse, problem)}
    return {"where": f"{name}, {field}", "cycles": more, "limit": less, **estimates}


def main(way: str, kind: str, seed: int, count: int, out: Path) -> None:
    number = np.random.default_rng(seed)
    compare = {"hand": against_hand, "better": against_less}[way]
    for place in range(count):
        problem = drawn(kind, number)
        row = {"way": way, "kind": kind, "seed": seed, "place": place}
        row |= compare(problem, place, number)
        row["problem"] = problem.model_dump(mode="json", exclude_defaults=True)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def summary(paths: list[Path]) -> None:
    """Print for each way and kind how many are beyond the limit, with trials and without."""
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    for way, kind in dict.fromkeys((row["way"], row["kind"]) for row in rows):
        own = [row for row in rows if (row["way"], row["kind"]) == (way, kind)]
        for what, less in (("cycles", "limit"), ("estimate", "worse")):
            # Against the hand, lost is what the hand saves; of machines, by what more is slower.
            lost = [_lost(way, row[what], row.get(less, row["limit"])) for row in own]
            over = sum(each > LIMITS[way] for each in lost)
            mean = sum(max(each, 0) for each in lost) / len(lost)
            name = {"cycles": "with trials", "estimate": "estimate alone"}[what]
            print(f"{way} {kind}, {name}: {over} of {len(own)} over {LIMITS[way]:.0%}", end=", ")
            print(f"most {max(lost):.1%}, mean {mean:.2%}")


def _lost(way: str, cycles: int, limit: int) -> float:
    return 1 - limit / cycles if way == "hand" else cycles / limit - 1


if __name__ == "__main__":
    if sys.argv[1] == "summary":
        summary([Path(each) for each in sys.argv[2:]])
    else:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
