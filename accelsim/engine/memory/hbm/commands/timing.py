"""When DRAM commands may issue and what they forbid afterwards: the rules of the device.

Times are ticks; each rule is one JEDEC parameter, named in `accelsim.hardware.dram`.
"""

from accelsim.engine.memory.hbm.state import CLOSED
from accelsim.runtime.jit import jit_inline


@jit_inline
def rounded_up(tick, clock):
    """Return the first clock edge from `tick` on; clock: a power of two."""
    return (tick + clock - 1) & -clock


@jit_inline
def read_ready(dram, bank):
    """Return the tick from which the open row of `bank` may be read."""
    return max(
        bank.read_ready,
        dram.groups[bank.group].read_ready,
        dram.ranks[bank.rank].read_ready,
        dram.pseudos[bank.pseudo].read_ready,
    )


@jit_inline
def write_ready(dram, bank):
    """Return the tick from which the open row of `bank` may be written."""
    return max(
        bank.write_ready,
        dram.groups[bank.group].write_ready,
        dram.ranks[bank.rank].write_ready,
        dram.pseudos[bank.pseudo].write_ready,
    )


@jit_inline
def act_ready(dram, bank):
    """Return the tick from which a row of the closed `bank` may be opened."""
    pseudo = dram.pseudos[bank.pseudo]
    return max(
        bank.act_ready,
        dram.groups[bank.group].act_ready,
        pseudo.act_ready,
        dram.acts[bank.pseudo, pseudo.oldest_act],
    )


@jit_inline
def pre_ready(dram, bank):
    """Return the tick from which the open `bank` may be closed."""
    return max(bank.pre_ready, dram.pseudos[bank.pseudo].pre_ready)


@jit_inline
def activate(dram, channel, bank, row, now):
    """Open `row`."""
    t, pseudo = dram.timing[0], dram.pseudos[bank.pseudo]
    bank.row = row
    bank.hits = 0
    bank.act_ready = now + t.act_to_act
    bank.pre_ready = now + t.act_to_pre
    bank.read_ready = now + t.act_to_read
    bank.write_ready = now + t.act_to_write
    dram.groups[bank.group].act_ready = now + t.act_to_act_l
    pseudo.act_ready = now + t.act_to_act_s
    dram.acts[bank.pseudo, pseudo.oldest_act] = now + t.four_acts
    pseudo.oldest_act = (pseudo.oldest_act + 1) & 3
    channel.row_bus_free = now + t.act_bus
    channel.activates += 1


@jit_inline
def precharge(dram, channel, bank, now):
    """Close the open row by a command."""
    t = dram.timing[0]
    bank.row = CLOSED
    bank.act_ready = max(bank.act_ready, now + t.pre_to_act)
    dram.pseudos[bank.pseudo].pre_ready = now + t.pre_to_pre
    channel.row_bus_free = now + t.pre_bus


@jit_inline
def close_after_column(dram, bank):
    """Close the open row by the auto-precharge of the column just issued."""
    bank.row = CLOSED
    bank.act_ready = max(bank.act_ready, bank.pre_ready + dram.timing[0].pre_to_act)


@jit_inline
def read(dram, channel, bank, now):
    """Read a burst of the open row."""
    t, group = dram.timing[0], dram.groups[bank.group]
    group.read_ready = now + t.column_l
    group.write_ready = max(group.write_ready, now + t.column_l)
    if t.ranks > 1:
        first = bank.rank - bank.rank % t.rank_places
        for rank in range(first, first + t.ranks):
            dram.ranks[rank].read_ready = now + t.column_r
    dram.ranks[bank.rank].read_ready = now + t.column_s
    pseudo = dram.pseudos[bank.pseudo]
    pseudo.write_ready = max(pseudo.write_ready, now + t.read_to_write)
    bank.pre_ready = max(bank.pre_ready, now + t.read_to_pre)
    bank.hits += 1
    channel.column_bus_free = now + t.column_bus
    channel.done = now + t.read_delay
    channel.read_bursts += 1


@jit_inline
def write(dram, channel, bank, now):
    """Write a burst to the open row."""
    t, group = dram.timing[0], dram.groups[bank.group]
    group.write_ready = now + t.column_l
    group.read_ready = max(group.read_ready, now + t.write_to_read_l)
    if t.ranks > 1:
        first = bank.rank - bank.rank % t.rank_places
        for rank in range(first, first + t.ranks):
            dram.ranks[rank].write_ready = now + t.column_r
    dram.ranks[bank.rank].write_ready = now + t.column_s
    pseudo = dram.pseudos[bank.pseudo]
    pseudo.read_ready = max(pseudo.read_ready, now + t.write_to_read_s)
    bank.pre_ready = max(bank.pre_ready, now + t.write_to_pre)
    bank.hits += 1
    channel.column_bus_free = now + t.column_bus
    channel.done = now + t.write_delay
    channel.write_bursts += 1


@jit_inline
def refresh(dram, number, now):
    """Refresh what is due in channel `number`; return the tick from which it can go on."""
    t, channel = dram.timing[0], dram.channels[number]
    # What was due long ago has been done in idle time, except for its last one.
    missed = (now - channel.refresh_due) // t.refresh_interval
    due = channel.refresh_due + missed * t.refresh_interval
    channel.refresh_due = due + t.refresh_interval
    of_rank = t.bank_groups * t.banks
    banks = t.ranks * of_rank
    for local in range(t.pseudo_channels):
        pseudo = number * t.pseudo_channels + local
        first = pseudo * t.rank_places * of_rank
        if t.is_per_bank_refresh:
            state = dram.pseudos[pseudo]
            bank = first + (state.refreshed_bank + missed) % banks
            state.refreshed_bank = (state.refreshed_bank + missed + 1) % banks
            _refresh_banks(dram, channel, bank, bank + 1, due)
        else:
            due = _refresh_banks(dram, channel, first, first + banks, due)
    return max(now, due) if not t.is_per_bank_refresh else now


@jit_inline
def _refresh_banks(dram, channel, first, end, due):
    """Close and refresh banks first:end together; return the tick of the refresh command."""
    t = dram.timing[0]
    begin = due
    for index in range(first, end):
        bank = dram.banks[index]
        if bank.row != CLOSED:
            begin = max(begin, pre_ready(dram, bank))
    was_open = False
    issued = due
    for index in range(first, end):
        bank = dram.banks[index]
        was_open |= bank.row != CLOSED
        issued = max(issued, bank.act_ready - t.act_to_act + t.act_to_refresh)
    if was_open:
        begin = max(begin, channel.row_bus_free)
        issued = max(issued, begin + t.pre_to_refresh)
        channel.row_bus_free = begin + t.pre_bus
    for index in range(first, end):
        bank = dram.banks[index]
        bank.row = CLOSED
        bank.act_ready = max(bank.act_ready, issued + t.refresh_to_act)
    return issued
