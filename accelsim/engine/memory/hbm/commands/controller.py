"""The controller of a channel: which burst goes next.

It sees bursts in the order of arrival through two queues, reads and writes, of which one is served
at a time: reads, until the writes waiting exceed a high mark or no read is left; then writes, down
to a low mark. At each step it issues at most one column command, for the oldest burst that is ready
and whose row is open, and one row command, for the oldest burst that is ready and whose row is not.
(FR-FCFS: Rixner et al., Memory access scheduling, ISCA 2000.)
"""

from accelsim.engine.memory.hbm.commands.queues import (
    column_ready,
    enqueue,
    find_ticks,
    is_wanted,
    leave_opened,
    move_to_opened,
    offer,
    offer_all,
    row_ready,
    taken_out,
)
from accelsim.engine.memory.hbm.commands.timing import (
    activate,
    close_after_column,
    precharge,
    read,
    refresh,
    write,
)
from accelsim.engine.memory.hbm.state import CLOSED, NEVER, NONE, OPENED
from accelsim.runtime.jit import jit_inline


@jit_inline
def serve_runs(dram, number, arrival):
    """Issue every read of the runs given to channel `number` and accept every write.

    arrival: tick at which all of them arrive. Returns the tick at which the last data has moved;
    for writes, the one at which the last has found room among those that wait.
    """
    channel = dram.channels[number]
    drain(dram, number, arrival)
    channel.now = channel.column_wake = channel.row_wake = last = arrival
    _admit(dram, channel, number)
    turn(dram, channel, number, arrival)
    while channel.first_run != NONE or channel.reads + channel.opened_reads > 0:
        refresh_if_due(dram, channel, number)
        now = channel.now
        if step(dram, channel, number):
            last = max(last, channel.done)
        if _admit(dram, channel, number):
            # What is new may be able to issue before what was there.
            channel.now = now + 1
            last = max(last, channel.now)
        turn(dram, channel, number, now + 1)
    return last


@jit_inline
def drain(dram, number, until):
    """Write what waits, in the time before `until` in which nothing is read."""
    channel = dram.channels[number]
    channel.column_wake = channel.row_wake = channel.now
    turn(dram, channel, number, channel.now)
    while channel.writes + channel.opened_writes > 0:
        refresh_if_due(dram, channel, number)
        if channel.now >= until:
            break
        now = channel.now
        step(dram, channel, number)
        turn(dram, channel, number, now + 1)


@jit_inline
def refresh_if_due(dram, channel, number):
    """Refresh, once no row is open for a burst that has not been issued."""
    if channel.now >= channel.refresh_due and channel.opened_reads + channel.opened_writes == 0:
        channel.now = refresh(dram, number, channel.now)
        channel.column_wake = channel.row_wake = channel.now
        offer_all(dram, channel, number)


@jit_inline
def _admit(dram, channel, number):
    """Let bursts in, in their order, as long as there is room; return whether there was any."""
    t, is_any = dram.timing[0], False
    while channel.first_run != NONE:
        run = dram.runs[channel.first_run]
        room = t.write_entries - channel.writes if run.is_write else t.read_entries - channel.reads
        bursts = min(room, run.bursts)
        if bursts <= 0:
            break
        enqueue(dram, channel, number, run, bursts)
        is_any = True
        run.bursts -= bursts
        if run.bursts > 0:
            break
        channel.first_run = run.next
    return is_any


@jit_inline
def turn(dram, channel, number, tick):
    """Choose between reads and writes; after a change, look at all again at `tick`."""
    t, before = dram.timing[0], channel.is_writing
    if channel.is_writing:
        if channel.reads > 0 and channel.writes < t.low_writes:
            channel.is_writing = 0
    elif channel.writes > t.high_writes or (channel.reads == 0 and channel.writes > 0):
        channel.is_writing = 1
    if channel.is_writing != before:
        channel.now = channel.column_wake = channel.row_wake = tick
        offer_all(dram, channel, number)


@jit_inline
def step(dram, channel, number):
    """Issue what can issue now and go on to the next tick with something to do.

    Returns whether data moves.
    """
    now, is_refreshing = channel.now, channel.now >= channel.refresh_due
    moved = False
    if now >= channel.column_wake:
        moved = _try_column(dram, channel, number, is_refreshing)
    if now >= channel.row_wake and not is_refreshing:
        _try_row(dram, channel, number)
    if not is_refreshing:
        wake = min(channel.column_wake, channel.row_wake, channel.refresh_due)
    else:
        # The refresh waits for nothing but bursts for whom a row was opened.
        wake = channel.column_wake if channel.opened_reads + channel.opened_writes > 0 else now
    channel.now = max(now + 1, wake)
    return moved


@jit_inline
def _try_column(dram, channel, number, is_refreshing):
    """Issue the oldest column that is ready; one for whom a row was opened goes first.

    While a refresh is due, no others go. Returns whether data moves.
    """
    now, wake = channel.now, NEVER
    index = dram.lists[number, OPENED].first
    while index != NONE:
        entry = dram.entries[number, index]
        if entry.wake <= now:
            entry.wake = column_ready(dram, channel, dram.banks[entry.bank], entry.is_write)
            if entry.wake <= now:
                break
        wake = min(wake, entry.wake)
        index = entry.after
    is_opened = index != NONE
    oldest, is_done = NEVER, is_opened or is_refreshing or channel.columns == 0
    for place in range(0 if is_done else channel.busy_banks):
        offered = dram.offers[number, place]
        if offered.column_at <= now and dram.entries[number, offered.hit].age < oldest:
            bank = dram.banks[offered.bank]
            offered.column_at = column_ready(dram, channel, bank, channel.is_writing)
            if offered.column_at <= now:
                index, oldest = offered.hit, dram.entries[number, offered.hit].age
        wake = min(wake, offered.column_at)
    channel.column_wake = wake
    if index != NONE:
        _issue_column(dram, channel, number, index, is_opened)
    return index != NONE


@jit_inline
def _try_row(dram, channel, number):
    """Open the row of the oldest entry that allows it, or close the row in its way."""
    now, wake, chosen, oldest = channel.now, NEVER, NONE, NEVER
    for place in range(channel.busy_banks if channel.rows > 0 else 0):
        offered = dram.offers[number, place]
        if offered.row_at <= now and dram.entries[number, offered.miss].age < oldest:
            offered.row_at = row_ready(dram, channel, dram.banks[offered.bank])
            if offered.row_at <= now:
                chosen, oldest = offered.bank, dram.entries[number, offered.miss].age
        wake = min(wake, offered.row_at)
    channel.row_wake = wake
    if chosen != NONE:
        _issue_row(dram, channel, number, chosen)


@jit_inline
def _issue_column(dram, channel, number, index, is_opened):
    t, entry = dram.timing[0], dram.entries[number, index]
    place, bank = entry.bank, dram.banks[entry.bank]
    channel.row_hits += bank.hits > 0
    if entry.is_write:
        write(dram, channel, bank, channel.now)
    else:
        read(dram, channel, bank, channel.now)
    if is_opened:
        leave_opened(dram, channel, number, index)
    else:
        if entry.is_write:
            channel.writes -= 1
        else:
            channel.reads -= 1
        taken_out(dram, number, index)
    if t.is_closed_page and not is_wanted(dram, number, place):
        close_after_column(dram, bank)
    channel.column_wake = channel.now + (t.column_s if t.pseudo_channels == 1 else t.column_bus)
    has_more = not is_opened and entry.left > 0 and bank.row != CLOSED
    if has_more and (t.max_hits == 0 or bank.hits < t.max_hits):
        # The bank offers the same entries as before.
        find_ticks(dram, channel, bank, dram.offers[number, bank.place])
    else:
        offer(dram, channel, number, place)


@jit_inline
def _issue_row(dram, channel, number, place):
    """Open the row that a bank wants next, or close the one in its way."""
    bank = dram.banks[place]
    if bank.row != CLOSED:
        precharge(dram, channel, bank, channel.now)
    else:
        index = dram.offers[number, bank.place].miss
        activate(dram, channel, bank, dram.entries[number, index].row, channel.now)
        move_to_opened(dram, channel, number, index)
    channel.row_wake = channel.row_bus_free
    offer(dram, channel, number, place)
