"""Bursts placed one by one: each gets its activation and its time on the pins, once and for all.

Bursts come in the order of arrival and take the first slots that are free once their bank is ready,
so that one which waits for its bank does not hold up others: what a reordering window is for. A
burst is in sight of the controller once all but a window of those before it have left. Writes wait
in a queue and are placed together, between reads.
"""

from accelsim.engine.memory.hbm.bursts.rules import FACTOR_BITS, SLOT_BITS
from accelsim.engine.memory.hbm.bursts.slots import (
    KEPT_WORDS,
    NUM_WORDS,
    WORD_BITS,
    first_free,
    first_free_of_both,
    first_gap,
    take,
    take_around,
)
from accelsim.engine.memory.hbm.bursts.window import leave, room
from accelsim.engine.memory.hbm.state import CLOSED, NEVER
from accelsim.runtime.jit import jit_inline

_AHEAD = NUM_WORDS - 2
"""Words after its first that a calendar uses: the next is free, which ends every search."""


@jit_inline
def place_run(plan, number, index, row, bursts, is_write, now):
    """Serve bursts of a row of bank `index` from tick `now`; return the tick at which all are done.

    A write is done when there is room for it in the queue.
    """
    channel = plan.channels[number]
    if channel.seen != now:
        channel.seen = now
        write_until(plan, number, now)
    done = now
    for _ in range(bursts):
        arrival = max(now, room(plan, number, is_write))
        if is_write:
            _wait(plan, channel, number, index, row, arrival)
            done = max(done, arrival)
        else:
            arrival = max(arrival, channel.turned_at - plan.rules.act_to_read)
            done = max(done, _read(plan, channel, number, index, row, arrival))
    return done


@jit_inline
def _read(plan, channel, number, index, row, arrival):
    """Place a read; return the tick at which its data have moved."""
    rules, bank = plan.rules, plan.banks[index]
    pseudo = plan.pseudos[index >> rules.pseudo_bits]
    opened = _open(plan, channel, number, index, row, arrival)
    ready = max(bank.opened_at + rules.act_to_read, arrival, pseudo.read_ready)
    tick = _column(plan, channel, number, index, ready)
    bank.pre_ready = max(bank.pre_ready, tick + rules.read_to_pre)
    pseudo.has_read = 1
    channel.last_read = max(channel.last_read, tick)
    channel.read_bursts += 1
    leave(plan, number, 0, min(tick, opened))
    return tick + rules.read_delay


@jit_inline
def _open(plan, channel, number, index, row, arrival):
    """Open `row` unless it is; return the tick at which that lets the burst leave, or NEVER."""
    rules, bank = plan.rules, plan.banks[index]
    is_closed = arrival >= bank.refreshed_at or bank.row == CLOSED
    if rules.is_closed_page:
        # Closed by its last column, unless another burst was in sight.
        is_closed |= bank.row != row or arrival > bank.last_column
    if bank.row == row and not is_closed:
        channel.row_hits += 1
        return NEVER
    ready = max(bank.opened_at + rules.act_to_act, arrival, bank.pre_ready + rules.pre_to_act)
    if not is_closed:
        ready = max(ready, arrival + rules.pre_to_act)
    if ready >= bank.refreshed_at:
        # It is closed for the refresh.
        ready = max(bank.refreshed_at, bank.pre_ready, arrival)
    tick = _activation(plan, channel, number, index, ready)
    if tick >= bank.refreshed_at:
        missed = 1 + (tick - bank.refreshed_at) // rules.interval
        bank.refreshed_at += missed * rules.interval
    bank.row, bank.opened_at, bank.pre_ready = row, tick, tick + rules.act_to_pre
    channel.activates += 1
    return tick


@jit_inline
def _activation(plan, channel, number, index, ready):
    """Take the first slot of the pseudo-channel for an activation from tick `ready` on."""
    rules, refreshed_at = plan.rules, plan.banks[index].refreshed_at
    if rules.bank_stop > 0 and ready >= refreshed_at:
        ready += max(0, rules.bank_stop - (ready - refreshed_at) % rules.interval)
    wanted = (ready * rules.activation_factor) >> FACTOR_BITS
    if wanted >> WORD_BITS > channel.first_activation + _AHEAD:
        _forget_activations(plan, channel, number, (wanted >> WORD_BITS) - KEPT_WORDS)
    slots = plan.activations[index >> rules.pseudo_bits]
    slot = first_free(slots, max(wanted, channel.first_activation << WORD_BITS))
    if slot >> WORD_BITS > channel.first_activation + _AHEAD:
        _forget_activations(plan, channel, number, (slot >> WORD_BITS) - KEPT_WORDS)
    take(slots, slot)
    return ready + (slot - wanted) * rules.activation


@jit_inline
def _column(plan, channel, number, index, ready):
    """Take the first slot of the pins that the bank group can use from tick `ready` on."""
    rules, wanted = plan.rules, ready >> SLOT_BITS
    if wanted >> WORD_BITS > channel.first_column + _AHEAD:
        _forget_columns(plan, channel, number, (wanted >> WORD_BITS) - KEPT_WORDS)
    pins, group = plan.pins[index >> rules.pseudo_bits], plan.groups[index >> rules.group_bits]
    slot = first_free_of_both(pins, group, max(wanted, channel.first_column << WORD_BITS))
    if slot >> WORD_BITS > channel.first_column + _AHEAD:
        # First, for what is taken may reach into the word after the last.
        _forget_columns(plan, channel, number, (slot >> WORD_BITS) - KEPT_WORDS)
    take(pins, slot)
    take_around(group, slot, rules.group_slots, channel.first_column << WORD_BITS)
    tick = max(ready, slot << SLOT_BITS)
    plan.banks[index].last_column = tick
    return tick


@jit_inline
def _forget_activations(plan, channel, number, word):
    """Let the calendars of activations begin at `word`."""
    pseudos = plan.rules.pseudo_channels
    for old in range(max(channel.first_activation, word - NUM_WORDS), word):
        for pseudo in range(number * pseudos, (number + 1) * pseudos):
            plan.activations[pseudo, old % NUM_WORDS] = 0
    channel.first_activation = word


@jit_inline
def _forget_columns(plan, channel, number, word):
    """Let the calendars of the pins and of the bank groups begin at `word`."""
    pseudos, groups = plan.rules.pseudo_channels, plan.rules.bank_groups
    for old in range(max(channel.first_column, word - NUM_WORDS), word):
        for pseudo in range(number * pseudos, (number + 1) * pseudos):
            plan.pins[pseudo, old % NUM_WORDS] = 0
        for group in range(number * groups, (number + 1) * groups):
            plan.groups[group, old % NUM_WORDS] = 0
    channel.first_column = word


@jit_inline
def _wait(plan, channel, number, index, row, arrival):
    """Queue a write, and place many once too many wait."""
    rules, queue = plan.rules, plan.queues[number, 1]
    waiting = plan.waiting[number, (queue.arrived - 1) % rules.write_entries]
    waiting.bank, waiting.row, waiting.arrival = index, row, arrival
    if queue.arrived - queue.placed > rules.high_writes:
        first = queue.placed
        _turn_to_writes(plan, channel, number, arrival)
        while queue.arrived - queue.placed >= rules.low_writes:
            _write_next(plan, channel, number, queue)
        _turn_to_reads(plan, channel, number, first, queue.placed)


@jit_inline
def write_until(plan, number, now):
    """Write what waits, in the time before `now` in which nothing is read."""
    channel, queue = plan.channels[number], plan.queues[number, 1]
    first, idle_from = queue.placed, max(channel.last_read, channel.turned_at)
    while queue.placed < queue.arrived:
        waiting = plan.waiting[number, queue.placed % plan.rules.write_entries]
        if max(waiting.arrival, idle_from) >= now:
            break
        if queue.placed == first:
            _turn_to_writes(plan, channel, number, idle_from)
        _write_next(plan, channel, number, queue)
        idle_from = max(idle_from, waiting.left)
    if queue.placed > first:
        _turn_to_reads(plan, channel, number, first, queue.placed)


@jit_inline
def _write_next(plan, channel, number, queue):
    """Place the write that came first."""
    rules = plan.rules
    waiting = plan.waiting[number, queue.placed % rules.write_entries]
    bank, pseudo = plan.banks[waiting.bank], plan.pseudos[waiting.bank >> rules.pseudo_bits]
    opened = _open(plan, channel, number, waiting.bank, waiting.row, waiting.arrival)
    ready = max(bank.opened_at + rules.act_to_write, waiting.arrival, pseudo.write_ready)
    tick = _column(plan, channel, number, waiting.bank, ready)
    bank.pre_ready = max(bank.pre_ready, tick + rules.write_to_pre)
    pseudo.first_write = min(pseudo.first_write, tick)
    waiting.left = min(tick, opened)
    channel.write_bursts += 1
    leave(plan, number, 1, waiting.left)


@jit_inline
def _turn_to_writes(plan, channel, number, tick):
    """Let writes begin after the reads that move from `tick` on without a long pause."""
    rules, end = plan.rules, (channel.first_column + NUM_WORDS) << WORD_BITS
    slot = max((tick + rules.act_to_read) >> SLOT_BITS, channel.first_column << WORD_BITS)
    for index in range(number * rules.pseudo_channels, (number + 1) * rules.pseudo_channels):
        pseudo = plan.pseudos[index]
        pseudo.first_write = NEVER
        if pseudo.has_read:
            last = first_gap(plan.pins[index], slot, rules.turn_slots, end) - 1
            pseudo.write_ready = max(pseudo.write_ready, (last << SLOT_BITS) + rules.read_to_write)
            pseudo.has_read = 0


@jit_inline
def _turn_to_reads(plan, channel, number, first, placed):
    """Let reads go on after writes first:placed, but for those that come after a long pause.

    Rows of the first reads are open when the pins have turned: they were in sight before.
    """
    rules, end = plan.rules, (channel.first_column + NUM_WORDS) << WORD_BITS
    for index in range(number * rules.pseudo_channels, (number + 1) * rules.pseudo_channels):
        pseudo = plan.pseudos[index]
        if pseudo.first_write != NEVER:
            slot = max(pseudo.first_write >> SLOT_BITS, channel.first_column << WORD_BITS)
            last = first_gap(plan.pins[index], slot, rules.turn_slots, end) - 1
            pseudo.last_write = last << SLOT_BITS
            pseudo.read_ready = max(pseudo.read_ready, pseudo.last_write + rules.write_to_read)
    for i in range(first, placed):
        waiting = plan.waiting[number, i % rules.write_entries]
        if waiting.left <= plan.pseudos[waiting.bank >> rules.pseudo_bits].last_write:
            channel.turned_at = max(channel.turned_at, waiting.left)
