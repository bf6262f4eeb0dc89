"""Running a sweep: every point once, whatever happens in between."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from accelsim.errors import (
    AccelsimError,
    LostWorkerError,
    ShortageError,
    SweepInterruptedError,
)
from accelsim.runtime.sources import accelsim_digest
from accelsim.runtime.workers import LOST_WORKER, Workers, open_workers
from accelsim.sweeps.contents import ReadContents, load_sweep
from accelsim.sweeps.outcome import (
    SHARE_S,
    Outcome,
    Row,
    RunPoint,
    Share,
    run_share,
    unfinished,
)
from accelsim.sweeps.points import Grid, expand
from accelsim.sweeps.questions import question_of
from accelsim.sweeps.resolve import Point, digest
from accelsim.sweeps.spec import SweepSpec
from accelsim.sweeps.store import Store
from accelsim.sweeps.table import CSV_NAME, PARQUET_NAME, export, to_frame

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int], None]
"""(finished points, all points), called when the sweep starts and after every point."""

_POLL_S = 0.2
_MOST_IN_SHARE = 64
"""Points that a worker gets at once, if they are short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What a sweep left in its folder."""

    folder: Path
    """Holds results.sqlite, results.csv and results.parquet."""
    num_points: int
    """Designs of the sweep."""
    num_excluded: int
    """Designs that a constraint left out."""
    num_run: int
    """Points run now; the others were in the folder already or came from another sweep."""
    num_by_status: dict[str, int]
    """Points of the sweep that are ok, infeasible or failed."""
    num_set_aside: int
    """Results that the folder keeps and the table does not show: other code made them, or files
    that have changed since."""
    free_keys: tuple[str, ...]
    """Swept fields of the machine that leave its area as it is, so that their best value wins."""
    rows: list[dict[str, object]]
    """One row per point of the folder that is as good as new."""

    @property
    def csv(self) -> Path:
        """The saved table as text."""
        return self.folder / CSV_NAME

    @property
    def parquet(self) -> Path:
        """The saved table with exact numbers and types."""
        return self.folder / PARQUET_NAME

    def to_frame(self) -> "pd.DataFrame":
        """Return the table of the folder."""
        return to_frame(self.rows)


def sweep(
    spec: SweepSpec | str | Path,
    out: str | Path,
    executor: str = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    *,
    run_point: RunPoint | None = None,
    read: ReadContents | None = None,
) -> SweepResult:
    """Run the points of `spec` that `out` does not hold yet, and write its table.

    `executor` is `local` (processes of this machine, all cores unless `workers` says how many) or
    `dask` (the scheduler at `address`, or a cluster on this machine). A point that fails is a row
    with its reason. Interrupted or killed, the sweep goes on where it was when called again; to
    run points again, use another folder. Several sweeps may share one.

    Raises ConfigError and UnknownNameError for a mistake in the sweep, OutputError for a folder of
    no use or a full disk, WorkersError for workers that cannot be had, LostWorkerError for those
    that are lost, ShortageError if this computer lacked what some points need,
    SweepInterruptedError on Ctrl-C. After all of these, what is finished is kept.
    """
    folder = Path(out)
    design_space = spec if isinstance(spec, SweepSpec) else load_sweep(spec)
    file = None if isinstance(spec, SweepSpec) else Path(spec)
    question = question_of(design_space, file)
    run_point, read = run_point or question.run_point, read or question.read
    # Workers load the simulator while the grid is expanded.
    with (
        loss_of_workers_told(),
        open_workers(executor, workers, address) as pool,
        Store(folder) as store,
    ):
        grid = _grid(design_space, read, file)
        run_point = sampled(run_point, design_space)
        run = PointRun(grid.points, store, pool, run_point, progress or (lambda done, total: None))
        try:
            run.finish_all()
        except KeyboardInterrupt:
            export(_rows(grid, store), folder)
            raise _interrupted(run, folder) from None
        result = _result(grid, store, run.num_run, folder)
        export(result.rows, folder)
        if run.lacking:
            raise _lacking(run, folder)
        return result


@contextmanager
def loss_of_workers_told() -> Iterator[None]:
    """Say of a lost worker what that means for the points, and what to do."""
    try:
        yield
    except LostWorkerError as error:
        text = f"{error}; finished points are kept, run the sweep again"
        raise LostWorkerError(text) from error


def sampled(run_point: RunPoint, spec: SweepSpec) -> RunPoint:
    """Return `run_point`, which schedules as much of a program as the sweep says."""
    own: Callable[..., Row] = run_point
    return run_point if spec.sample == "never" else partial(own, sample=spec.sample)


def version_of(spec: SweepSpec) -> str:
    """Return the digest of the code; what is sampled otherwise is another result of a design."""
    version = accelsim_digest()
    return version if spec.sample == "never" else digest([version, spec.sample])


def _grid(spec: SweepSpec, read: ReadContents, file: Path | None) -> Grid:
    """Return the points; what is wrong with them is told of the file that the sweep is from."""
    version = version_of(spec)
    if file is None:
        return expand(spec, read, version)
    try:
        return expand(spec, read, version, file.parent)
    except AccelsimError as error:
        raise error.at(file) from None


def _interrupted(run: "PointRun", folder: Path) -> SweepInterruptedError:
    return SweepInterruptedError(
        f"interrupted: {run.num_done} of {run.num_points} points are finished and kept in "
        f"{folder}; run the same command again to do the rest"
    )


def _lacking(run: "PointRun", folder: Path) -> ShortageError:
    return ShortageError(
        f"{len(run.lacking)} of {run.num_points} points are not finished, for what this computer "
        f"lacks: {next(iter(run.lacking.values()))}\n"
        f"the others are kept in {folder}; run the same command again to do the rest"
    )


def _rows(grid: Grid, store: Store) -> list[dict[str, object]]:
    """Return the rows that are as good as new: made by code that this process would run."""
    versions = {grid.version, *(point.version for point in grid.points)}
    return store.rows(versions, grid.points)


def _result(grid: Grid, store: Store, num_run: int, folder: Path) -> SweepResult:
    rows = _rows(grid, store)
    ids = {point.id for point in grid.points}
    return SweepResult(
        folder=folder,
        num_points=len(ids),
        num_excluded=grid.num_excluded,
        num_run=num_run,
        num_by_status=dict(Counter(str(row["status"]) for row in rows if row["point"] in ids)),
        num_set_aside=len(store.finished()) - len(rows),
        free_keys=grid.free_keys,
        rows=rows,
    )


class PointRun:
    """Brings the points that are not finished to the workers, and their outcomes to the store."""

    def __init__(
        self,
        points: Sequence[Point],
        store: Store,
        workers: Workers,
        run_point: RunPoint,
        progress: Progress,
        first_position: int = 0,
    ) -> None:
        """first_position: of the first point among the rows of the store."""
        numbered = enumerate(points, first_position)
        self._positions = {point.id: position for position, point in numbered}
        self._points, self._store, self._workers = points, store, workers
        self._run_point, self._progress = run_point, progress
        self._running: dict[Future[Share], list[Point]] = {}
        self._share_points = 1
        self.num_points, self.num_done, self.num_run = len(points), 0, 0
        self.lacking: dict[str, str] = {}
        """Ids of the points that could not be run here, and why; they are tried again next time."""

    def finish_all(self) -> None:
        """Return when every point is in the store, run here or by another sweep, or lacking."""
        self._store.free_abandoned_claims()
        while waiting := self._unfinished():
            if not self._run_unclaimed(waiting):
                # What is left belongs to other sweeps, which may still be killed.
                time.sleep(_POLL_S)
                self._store.free_abandoned_claims()

    def _unfinished(self) -> list[Point]:
        finished = self._store.finished()
        waiting = [point for point in self._points if point.id not in finished]
        self.num_done = self.num_points - len(waiting)
        self._progress(self.num_done, self.num_points)
        return [point for point in waiting if point.id not in self.lacking]

    def _run_unclaimed(self, points: list[Point]) -> int:
        """Run what no other sweep has claimed; returns how many points that was."""
        before, waiting = self.num_run, deque(points)
        self._fill_queue(waiting)
        while self._running:
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                waiting.extendleft(reversed(self._take(self._running.pop(future), future)))
            self._fill_queue(waiting)
        return self.num_run - before

    def _fill_queue(self, waiting: deque[Point]) -> None:
        while waiting and (free := self._workers.queue_length - len(self._running)):
            num_points = min(free * self._share_points, len(waiting))
            batch = [waiting.popleft() for _ in range(num_points)]
            claimed = self._store.claim([point.id for point in batch])
            own = [point for point in batch if point.id in claimed]
            for first in range(0, len(own), self._share_points):
                share = own[first : first + self._share_points]
                future = self._workers.executor.submit(run_share, self._run_point, share)
                self._running[future] = share

    def _take(self, points: list[Point], future: Future[Share]) -> list[Point]:
        """Record what became of a share of the points; return those that were not run."""
        share = _share(points, future)
        ran = list(zip(points, share.outcomes, strict=False))
        self._record([(point, outcome) for point, outcome in ran if outcome.status != "lacking"])
        self.lacking |= {point.id: each.reason for point, each in ran if each.status == "lacking"}
        if share.ended_by is not None:
            raise share.ended_by
        point_s = max(share.seconds / len(ran), SHARE_S / _MOST_IN_SHARE)
        self._share_points = max(int(SHARE_S / point_s), 1)
        left = points[len(ran) :]
        if left:
            # Another sweep may take them before this one comes to them.
            self._store.release([point.id for point in left])
        return left

    def _record(self, finished: list[tuple[Point, Outcome]]) -> None:
        if not finished:
            return
        positions = self._positions
        self._store.record([(point, positions[point.id], each) for point, each in finished])
        for _ in finished:
            self.num_run += 1
            self.num_done += 1
            self._progress(self.num_done, self.num_points)


def _share(points: Sequence[Point], future: Future[Share]) -> Share:
    try:
        return future.result()
    except LOST_WORKER:
        raise
    except Exception as error:
        return Share([unfinished(point, error) for point in points], 0.0)
