"""What every transfer of a run made the HBM move: its own bytes, or what a cache made of them."""

import numpy as np

from accelsim.engine.memory.arrivals import begin_transfer
from accelsim.engine.memory.door import Direct, look_up, new_memory
from accelsim.engine.memory.l2 import borrowed_cache
from accelsim.engine.schedule import Cycles, Schedule
from accelsim.hardware.machine import MachineSpec
from accelsim.program.ops import Unit
from accelsim.program.transfer import row_pitches, transfer_of
from accelsim.runtime.jit import borrow, jit


def hbm_bytes_of_ops(schedule: Schedule, machine: MachineSpec) -> Cycles:
    """Return the HBM bytes that every op read, wrote, and made a cache write back.

    What a cache holds depends only on the order of the requests, so the transfers are looked up
    once more. What is dirty at the end of the run belongs to no op.
    """
    program = schedule.program
    memory = new_memory(machine, program)
    if isinstance(memory, Direct):
        return program.hbm_bytes
    transfers = np.flatnonzero(program.units >= Unit.LOAD)
    keys = (program.units, schedule.op_core, schedule.start)
    order = transfers[np.lexsort([key[transfers] for key in keys])]
    pitches = row_pitches(program)
    moved: Cycles = _moved(memory.cache, program.ops, order, pitches, program.gathered_rows)
    return moved


@jit
def _moved(cache, words, order, pitches, gathered_rows):
    """Return the bytes of every op; order: the transfers, as they were requested."""
    cache, gathered_rows = borrowed_cache(cache), borrow(gathered_rows)
    moved = np.zeros(len(words), np.int64)
    state = cache.state[0]
    for i in range(len(order)):
        before = state.fetched_bytes + state.written_back_bytes
        begin_transfer(cache, 0)
        look_up(cache, transfer_of(words, order[i], pitches), gathered_rows)
        moved[order[i]] = state.fetched_bytes + state.written_back_bytes - before
    return moved
