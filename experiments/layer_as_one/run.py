"""What it is worth to run a layer as one program: `python run.py OUT`.

Writes OUT/layers.csv, one row for every model, step and machine: a layer part after part, each with
an empty L2 and nothing loaded ahead, and as one program. A run that was stopped goes on.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from accelsim.errors import AccelsimError
from accelsim.loading import LoadedWorkload
from accelsim.models.loading import load_architecture
from accelsim.models.operations.layer import layer_of
from accelsim.models.step import Sequences, Step
from accelsim.simulation import simulate

MODELS = ("qwen3-0.6b", "llama-3-8b")
MACHINES = ("ascend-910b", "ascend-910b-no-l2")
CACHED = 2048
DECODE = (1, 8, 64)
PREFILL = (128, 1024)


class Point(NamedTuple):
    """A row of the table."""

    machine: str
    model: str
    batch: int
    new: int
    cached: int

    @property
    def step(self) -> Step:
        """What the layer computes."""
        return Step((Sequences(self.new, self.cached, self.batch),))


def points() -> Iterator[Point]:
    """Yield decode steps and prompts of every model on every machine."""
    for machine in MACHINES:
        for model in MODELS:
            yield from (Point(machine, model, batch, 1, CACHED) for batch in DECODE)
            yield from (Point(machine, model, 1, new, 0) for new in PREFILL)


def row_of(point: Point) -> dict[str, Any]:
    """Return what both ways take, or why there is only one."""
    layer = LoadedWorkload(layer_of(load_architecture(point.model), point.step), Path())
    row = point._asdict()
    apart = simulate(point.machine, layer)
    row |= {"apart_s": apart.time_s, "apart_hbm_bytes": hbm_bytes(apart)}
    try:
        joined = simulate(point.machine, layer, one_program=True)
    except AccelsimError as error:
        return row | {"reason": str(error)}
    return row | {"one_s": joined.time_s, "one_hbm_bytes": hbm_bytes(joined), "reason": ""}


def hbm_bytes(report: Any) -> int:
    """Return the bytes that a report reads and writes."""
    return int(report.hbm_read_bytes + report.hbm_write_bytes)


def main(out: Path) -> None:
    """Add the rows that the table does not hold yet."""
    out.mkdir(parents=True, exist_ok=True)
    table = out / "layers.csv"
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    done = {tuple(row[name] for name in Point._fields) for row in rows}
    for point in points():
        if tuple(point) not in done:
            rows.append(row_of(point))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(table, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
