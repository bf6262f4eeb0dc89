"""Program and schedule to the timeline that traces and figures show."""

import numpy as np

from accelsim.engine.schedule import Cycles, Schedule
from accelsim.program.ops import UNIT_NAMES, Unit
from accelsim.program.program import OpRecord, Program
from accelsim.report.timeline import Timeline


def build_timeline(schedule: Schedule, clock_hz: float) -> Timeline:
    """Return the timeline of a run; ops are named by what they do and to what."""
    program = schedule.program
    labels = [_label(program, op) for op in program]
    names = sorted(set(labels))
    index_of = {name: index for index, name in enumerate(names)}
    is_memory = program.units >= Unit.LOAD
    core, cycle, used = _scratchpad_use(schedule)
    return Timeline(
        core=schedule.op_core,
        unit=program.units,
        name_index=np.array([index_of[label] for label in labels], np.int64),
        start_cycle=schedule.start,
        end_cycle=np.where(is_memory, schedule.end, schedule.start + schedule.busy),
        hbm_bytes=program.hbm_bytes,
        names=names,
        unit_names=UNIT_NAMES,
        clock_hz=clock_hz,
        scratchpad_core=core,
        scratchpad_cycle=cycle,
        scratchpad_bytes=used,
    )


def _label(program: Program, op: OpRecord) -> str:
    if op.unit in (Unit.LOAD, Unit.STORE):
        return f"{op.op.name.lower()} {program.tensors[op.tensor].name}"
    target = program.slot_name(op.writes[0]).partition("[")[0]
    return f"{op.op.name.lower()} {target}"


def _scratchpad_use(schedule: Schedule) -> tuple[Cycles, Cycles, Cycles]:
    """Return the changes of every core's use: a tile is in use from its write to its last read."""
    slot_bytes = {
        buffer.first_slot + slot: buffer.slot_bytes
        for buffer in schedule.program.buffers
        if buffer.memory == "scratchpad"
        for slot in range(buffer.slots)
    }
    changes: list[tuple[int, int, int]] = []
    lives: dict[tuple[int, int], tuple[int, int]] = {}

    def end_life(core: int, slot: int) -> None:
        begin, end = lives.pop((core, slot))
        changes.append((core, begin, slot_bytes[slot]))
        changes.append((core, max(end, begin), -slot_bytes[slot]))

    cores = schedule.op_core
    # Items are claimed in program order on every core, so op order is each core's order.
    for index in range(schedule.program.num_ops):
        op = schedule.program.decode(index)
        core, start, end = int(cores[index]), int(schedule.start[index]), int(schedule.end[index])
        for slot in op.writes:
            if slot in slot_bytes and slot not in op.reads:
                if (core, slot) in lives:
                    end_life(core, slot)
                lives[core, slot] = (start, end)
        for slot in (*op.reads, *op.writes):
            if (core, slot) in lives:
                begin, last = lives[core, slot]
                lives[core, slot] = (begin, max(last, end))
    for core, slot in list(lives):
        end_life(core, slot)
    return _running_use(changes)


def _running_use(changes: list[tuple[int, int, int]]) -> tuple[Cycles, Cycles, Cycles]:
    if not changes:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    core, cycle, change = np.array(changes, np.int64).T
    used = np.zeros_like(change)
    for each in np.unique(core):
        rows = np.flatnonzero(core == each)
        rows = rows[np.lexsort((change[rows], cycle[rows]))]
        used[rows] = np.cumsum(change[rows])
    order = np.lexsort((change, cycle))
    return core[order], cycle[order], used[order]
