"""Running one point so that whatever happens becomes a row."""

import json
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from accelsim.errors import (
    AccelsimError,
    AccelsimWarning,
    OutputError,
    ShortageError,
    WorkersError,
)
from accelsim.sweeps.resolve import Point, Settings

Row = dict[str, Any]
"""Column -> a value that JSON can hold."""

RunPoint = Callable[[str, str, str, Settings], Row]
"""(machine, workload, recipe, settings) -> row; a function of a module, so that it pickles.

The recipe is text; settings that begin with neither `machine.` nor `workload.` are parameters of
the kernel."""

SHARE_S = 0.02
"""Seconds of work from which on a worker tells what became of its points: most points take as
long. What is not told is run again after a kill."""
_DEEPEST_FRAMES = 3
_LACKS = (ShortageError, OutputError, WorkersError)
_RAW_LACKS = (MemoryError, OSError, ImportError)
"""What is raised for want of something that is not in the point: memory, disk, files, packages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one point."""

    status: Literal["ok", "infeasible", "failed", "lacking"]
    """`infeasible`: the design cannot run; `failed`: accelsim has a defect; `lacking`: the
    computer had too little of something, which is never kept."""
    reason: str = ""
    """Why there is no result."""
    row: Row = field(default_factory=dict)
    """Columns of the point, and of its result if there is one."""


def simulate_point(
    machine: str, workload: str, kernel: str, settings: Settings, sample: str | float = "never"
) -> Row:
    """Return the row of the report of one simulation; what it would warn of is in its columns."""
    from accelsim.library.recipe import asked_for
    from accelsim.simulation import simulate

    parameters = {key: value for key, value in settings.items() if "." not in key}
    others = {key: value for key, value in settings.items() if "." in key}
    asked = asked_for(kernel)
    recipe = asked.updated(parameters) if asked else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccelsimWarning)
        row: Row = simulate(machine, workload, recipe, others, sample=sample).to_row()
    return {**row, "kernel": kernel}


def run_safely(run_point: RunPoint, point: Point) -> Outcome:
    """Return what became of `point`; NumPy numbers become plain ones."""
    if point.infeasible_because:
        return Outcome(status="infeasible", reason=point.infeasible_because, row=point.columns)
    try:
        row = run_point(point.machine, point.workload, point.kernel, point.settings)
        row = json.loads(json.dumps(row, default=_plain))
    except Exception as error:
        return unfinished(point, error)
    return Outcome(status="ok", row=point.columns | row)


class Share(NamedTuple):
    """What became of the first points of a share of the work."""

    outcomes: list[Outcome]
    """At least one, unless `ended_by` says why not."""
    seconds: float
    """What they took."""
    ended_by: BaseException | None = None
    """What is no outcome, such as Ctrl-C, and came after them."""


def run_share(run_point: RunPoint, points: Sequence[Point]) -> Share:
    """Run points one after the other until `SHARE_S` are over."""
    began, outcomes = time.perf_counter(), list[Outcome]()
    for point in points:
        try:
            outcomes.append(run_safely(run_point, point))
        except BaseException as error:
            return Share(outcomes, time.perf_counter() - began, error)
        if time.perf_counter() - began >= SHARE_S:
            break
    return Share(outcomes, time.perf_counter() - began)


def unfinished(point: Point, error: Exception) -> Outcome:
    """Return what an error says of a point: of the design only what follows from the design."""
    if isinstance(error, _LACKS):
        return Outcome(status="lacking", reason=str(error), row=point.columns)
    if isinstance(error, _RAW_LACKS):
        return Outcome(status="lacking", reason=describe(error), row=point.columns)
    if isinstance(error, AccelsimError):
        return Outcome(status="infeasible", reason=str(error), row=point.columns)
    return Outcome(status="failed", reason=describe(error), row=point.columns)


def _plain(number: Any) -> Any:
    return number.item()


def describe(error: BaseException) -> str:
    """Return one line: the type, the message and the innermost places of the traceback."""
    frames = traceback.extract_tb(error.__traceback__)[-_DEEPEST_FRAMES:]
    places = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
    text = f"{type(error).__name__}: {error}"
    return f"{text} (at {' < '.join(reversed(places))})" if places else text
