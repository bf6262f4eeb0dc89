"""Program and schedule to the timeline that traces and figures show."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from accelsim.accounts.hbm_bytes import hbm_bytes_of_ops
from accelsim.accounts.occupancy import scratchpad_use
from accelsim.engine.schedule import Schedule
from accelsim.hardware.machine import MachineSpec
from accelsim.program.ops import UNIT_NAMES, Unit
from accelsim.program.program import OpRecord, Program
from accelsim.report.timeline import Timeline


def build_timeline(schedule: Schedule, machine: MachineSpec, about: Mapping[str, Any]) -> Timeline:
    """Return the timeline of a run; ops are named by what they do and to what.

    machine: as it ran; about: what the timeline says of the run.
    """
    program, traffic = schedule.program, schedule.traffic
    hbm_bytes = hbm_bytes_of_ops(schedule, machine)
    all_bytes = traffic.hbm_read_bytes + traffic.hbm_write_bytes
    labels = [_label(program, op) for op in program]
    names = sorted(set(labels))
    index_of = {name: index for index, name in enumerate(names)}
    is_memory = program.units >= Unit.LOAD
    core, cycle, used = scratchpad_use(schedule)
    return Timeline(
        core=schedule.op_core,
        unit=program.units,
        name_index=np.array([index_of[label] for label in labels], np.int64),
        start_cycle=schedule.start,
        end_cycle=np.where(is_memory, schedule.end, schedule.start + schedule.busy),
        hbm_bytes=hbm_bytes,
        names=names,
        unit_names=UNIT_NAMES,
        clock_hz=machine.clock,
        scratchpad_core=core,
        scratchpad_cycle=cycle,
        scratchpad_bytes=used,
        moved_bytes=program.hbm_bytes,
        cycles=schedule.cycles,
        hbm_bytes_at_end=all_bytes - int(hbm_bytes.sum()),
        peak_hbm_bytes_per_s=machine.hbm.bandwidth,
        about=about,
    )


def _label(program: Program, op: OpRecord) -> str:
    if op.unit in (Unit.LOAD, Unit.STORE):
        return f"{op.op.name.lower()} {program.tensors[op.tensor].name}"
    buffer = program.buffer_of(op.writes[0])
    return f"{op.op.name.lower()} {buffer.name if buffer else op.writes[0]}"
