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
    channel.now = channel.column_wake = channel.row_wake = last = arrival
    _admit(dram, channel, number)
    turn(dram, channel, arrival)
    while True:
        if channel.first_run == NONE and channel.reads + channel.opened_reads == 0:
            return max(last, channel.now)
        refresh_if_due(dram, channel, number)
        now = channel.now
        if step(dram, channel, number):
            last = max(last, channel.done)
        if _admit(dram, channel, number):
            channel.now = channel.column_wake = channel.row_wake = now + 1
        turn(dram, channel, now + 1)


@jit_inline
def drain(dram, number, until):
    """Write what waits, in the time before `until` in which nothing is read."""
    channel = dram.channels[number]
    channel.column_wake = channel.row_wake = channel.now
    turn(dram, channel, channel.now)
    while channel.writes + channel.opened_writes > 0:
        refresh_if_due(dram, channel, number)
        if channel.now >= until:
            break
        now = channel.now
        step(dram, channel, number)
        turn(dram, channel, now + 1)


@jit_inline
def refresh_if_due(dram, channel, number):
    """Refresh, once no row is open for a burst that has not been issued."""
    if channel.now >= channel.refresh_due and channel.opened_reads + channel.opened_writes == 0:
        channel.now = refresh(dram, number, channel.now)
        channel.column_wake = channel.row_wake = channel.now
        _wake(dram, channel, number, NONE, 0)


@jit_inline
def _admit(dram, channel, number):
    """Let bursts into the queues, in their order, as long as there is room.

    Returns whether there is a new entry, which may be able to issue at once.
    """
    t, is_new = dram.timing[0], False
    while channel.first_run != NONE:
        run = dram.runs[channel.first_run]
        room = t.write_entries - channel.writes if run.is_write else t.read_entries - channel.reads
        bursts = min(room, run.bursts)
        if bursts <= 0:
            break
        is_new |= enqueue(dram, channel, number, run, bursts)
        run.bursts -= bursts
        if run.bursts > 0:
            break
        channel.first_run = run.next
    return is_new


@jit_inline
def enqueue(dram, channel, number, run, bursts):
    """Append bursts of a run to their queue; return whether that took a new entry."""
    kind = WRITES if run.is_write else READS
    if run.is_write:
        channel.writes += bursts
    else:
        channel.reads += bursts
    last = dram.queues[number, kind].last
    if last != NONE:
        entry = dram.entries[number, last]
        if entry.bank == run.bank and entry.row == run.row:
            entry.left += bursts
            return False
    _append(dram, number, kind, _taken(dram, number, run.bank, run.row, bursts, run.is_write))
    return True


@jit_inline
def _taken(dram, number, bank, row, left, is_write):
    """Take a free entry and fill it in."""
    index = dram.queues[number, FREE].first
    entry = dram.entries[number, index]
    _unlink(dram, number, FREE, index)
    entry.bank, entry.row, entry.left, entry.is_write = bank, row, left, is_write
    entry.wake = 0
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
def turn(dram, channel, tick):
    """Choose between reads and writes; after a change, look at all again at `tick`."""
    t, before = dram.timing[0], channel.is_writing
    if channel.is_writing:
        if channel.reads > 0 and channel.writes < t.low_writes:
            channel.is_writing = 0
    elif channel.writes > t.high_writes or (channel.reads == 0 and channel.writes > 0):
        channel.is_writing = 1
    if channel.is_writing != before:
        channel.now = channel.column_wake = channel.row_wake = tick


@jit_inline
def step(dram, channel, number):
    """Issue what can issue now and go on to the next tick with something to do.

    Returns whether data moves.
    """
    now, is_refreshing = channel.now, channel.now >= channel.refresh_due
    kind = WRITES if channel.is_writing else READS
    moved = False
    if now >= channel.column_wake:
        moved = _try_column(dram, channel, number, OPENED if is_refreshing else kind)
    if now >= channel.row_wake and not is_refreshing:
        _try_row(dram, channel, number, kind)
    if not is_refreshing:
        wake = min(channel.column_wake, channel.row_wake, channel.refresh_due)
    else:
        # The refresh waits for nothing but bursts for whom a row was opened.
        wake = channel.column_wake if channel.opened_reads + channel.opened_writes > 0 else now
    channel.now = max(now + 1, wake)
    return moved


@jit_inline
def _try_column(dram, channel, number, kind):
    """Issue the oldest column that is ready; one for whom a row was opened goes first."""
    now, wake, queue = channel.now, NEVER, OPENED
    index = dram.queues[number, OPENED].first
    while True:
        if index == NONE:
            if queue == kind:
                break
            queue = kind
            index = dram.queues[number, kind].first
            continue
        entry = dram.entries[number, index]
        bank = dram.banks[entry.bank]
        if bank.row == entry.row:
            if entry.wake <= now:
                entry.wake = _column_ready(dram, channel, bank, entry.is_write)
                if entry.wake <= now:
                    _issue_column(dram, channel, number, queue, index)
                    return True
            wake = min(wake, entry.wake)
        index = entry.after
    channel.column_wake = wake
    return False


@jit_inline
def _try_row(dram, channel, number, kind):
    """Open the row of the oldest entry that allows it, or close the row in its way."""
    now, wake = channel.now, NEVER
    index = dram.queues[number, kind].first
    while index != NONE:
        entry = dram.entries[number, index]
        if entry.wake <= now:
            bank = dram.banks[entry.bank]
            if bank.row != entry.row:
                entry.wake = _row_ready(dram, channel, number, kind, bank, index)
                if entry.wake <= now:
                    _issue_row(dram, channel, number, kind, index)
                    return
                wake = min(wake, entry.wake)
        else:
            wake = min(wake, entry.wake)
        index = entry.after
    channel.row_wake = wake


@jit_inline
def _column_ready(dram, channel, bank, is_write):
    ready = write_ready(dram, bank) if is_write else read_ready(dram, bank)
    return rounded_up(max(ready, channel.column_bus_free), dram.timing[0].clock)


@jit_inline
def _row_ready(dram, channel, number, kind, bank, index):
    """Return the first tick at which the row of an entry may be opened, or another be closed."""
    if bank.row == CLOSED:
        ready = max(act_ready(dram, bank), channel.row_bus_free)
        return rounded_up(ready, dram.timing[0].clock)
    ready = max(pre_ready(dram, bank), channel.row_bus_free)
    if ready <= channel.now and not _may_close(dram, number, kind, bank, index):
        channel.blocked += 1
        return NEVER
    return ready


@jit_inline
def _unblock(dram, channel, number, bank):
    """Look again at entries that could not close the row of a bank.

    What blocks them ends with a command to their bank, not at a tick known before.
    """
    if channel.blocked > 0:
        _wake(dram, channel, number, bank, NEVER)


@jit_inline
def _wake(dram, channel, number, bank, least):
    """Look again at the entries of a bank, or of all (NONE), that know a tick from `least` on."""
    for queue in (READS, WRITES):
        index = dram.queues[number, queue].first
        while index != NONE:
            entry = dram.entries[number, index]
            if entry.wake >= least and bank in (NONE, entry.bank):
                channel.blocked -= entry.wake == NEVER
                entry.wake = channel.row_wake = channel.now
            index = entry.after


@jit_inline
def _may_close(dram, number, kind, bank, index):
    """Whether the open row may make room for an entry: not for one that came before its own.

    Nor for bursts that want the open row, unless too many of them have gone before.
    """
    if bank.waiting:
        return False
    most = dram.timing[0].max_hits
    if most == 0:
        return True
    wanted = dram.entries[number, index].bank
    is_older = True
    other = dram.queues[number, kind].first
    while other != NONE:
        entry = dram.entries[number, other]
        if other == index:
            is_older = False
        elif entry.bank == wanted and (is_older or (entry.row == bank.row and bank.hits < most)):
            return False
        other = entry.after
    return True


@jit_inline
def _issue_column(dram, channel, number, queue, index):
    entry = dram.entries[number, index]
    bank = dram.banks[entry.bank]
    channel.row_hits += bank.hits > 0
    if entry.is_write:
        write(dram, channel, bank, channel.now)
    else:
        read(dram, channel, bank, channel.now)
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
    t = dram.timing[0]
    channel.column_wake = channel.now + (t.column_s if t.pseudo_channels == 1 else t.column_bus)
    _unblock(dram, channel, number, entry.bank)
    if entry.left == 0:
        _unlink(dram, number, queue, index)
        _append(dram, number, FREE, index)
    if t.is_closed_page and not _is_wanted(dram, number, bank, entry):
        close_after_column(dram, bank)


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
def _issue_row(dram, channel, number, kind, index):
    """Open the row of an entry, or close the one in its way."""
    entry = dram.entries[number, index]
    bank = dram.banks[entry.bank]
    if bank.row != CLOSED:
        # Who wanted the row that was open now needs another command, which may be ready earlier.
        _wake(dram, channel, number, entry.bank, 0)
        precharge(dram, channel, bank, channel.now)
        channel.row_wake = channel.row_bus_free
        return
    _unblock(dram, channel, number, entry.bank)
    activate(dram, channel, bank, entry.row, channel.now)
    channel.row_wake = channel.row_bus_free
    channel.column_wake = min(channel.column_wake, channel.now + 1)
    # The burst for which the row is opened leaves the queue: it goes first.
    bank.waiting = 1
    if entry.is_write:
        channel.writes -= 1
        channel.opened_writes += 1
    else:
        channel.reads -= 1
        channel.opened_reads += 1
    first = index
    if entry.left == 1:
        _unlink(dram, number, kind, index)
    else:
        entry.left -= 1
        first = _taken(dram, number, entry.bank, entry.row, 1, entry.is_write)
    _append(dram, number, OPENED, first)
