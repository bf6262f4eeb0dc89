"""The controller of a channel: which burst goes next.

It sees bursts in the order of arrival through two queues, reads and writes, of which one is served
at a time: reads, until the writes waiting exceed a high mark or no read is left; then writes, down
to a low mark. At each step it issues at most one column command, for the oldest burst that is ready
and whose row is open, and one row command, for the oldest burst that is ready and whose row is not.
(FR-FCFS: Rixner et al., Memory access scheduling, ISCA 2000.)
"""

from accelsim.engine.banked.commands import (
    act_ready,
    activate,
    close_after_column,
    pre_ready,
    precharge,
    read,
    read_ready,
    refresh,
    rounded_up,
    write,
    write_ready,
)
from accelsim.engine.banked.state import CLOSED, FREE, NEVER, NONE, OPENED, READS, WRITES
from accelsim.jit import jit_inline


@jit_inline
def serve_runs(dram, number, arrival):
    """Issue every read of the runs given to channel `number` and accept every write.

    arrival: tick at which all of them arrive. Returns the tick at which the last data has moved;
    for writes, the one at which the last has found room among those that wait.
    """
    channel = dram.channels[number]
    drain(dram, number, arrival)
    channel.now = arrival
    channel.column_wake = channel.row_wake = 0
    last = arrival
    while True:
        _refresh_if_due(dram, channel, number)
        _admit(dram, channel, number)
        if channel.first_run == NONE and channel.reads + channel.opened_reads == 0:
            return max(last, channel.now)
        if _step(dram, channel, number):
            last = max(last, channel.done)
        _advance(dram, channel)


@jit_inline
def drain(dram, number, until):
    """Write what waits, in the time before `until` in which nothing is read."""
    channel = dram.channels[number]
    channel.column_wake = channel.row_wake = 0
    while channel.writes + channel.opened_writes > 0:
        _refresh_if_due(dram, channel, number)
        if channel.now >= until:
            break
        _step(dram, channel, number)
        _advance(dram, channel)


@jit_inline
def _refresh_if_due(dram, channel, number):
    # Rows that were opened for a burst stay open until it has been issued.
    if channel.now >= channel.refresh_due and channel.opened_reads + channel.opened_writes == 0:
        channel.now = refresh(dram, number, channel.now)
        channel.column_wake = channel.row_wake = 0


@jit_inline
def _advance(dram, channel):
    """Go on to the next tick at which something can happen."""
    wake = channel.column_wake
    if channel.now < channel.refresh_due:
        wake = min(wake, channel.row_wake, channel.refresh_due)
    channel.now = max(channel.now + 1, wake)


@jit_inline
def _admit(dram, channel, number):
    """Let bursts into the queues, in their order, as long as there is room."""
    t = dram.timing[0]
    while channel.first_run != NONE:
        run = dram.runs[channel.first_run]
        room = t.write_entries - channel.writes if run.is_write else t.read_entries - channel.reads
        bursts = min(room, run.bursts)
        if bursts <= 0:
            break
        _enqueue(dram, channel, number, run, bursts)
        run.bursts -= bursts
        if run.bursts > 0:
            break
        channel.first_run = run.next


@jit_inline
def _enqueue(dram, channel, number, run, bursts):
    kind = WRITES if run.is_write else READS
    if run.is_write:
        channel.writes += bursts
    else:
        channel.reads += bursts
    queue = dram.queues[number, kind]
    if queue.last != NONE:
        entry = dram.entries[number, queue.last]
        if entry.bank == run.bank and entry.row == run.row:
            entry.left += bursts
            return
    # Whether it can issue at once shows in the next scan.
    if dram.banks[run.bank].row == run.row:
        channel.column_wake = 0
    else:
        channel.row_wake = 0
    _append(dram, number, kind, _taken(dram, number, run.bank, run.row, bursts, run.is_write))


@jit_inline
def _taken(dram, number, bank, row, left, is_write):
    """Take a free entry and fill it in."""
    index = dram.queues[number, FREE].first
    entry = dram.entries[number, index]
    _unlink(dram, number, FREE, index)
    entry.bank, entry.row, entry.left, entry.is_write = bank, row, left, is_write
    return index


@jit_inline
def _append(dram, number, kind, index):
    queue, entry = dram.queues[number, kind], dram.entries[number, index]
    entry.before, entry.after = queue.last, NONE
    if queue.last == NONE:
        queue.first = index
    else:
        dram.entries[number, queue.last].after = index
    queue.last = index


@jit_inline
def _unlink(dram, number, kind, index):
    queue, entry = dram.queues[number, kind], dram.entries[number, index]
    if entry.before == NONE:
        queue.first = entry.after
    else:
        dram.entries[number, entry.before].after = entry.after
    if entry.after == NONE:
        queue.last = entry.before
    else:
        dram.entries[number, entry.after].before = entry.before


@jit_inline
def _choose_direction(dram, channel):
    t = dram.timing[0]
    if channel.is_writing:
        if channel.reads > 0 and channel.writes < t.low_writes:
            channel.is_writing = 0
            channel.column_wake = channel.row_wake = 0
    elif channel.writes > t.high_writes or (channel.reads == 0 and channel.writes > 0):
        channel.is_writing = 1
        channel.column_wake = channel.row_wake = 0


@jit_inline
def _step(dram, channel, number):
    """Issue what can issue now; return whether data moves."""
    _choose_direction(dram, channel)
    kind = WRITES if channel.is_writing else READS
    moved = False
    is_refreshing = channel.now >= channel.refresh_due
    if channel.now >= channel.column_wake:
        moved = _try_column(dram, channel, number, OPENED if is_refreshing else kind)
    if channel.now >= channel.row_wake and not is_refreshing:
        _try_row(dram, channel, number, kind)
    return moved


@jit_inline
def _try_column(dram, channel, number, kind):
    """Issue the oldest column that is ready; one for whom a row was opened goes first."""
    clock = dram.timing[0].clock
    wake = NEVER
    queue = OPENED
    while True:
        index = dram.queues[number, queue].first
        while index != NONE:
            entry = dram.entries[number, index]
            bank = dram.banks[entry.bank]
            if bank.row == entry.row:
                ready = write_ready(dram, bank) if entry.is_write else read_ready(dram, bank)
                ready = rounded_up(max(ready, channel.column_bus_free), clock)
                if ready <= channel.now:
                    _issue_column(dram, channel, number, queue, index)
                    return True
                wake = min(wake, ready)
            index = entry.after
        if queue == kind:
            break
        queue = kind
    channel.column_wake = wake
    return False


@jit_inline
def _issue_column(dram, channel, number, queue, index):
    entry = dram.entries[number, index]
    bank = dram.banks[entry.bank]
    channel.row_hits += bank.hits > 0
    if entry.is_write:
        write(dram, channel, bank, channel.now)
    else:
        read(dram, channel, bank, channel.now)
    channel.column_wake = channel.column_bus_free
    if dram.timing[0].pseudo_channels == 1:
        channel.column_wake = max(channel.column_wake, channel.now + dram.timing[0].column_s)
    if queue == OPENED:
        bank.waiting = 0
        if entry.is_write:
            channel.opened_writes -= 1
        else:
            channel.opened_reads -= 1
    elif entry.is_write:
        channel.writes -= 1
    else:
        channel.reads -= 1
    entry.left -= 1
    if entry.left == 0:
        _unlink(dram, number, queue, index)
        _append(dram, number, FREE, index)
        # A row without further bursts may be closed for another one.
        channel.row_wake = min(channel.row_wake, channel.now)
    if dram.timing[0].is_closed_page and not _is_wanted(dram, number, bank, entry):
        close_after_column(dram, bank)
        channel.row_wake = min(channel.row_wake, channel.now)


@jit_inline
def _is_wanted(dram, number, bank, issued):
    """Whether another waiting burst is for the open row of the burst just issued."""
    for queue in (READS, WRITES, OPENED):
        index = dram.queues[number, queue].first
        while index != NONE:
            entry = dram.entries[number, index]
            if entry.bank == issued.bank and entry.row == bank.row:
                return True
            index = entry.after
    return False


@jit_inline
def _try_row(dram, channel, number, kind):
    """Open the row of the oldest burst that allows it, or close the row in its way."""
    t = dram.timing[0]
    channel.scan += 1
    scan = channel.scan
    if t.max_hits > 0:
        _note_hits(dram, number, kind, scan)
    wake = NEVER
    index = dram.queues[number, kind].first
    while index != NONE:
        entry = dram.entries[number, index]
        bank = dram.banks[entry.bank]
        if bank.row != entry.row:
            if bank.row == CLOSED:
                ready = rounded_up(max(act_ready(dram, bank), channel.row_bus_free), t.clock)
                if ready <= channel.now:
                    activate(dram, channel, bank, entry.row, channel.now)
                    _open_for(dram, channel, number, kind, index)
                    channel.row_wake = channel.row_bus_free
                    channel.column_wake = min(channel.column_wake, channel.now + 1)
                    return
                wake = min(wake, ready)
            elif _may_close(t, bank, scan):
                ready = max(pre_ready(dram, bank), channel.row_bus_free)
                if ready <= channel.now:
                    precharge(dram, channel, bank, channel.now)
                    channel.row_wake = channel.row_bus_free
                    return
                wake = min(wake, ready)
        bank.seen_stamp = scan
        index = entry.after
    channel.row_wake = wake


@jit_inline
def _note_hits(dram, number, kind, scan):
    index = dram.queues[number, kind].first
    while index != NONE:
        entry = dram.entries[number, index]
        bank = dram.banks[entry.bank]
        if bank.row == entry.row:
            bank.hit_stamp = scan
        index = entry.after


@jit_inline
def _may_close(t, bank, scan):
    """Whether the open row may make room for another: not for bursts that came before its own."""
    if bank.waiting:
        return False
    if t.max_hits == 0:
        return True
    if bank.seen_stamp == scan:
        return False
    return bank.hit_stamp != scan or bank.hits >= t.max_hits


@jit_inline
def _open_for(dram, channel, number, kind, index):
    """Move the burst for which a row is being opened out of the queue: it goes first."""
    entry = dram.entries[number, index]
    dram.banks[entry.bank].waiting = 1
    if entry.is_write:
        channel.writes -= 1
        channel.opened_writes += 1
    else:
        channel.reads -= 1
        channel.opened_reads += 1
    if entry.left == 1:
        _unlink(dram, number, kind, index)
        _append(dram, number, OPENED, index)
    else:
        entry.left -= 1
        first = _taken(dram, number, entry.bank, entry.row, 1, entry.is_write)
        _append(dram, number, OPENED, first)
