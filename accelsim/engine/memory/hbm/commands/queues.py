"""Bursts that wait at a channel: lists of entries, and what each bank could do for them next.

Bursts that follow each other in a row are one entry. The entries of a bank are two lists in the
order of arrival, reads and writes. Of the kind being served a bank offers at most two: its oldest
entry for the open row, as a column, and the oldest that needs another row, if the open one may make
room. So a choice looks at banks with work and not at all that waits. The tick of an offer is one
before which it cannot be taken; it is found again whenever a command or an arrival changes it.
"""

from accelsim.engine.memory.hbm.commands.timing import (
    act_ready,
    pre_ready,
    read_ready,
    rounded_up,
    write_ready,
)
from accelsim.engine.memory.hbm.state import CLOSED, FREE, NEVER, NONE, OPENED
from accelsim.runtime.jit import jit_inline


@jit_inline
def enqueue(dram, channel, number, run, bursts):
    """Append bursts of a run to the list of their bank."""
    if run.is_write:
        channel.writes += bursts
    else:
        channel.reads += bursts
    last = dram.newest[number, run.is_write]
    if last != NONE:
        entry = dram.entries[number, last]
        if entry.bank == run.bank and entry.row == run.row:
            entry.left += bursts
            return
    index = _taken(dram, number, run.bank, run.row, bursts, run.is_write)
    channel.arrived += 1
    dram.entries[number, index].age = channel.arrived
    dram.newest[number, run.is_write] = index
    _append(dram, number, dram.waiting[run.bank, run.is_write], index)
    if run.is_write == channel.is_writing:
        offer(dram, channel, number, run.bank)


@jit_inline
def taken_out(dram, number, index):
    """Take one burst out of a waiting entry."""
    entry = dram.entries[number, index]
    entry.left -= 1
    if entry.left > 0:
        return
    if dram.newest[number, entry.is_write] == index:
        dram.newest[number, entry.is_write] = NONE
    _unlink(dram, number, dram.waiting[entry.bank, entry.is_write], index)
    _append(dram, number, dram.lists[number, FREE], index)


@jit_inline
def move_to_opened(dram, channel, number, index):
    """Let a burst whose row has just been opened go first."""
    entry = dram.entries[number, index]
    if entry.is_write:
        channel.writes -= 1
        channel.opened_writes += 1
    else:
        channel.reads -= 1
        channel.opened_reads += 1
    first = _taken(dram, number, entry.bank, entry.row, 1, entry.is_write)
    taken_out(dram, number, index)
    bank, opened = dram.banks[entry.bank], dram.entries[number, first]
    bank.waiting = 1
    opened.wake = column_ready(dram, channel, bank, entry.is_write)
    channel.column_wake = min(channel.column_wake, opened.wake)
    _append(dram, number, dram.lists[number, OPENED], first)


@jit_inline
def leave_opened(dram, channel, number, index):
    """Forget a burst for which a row was opened: it has been issued."""
    entry = dram.entries[number, index]
    dram.banks[entry.bank].waiting = 0
    if entry.is_write:
        channel.opened_writes -= 1
    else:
        channel.opened_reads -= 1
    _unlink(dram, number, dram.lists[number, OPENED], index)
    _append(dram, number, dram.lists[number, FREE], index)


@jit_inline
def _taken(dram, number, bank, row, left, is_write):
    """Take a free entry and fill it in."""
    free = dram.lists[number, FREE]
    index = free.first
    entry = dram.entries[number, index]
    _unlink(dram, number, free, index)
    entry.bank, entry.row, entry.left, entry.is_write = bank, row, left, is_write
    return index


@jit_inline
def _append(dram, number, where, index):
    entry = dram.entries[number, index]
    entry.before, entry.after = where.last, NONE
    if where.last == NONE:
        where.first = index
    else:
        dram.entries[number, where.last].after = index
    where.last = index


@jit_inline
def _unlink(dram, number, where, index):
    entry = dram.entries[number, index]
    if entry.before == NONE:
        where.first = entry.after
    else:
        dram.entries[number, entry.before].after = entry.after
    if entry.after == NONE:
        where.last = entry.before
    else:
        dram.entries[number, entry.after].before = entry.before


@jit_inline
def offer_all(dram, channel, number):
    """Find the offers of all banks of a channel again."""
    channel.busy_banks = channel.columns = channel.rows = 0
    num_banks = dram.offers.shape[1]
    for bank in range(number * num_banks, (number + 1) * num_banks):
        dram.banks[bank].place = NONE
        offer(dram, channel, number, bank)


@jit_inline
def offer(dram, channel, number, index):
    """Find what bank `index` could do next for the bursts of the kind being served."""
    bank, most = dram.banks[index], dram.timing[0].max_hits
    first = dram.waiting[index, channel.is_writing].first
    if first == NONE:
        _leave_busy(dram, channel, number, bank)
        return
    if bank.place == NONE:
        _join_busy(dram, channel, number, index)
    hit, miss = NONE, first
    if bank.row != CLOSED:
        hit = miss = NONE
        each = first
        while each != NONE and NONE in (hit, miss):
            entry = dram.entries[number, each]
            if entry.row != bank.row:
                miss = each if miss == NONE else miss
            elif hit == NONE:
                hit = each
            each = entry.after
        # Without a limit of hits another row may come at any time. With one it is too early while
        # the oldest entry wants the open row, or any does and the limit is not reached.
        is_early = most > 0 and (miss != first or (hit != NONE and bank.hits < most))
        if bank.waiting or is_early:
            miss = NONE
    offered = dram.offers[number, bank.place]
    channel.columns += int(hit != NONE) - int(offered.hit != NONE)
    channel.rows += int(miss != NONE) - int(offered.miss != NONE)
    offered.hit, offered.miss = hit, miss
    find_ticks(dram, channel, bank, offered)


@jit_inline
def find_ticks(dram, channel, bank, offered):
    """Find the ticks before which an offer cannot be taken."""
    offered.column_at = offered.row_at = NEVER
    if offered.hit != NONE:
        offered.column_at = column_ready(dram, channel, bank, channel.is_writing)
        channel.column_wake = min(channel.column_wake, offered.column_at)
    if offered.miss != NONE:
        offered.row_at = row_ready(dram, channel, bank)
        channel.row_wake = min(channel.row_wake, offered.row_at)


@jit_inline
def _join_busy(dram, channel, number, index):
    """Give a bank a place among the offers, which says nothing yet."""
    dram.banks[index].place = channel.busy_banks
    offered = dram.offers[number, channel.busy_banks]
    offered.bank, offered.hit, offered.miss = index, NONE, NONE
    channel.busy_banks += 1


@jit_inline
def _leave_busy(dram, channel, number, bank):
    """Take the offers of a bank away; the last ones move to its place."""
    if bank.place == NONE:
        return
    offered = dram.offers[number, bank.place]
    channel.columns -= offered.hit != NONE
    channel.rows -= offered.miss != NONE
    channel.busy_banks -= 1
    last = dram.offers[number, channel.busy_banks]
    offered.bank, offered.hit, offered.miss = last.bank, last.hit, last.miss
    offered.column_at, offered.row_at = last.column_at, last.row_at
    dram.banks[last.bank].place = bank.place
    bank.place = NONE


@jit_inline
def column_ready(dram, channel, bank, is_write):
    """Return the first tick at which the open row of a bank may be read or written."""
    ready = write_ready(dram, bank) if is_write else read_ready(dram, bank)
    return rounded_up(max(ready, channel.column_bus_free), dram.timing[0].clock)


@jit_inline
def row_ready(dram, channel, bank):
    """Return the first tick at which a row of a bank may be opened, or the open one be closed."""
    if bank.row == CLOSED:
        return rounded_up(max(act_ready(dram, bank), channel.row_bus_free), dram.timing[0].clock)
    return max(pre_ready(dram, bank), channel.row_bus_free)


@jit_inline
def is_wanted(dram, number, index):
    """Whether a waiting burst is for the open row of bank `index`."""
    bank = dram.banks[index]
    for kind in range(dram.waiting.shape[1]):
        each = dram.waiting[index, kind].first
        while each != NONE:
            if dram.entries[number, each].row == bank.row:
                return True
            each = dram.entries[number, each].after
    return bank.waiting == 1
