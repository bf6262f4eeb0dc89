"""Exploring a design space: ask for a batch of designs, run it, tell what became of it, again."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.errors import AccelsimError, ConfigError, ShortageError, SweepInterruptedError
from accelsim.exploring.asker import Asker
from accelsim.exploring.findings import Judge, best_of, comparable, costs_of
from accelsim.exploring.hypervolume import share_of_front
from accelsim.exploring.importance import importance_of_axes
from accelsim.exploring.space import DesignSpace, Indices
from accelsim.exploring.spec import ExploreSpec, load_exploration
from accelsim.runtime.workers import Workers, open_workers
from accelsim.sweeps.contents import ReadContents
from accelsim.sweeps.outcome import RunPoint
from accelsim.sweeps.questions import question_of
from accelsim.sweeps.resolve import Point
from accelsim.sweeps.run import PointRun, Progress, loss_of_workers_told, sampled, version_of
from accelsim.sweeps.store import Store
from accelsim.sweeps.table import export, save_csv, to_frame

if TYPE_CHECKING:
    import pandas as pd

FRONT_NAME = "front.csv"
PROGRESS_NAME = "hypervolume.csv"

_PATIENCE = 20
"""Designs in a row that are known or excluded before one is drawn that is neither."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreResult:
    """What an exploration found and left in its folder."""

    folder: Path
    """Holds results.sqlite, results.csv, results.parquet, front.csv and hypervolume.csv."""
    spec: ExploreSpec
    """What was asked."""
    num_designs: int
    """Designs of the space, those among them that constraints exclude."""
    num_points: int
    """Designs that were looked at."""
    num_excluded: int
    """Designs that were asked for and left out, as a constraint says."""
    num_run: int
    """Points run now; the others were in the folder already or came from another exploration."""
    num_by_status: dict[str, int]
    """Points looked at that are ok, infeasible or failed."""
    axes: tuple[str, ...]
    """Keys of the axes with more than one value; zipped keys joined by ` + `."""
    ended_because: str
    """What ended the exploration."""
    points: list[Row]
    """Rows of the points looked at, in the order in which they were chosen."""
    front: list[Row]
    """Rows that no other row beats, best in the first objective first."""
    hypervolume: list[Row]
    """One row a batch: points looked at, designs on the front, and hypervolume as a share of that
    of the last front."""
    importance: dict[str, float]
    """Axis -> share of how much it decides whether a design is good, the largest first."""

    def to_frame(self) -> "pd.DataFrame":
        """Return the table of the front."""
        return to_frame(self.front)


def explore(
    spec: ExploreSpec | str | Path,
    out: str | Path,
    executor: str = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    *,
    run_point: RunPoint | None = None,
    read: ReadContents | None = None,
) -> ExploreResult:
    """Look for the designs of `spec` that are best, and write what was found to `out`.

    Where and how points run is said as for `sweep`, whose store the folder holds. Killed or
    interrupted, the exploration goes on where it was when called again: it asks for the same
    designs in the same order, and those in the folder are not run again. Raises what `sweep`
    raises, and UnknownNameError for an objective that no row has.
    """
    folder = Path(out)
    space_of = spec if isinstance(spec, ExploreSpec) else load_exploration(spec)
    file = None if isinstance(spec, ExploreSpec) else Path(spec)
    question = question_of(space_of, file)
    version = version_of(space_of)
    space = _space(space_of, read or question.read, version, file)
    asker = Asker(space, space_of)
    point_runner = sampled(run_point or question.run_point, space_of)
    with (
        loss_of_workers_told(),
        open_workers(executor, workers, address) as pool,
        Store(folder) as store,
    ):
        bench = _Bench(store, pool, point_runner, version, progress or (lambda done, total: None))
        exploration = _Exploration(space_of, space, asker, bench)
        try:
            ended_because = exploration.run()
        except KeyboardInterrupt:
            bench.export(folder)
            raise SweepInterruptedError(
                f"interrupted: {len(exploration.rows)} points are finished and kept in {folder}; "
                f"run the same command again to go on"
            ) from None
        bench.export(folder)
        result = exploration.result(folder, ended_because)
    save_csv(result.front, folder / FRONT_NAME)
    save_csv(result.hypervolume, folder / PROGRESS_NAME)
    return result


def _space(spec: ExploreSpec, read: ReadContents, version: str, file: Path | None) -> DesignSpace:
    if file is None:
        return DesignSpace(spec, read, version)
    try:
        return DesignSpace(spec, read, version, file.parent)
    except AccelsimError as error:
        raise error.at(file) from None


class _Bench:
    """Runs points with the workers and the store of a sweep, and remembers all of them."""

    def __init__(
        self,
        store: Store,
        workers: Workers,
        run_point: RunPoint,
        version: str,
        progress: Progress,
    ) -> None:
        self._store, self._workers, self._run_point = store, workers, run_point
        self._version, self._progress = version, progress
        self._points: list[Point] = []
        self.num_run = 0

    def run(self, points: Sequence[Point], total: int) -> dict[str, Row]:
        """Return id -> row of points that are new here; raises ShortageError if any is lacking."""
        before = len(self._points)
        self._points += points
        run = PointRun(
            points,
            self._store,
            self._workers,
            self._run_point,
            lambda done, _: self._progress(before + done, total),
            first_position=before,
        )
        run.finish_all()
        self.num_run += run.num_run
        if run.lacking:
            raise ShortageError(
                f"{len(run.lacking)} points are not finished, for what this computer lacks: "
                f"{next(iter(run.lacking.values()))}\n"
                "the others are kept; run the same command again to go on"
            )
        return {point.id: self._store.row(point.id) for point in points}

    def export(self, folder: Path) -> None:
        """Write the table of the folder: the rows that are as good as new."""
        versions = {self._version, *(point.version for point in self._points)}
        export(self._store.rows(versions, self._points), folder)


class _Exploration:
    """One search: what was asked for, what became of it, and what is best so far."""

    def __init__(self, spec: ExploreSpec, space: DesignSpace, asker: Asker, bench: _Bench) -> None:
        self._spec, self._space, self._asker, self._bench = spec, space, asker, bench
        self._judge = Judge(spec)
        self._excluded: dict[Indices, tuple[str, ...]] = {}
        self._ends: list[int] = []
        """Points looked at after each batch."""
        self._indices: dict[str, Indices] = {}
        self.rows: dict[str, Row] = {}
        """Id -> row of the points looked at."""

    def run(self) -> str:
        """Look for designs until something ends it; return what that was."""
        began, num_still, best = time.monotonic(), 0, set[tuple[float, ...]]()
        budget = self._spec.budget
        while True:
            if budget.points is not None and len(self.rows) >= budget.points:
                return f"the budget of {budget.points} points is used up"
            if budget.time is not None and self.rows and time.monotonic() - began >= budget.time:
                return f"the budget of {budget.time:g} s is used up"
            if self._spec.stop_after is not None and num_still >= self._spec.stop_after:
                return f"the front did not change in {num_still} batches"
            if not self._run_batch():
                return "no other design is left"
            found = self._best_costs()
            num_still = num_still + 1 if found == best else 0
            best = found

    def _run_batch(self) -> bool:
        """Choose, run and tell a batch; return whether there was any new design."""
        points, asked = self._choose()
        rows = self._bench.run(list(points.values()), self._total()) if points else {}
        self._judge.check(rows.values())
        self.rows |= {id_: rows[id_] for id_ in points}
        for trial, id_ in asked:
            self._tell(trial, self.rows[id_])
        if points:
            self._ends.append(len(self.rows))
        elif not self.rows:
            raise self._contradiction()
        return bool(points)

    def _choose(self) -> tuple[dict[str, Point], list[tuple[Any, str]]]:
        """Return the points of a batch, and the trials that wait for them with their ids."""
        points: dict[str, Point] = {}
        asked: list[tuple[Any, str]] = []
        num_in_vain = 0
        while len(points) < self._room():
            is_stuck = num_in_vain >= _PATIENCE
            found = self._asker.ask_another(self._is_allowed) if is_stuck else self._asker.ask()
            if found is None:
                break
            trial, indices = found
            design = self._space.resolve(indices)
            point = design.point
            is_new = self._is_allowed(indices) and point.id not in self.rows
            num_in_vain = 0 if is_new and point.id not in points else num_in_vain + 1
            if is_new:
                points.setdefault(point.id, point)
                self._indices.setdefault(point.id, indices)
                asked.append((trial, point.id))
            elif point.id in self.rows:
                self._tell(trial, self.rows[point.id])
            else:
                broken = len(self._excluded[indices])
                self._asker.tell(trial, self._judge.told(None), float(broken))
        return points, asked

    def _is_allowed(self, indices: Indices) -> bool:
        if indices in self._excluded:
            return False
        broken = self._space.broken(self._space.resolve(indices))
        if broken:
            self._excluded[indices] = broken
        return not broken

    def _room(self) -> int:
        left = (self._spec.budget.points or self._spec.batch + len(self.rows)) - len(self.rows)
        return min(self._spec.batch, left)

    def _total(self) -> int:
        return min(self._spec.budget.points or self._space.num_designs, self._space.num_designs)

    def _tell(self, trial: Any, row: Mapping[str, Any]) -> None:
        self._asker.tell(trial, self._judge.told(row), self._judge.violation(row))

    def _best_costs(self) -> set[tuple[float, ...]]:
        best = best_of(comparable(self.rows.values(), self._judge), self._judge)
        return {tuple(self._judge.costs(row) or ()) for row in best}

    def _contradiction(self) -> ConfigError:
        often = Counter(text for broken in self._excluded.values() for text in broken)
        text, count = often.most_common(1)[0]
        return ConfigError(
            [
                f"exploration '{self._spec.name}': found no design that meets all constraints, "
                f"allowed: some; of {len(self._excluded)} designs {count} break '{text}'"
            ]
        )

    def result(self, folder: Path, ended_because: str) -> ExploreResult:
        """Return what was found."""
        rows = list(self.rows.values())
        return ExploreResult(
            folder=folder,
            spec=self._spec,
            num_designs=self._space.num_designs,
            num_points=len(rows),
            num_excluded=len(self._excluded),
            num_run=self._bench.num_run,
            num_by_status=dict(Counter(str(row["status"]) for row in rows)),
            axes=self._space.names,
            ended_because=ended_because,
            points=rows,
            front=[dict(row) for row in best_of(comparable(rows, self._judge), self._judge)],
            hypervolume=hypervolume_history(rows, self._ends, self._judge),
            importance=self._importance(),
        )

    def _importance(self) -> dict[str, float]:
        counted = comparable(self.rows.values(), self._judge)
        designs = [self._indices[str(row["point"])] for row in counted]
        return importance_of_axes(designs, costs_of(counted, self._judge), self._space)


def hypervolume_history(rows: Sequence[Row], ends: Sequence[int], judge: Judge) -> list[Row]:
    """Return one row for each of `ends`: what the first so many rows have of the last front."""
    best = best_of(comparable(rows, judge), judge)
    if not best:
        return [{"points": end, "front": 0, "hypervolume_share": 0.0} for end in ends]
    last, history = costs_of(best, judge), []
    for end in ends:
        known = comparable(rows[:end], judge)
        front = best_of(known, judge)
        share = share_of_front(costs_of(front, judge), last) if front else 0.0
        history.append({"points": end, "front": len(front), "hypervolume_share": share})
    return history
