"""A timeline as Chrome trace JSON, which Perfetto opens.

Format: "Trace Event Format", complete events (`X`), counters (`C`) and metadata (`M`); times are in
microseconds. Every core is a process and every unit a lane of it.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from heapq import heappop, heappush
from itertools import chain
from pathlib import Path

import numpy as np

from accelsim.errors import FILE_ERRORS, OutputError, reason_of
from accelsim.report.timeline import Integers, Timeline

BANDWIDTH_BINS = 1000
MICROSECONDS_PER_S = 1e6
BYTES_PER_GB = 1e9
_LANES_PER_UNIT = 1000

Event = dict[str, object]


def check_place(path: str | Path) -> None:
    """Refuse a path where no trace can be written, before there is one; raises OutputError."""
    target = Path(path)
    # Unlike those of Path, these never raise.
    if os.path.isdir(target):
        raise OutputError(f"{target}: cannot write the trace: Is a directory")
    if not os.path.isdir(target.parent):
        raise OutputError(f"{target}: cannot write the trace: No such file or directory")


def write_trace(timeline: Timeline, path: str | Path) -> None:
    """Write `timeline` to `path`; raise OutputError where that is not possible."""
    target = Path(path)
    check_place(target)
    # A name of its own: with an ending, the longest names would be too long.
    partial = target.with_name(f"trace-{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            about = json.dumps(timeline.about, default=str)
            file.write(f'{{"displayTimeUnit": "ns", "otherData": {about}, "traceEvents": [\n')
            for number, event in enumerate(trace_events(timeline)):
                file.write((",\n" if number else "") + json.dumps(event))
            file.write("\n]}\n")
        partial.replace(target)
    except FILE_ERRORS as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{target}: cannot write the trace: {reason_of(error)}") from error


def trace_events(timeline: Timeline) -> Iterator[Event]:
    """Yield every event of the trace: names of lanes, ops, then counters."""
    lanes = lanes_of(timeline)
    return chain(
        _metadata(timeline, lanes),
        _ops(timeline, lanes),
        _bandwidth(timeline),
        _scratchpad(timeline),
    )


def lanes_of(timeline: Timeline) -> Integers:
    """Return the lane of each op within its unit: 0, or higher where transfers overlap.

    A viewer nests events that overlap within a lane, so the transfers that one queue has in flight
    are laid side by side, each in the lowest lane that is free.
    """
    lanes = np.zeros(len(timeline.core), np.int64)
    order = np.lexsort((timeline.end_cycle, timeline.start_cycle, timeline.unit, timeline.core))
    key = timeline.core * len(timeline.unit_names) + timeline.unit
    current, busy, free = -1, list[tuple[int, int]](), list[int]()
    columns = (key[order], timeline.start_cycle[order], timeline.end_cycle[order])
    for op, unit, start, end in zip(order, *(column.tolist() for column in columns), strict=True):
        if unit != current:
            current, busy, free = unit, [], []
        while busy and busy[0][0] <= start:
            heappush(free, heappop(busy)[1])
        lanes[op] = heappop(free) if free else len(busy)
        heappush(busy, (end, int(lanes[op])))
    return lanes


def _metadata(timeline: Timeline, lanes: Integers) -> Iterator[Event]:
    for core in np.unique(timeline.core).tolist():
        yield _about("process_name", core, 0, {"name": f"core {core}"})
    yield _about("process_name", _hbm_process(timeline), 0, {"name": "HBM"})
    rows = np.unique(np.stack([timeline.core, timeline.unit, lanes]), axis=1).T
    for core, unit, lane in rows.tolist():
        thread = _thread(unit, lane)
        label = timeline.unit_names[unit] + (f" (in flight {lane + 1})" if lane else "")
        yield _about("thread_name", core, thread, {"name": label})
        yield _about("thread_sort_index", core, thread, {"sort_index": thread})


def _about(name: str, process: int, thread: int, args: Event) -> Event:
    return {"ph": "M", "name": name, "pid": process, "tid": thread, "args": args}


def _ops(timeline: Timeline, lanes: Integers) -> Iterator[Event]:
    microseconds = MICROSECONDS_PER_S / timeline.clock_hz
    columns = (
        timeline.core,
        timeline.unit,
        lanes,
        timeline.name_index,
        timeline.start_cycle,
        timeline.end_cycle,
        timeline.moved_bytes,
        timeline.hbm_bytes,
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for core, unit, lane, name, start, end, moved, of_hbm in rows:
        args: Event = {"start_cycle": start, "cycles": end - start}
        if moved:
            args |= {"bytes": moved, "hbm_bytes": of_hbm}
        yield {
            "ph": "X",
            "name": timeline.names[name],
            "pid": core,
            "tid": _thread(unit, lane),
            "ts": start * microseconds,
            "dur": (end - start) * microseconds,
            "args": args,
        }


def _bandwidth(timeline: Timeline) -> Iterator[Event]:
    process = _hbm_process(timeline)
    cycles, rates = timeline.hbm_bytes_per_s(BANDWIDTH_BINS)
    for cycle, rate in zip(cycles.tolist(), rates.tolist(), strict=True):
        yield _counter(timeline, "HBM bandwidth", process, cycle, "GB/s", rate / BYTES_PER_GB)
    yield _counter(timeline, "HBM bandwidth", process, timeline.cycles, "GB/s", 0.0)
    peak = timeline.peak_hbm_bytes_per_s / BYTES_PER_GB
    for cycle in (0, timeline.cycles):
        yield _counter(timeline, "HBM peak bandwidth", process, cycle, "GB/s", peak)


def _scratchpad(timeline: Timeline) -> Iterator[Event]:
    columns = (timeline.scratchpad_core, timeline.scratchpad_cycle, timeline.scratchpad_bytes)
    for core, cycle, used in zip(*(column.tolist() for column in columns), strict=True):
        yield _counter(timeline, "scratchpad use", core, cycle, "bytes", used)


def _counter(
    timeline: Timeline, name: str, process: int, cycle: float, unit: str, value: float
) -> Event:
    time_us = cycle / timeline.clock_hz * MICROSECONDS_PER_S
    return {"ph": "C", "name": name, "pid": process, "ts": time_us, "args": {unit: value}}


def _thread(unit: int, lane: int) -> int:
    return unit * _LANES_PER_UNIT + lane


def _hbm_process(timeline: Timeline) -> int:
    return int(timeline.core.max(initial=-1)) + 1
