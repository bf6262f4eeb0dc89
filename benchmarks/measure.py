"""Timing: repeats of a call, their median and spread, and the memory a process came to."""

import resource
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter, process_time
from typing import Any

from accelsim.program.shared import PROGRAMS


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One line of the table: the same quantity, measured several times."""

    name: str
    samples: list[float]
    unit: str
    target: str = ""
    """What it is meant to reach; empty where nothing is promised."""

    @property
    def shown(self) -> tuple[str, str]:
        """Median and range as text."""
        low, high = min(self.samples), max(self.samples)
        return f"{statistics.median(self.samples):.3g}", f"{low:.3g} to {high:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for another process."""
        return asdict(self)


def seconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the wall time of each of `repeats` calls, after one that is not counted."""
    call()
    return [seconds_once(call) for _ in range(repeats)]


def seconds_once(call: Callable[[], object]) -> float:
    """Return the wall time of one call, which records anew."""
    PROGRAMS.forget()
    started = perf_counter()
    call()
    return perf_counter() - started


def cpu_seconds_once(call: Callable[[], object]) -> float:
    """Return the CPU time of one call, which records anew; other processes disturb it less."""
    PROGRAMS.forget()
    started = process_time()
    call()
    return process_time() - started


def peak_mb(who: int = resource.RUSAGE_SELF) -> float:
    """Return the largest resident set so far, in MB, of this process or its largest child."""
    return resource.getrusage(who).ru_maxrss * 1024 / 1e6
