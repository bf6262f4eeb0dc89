"""How many bytes of the scratchpad hold something that is still needed, over the time of a run."""

import numpy as np

from accelsim.engine.holding import end_all_uses, new_holding, touch
from accelsim.engine.schedule import Cycles, Schedule
from accelsim.program.ops import READS, WRITES
from accelsim.runtime.jit import borrow, jit


def scratchpad_use(schedule: Schedule) -> tuple[Cycles, Cycles, Cycles]:
    """Return core, cycle and bytes in use from then on, for every change, in the order of time."""
    core, cycle, used = _use_by_core(schedule)
    in_time = np.argsort(cycle, kind="stable")
    return core[in_time], cycle[in_time], used[in_time]


def _use_by_core(schedule: Schedule) -> tuple[Cycles, Cycles, Cycles]:
    """Return what `scratchpad_use` returns, but one core after the other."""
    program, (items, first) = schedule.program, schedule.items_by_core
    holding = new_holding(program, program.num_ops)
    ends = np.zeros(schedule.cores, np.int64)
    times = (schedule.start, schedule.end)
    _find_changes(program.ops, *times, program.item_start, items, first, holding, ends)
    core = np.repeat(np.arange(schedule.cores), np.diff(ends, prepend=0))
    moments, changes = holding.moments[: core.size], holding.changes[: core.size]
    in_order = np.lexsort((moments, core))
    # Every core ends with nothing in use, so one running sum serves all of them.
    return core[in_order], moments[in_order] // 2, np.cumsum(changes[in_order])


@jit
def _find_changes(words, start, end, item_start, items, first, holding, ends):
    """Find the changes of one core after the other; ends: where those of each end."""
    holding = borrow(holding)
    for core in range(len(ends)):
        for place in range(first[core], first[core + 1]):
            item = items[place]
            for op in range(item_start[item], item_start[item + 1]):
                touch(words[op, READS], words[op, WRITES], start[op], end[op], holding)
        end_all_uses(holding)
        ends[core] = holding.count[0]
