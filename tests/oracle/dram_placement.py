"""Bursts placed one by one, written to be read: sets of taken slots, and one loop for one rule.

It shares the numbers of the rules (`memory.hbm.bursts.rules`) with the compiled code, and none
of its calendars. What those forget is said here as the first slot from which they still know.
"""

import math
from bisect import insort
from dataclasses import dataclass, field

from accelsim.engine.memory.hbm.bursts.rules import FACTOR_BITS, SLOT_TICKS
from accelsim.engine.memory.hbm.bursts.slots import NUM_WORDS

WORD = 64
HALF = NUM_WORDS // 2
"""Words that are kept before the one needed when older ones are forgotten."""


def first_free(slot, *taken):
    """Return the first slot from `slot` on that is in none of the sets."""
    while any(slot in each for each in taken):
        slot += 1
    return slot


@dataclass
class Horizon:
    """The first slot that the calendars of a channel know; they go on when one is far ahead."""

    first: int = 0

    def reach(self, slot):
        if slot // WORD > self.first // WORD + NUM_WORDS - 2:
            self.first = (slot // WORD - HALF) * WORD

    def first_free(self, wanted, *taken):
        self.reach(wanted)
        slot = first_free(max(wanted, self.first), *taken)
        self.reach(slot)
        return slot


@dataclass
class Bank:
    opened_at: int
    refreshed_at: int
    pre_ready: int
    row: int | None = None
    last_column: int = 0


@dataclass
class Pseudo:
    """A pseudo-channel."""

    pins: set = field(default_factory=set)
    activations: set = field(default_factory=set)
    read_ready: int = 0
    write_ready: int = 0
    has_read: bool = False
    first_write: int | None = None
    last_write: int = 0


@dataclass
class Write:
    bank: int
    row: int
    arrival: int
    left: int = 0


@dataclass
class Queue:
    """Bursts that wait for their command; departures: slots of those placed and not yet counted."""

    entries: int
    pins: int
    """Pseudo-channels: a slot of departures is as long as a burst if all of them move one."""
    arrived: int = 0
    placed: int = 0
    left: int = 0
    left_slot: int = 0
    room_at: int = 0
    departures: list = field(default_factory=list)

    def arrive(self):
        """Return the tick from which there is room."""
        self.arrived += 1
        if self.arrived - self.left > self.entries:
            while self.arrived - self.left > self.entries:
                self.left_slot = self.departures.pop(0)
                self.left += 1
            self.room_at = self.left_slot * SLOT_TICKS // self.pins
        return self.room_at

    def leave(self, tick):
        slot = max(self.left_slot, tick * self.pins // SLOT_TICKS)
        kept = (slot // WORD - HALF) * WORD
        while self.departures and self.departures[0] < kept:
            self.departures.pop(0)
            self.left += 1
        self.left_slot = max(self.left_slot, kept)
        insort(self.departures, first_free(slot, set(self.departures)))
        self.placed += 1


@dataclass(frozen=True)
class Placed:
    """What was given to a command: its slot and its tick."""

    bank: int
    slot: int
    tick: int
    is_write: bool | None = None
    """None for an activation."""


class Channel:
    """One channel: bursts in, ticks out."""

    def __init__(self, rules):
        self.rules = rules
        of_pseudo = 1 << rules.pseudo_bits
        self.banks = []
        for number in range(rules.pseudo_channels * of_pseudo):
            refreshed_at = rules.interval
            if rules.bank_stop:
                refreshed_at = rules.interval * (number % of_pseudo + 1) // rules.banks
            self.banks.append(Bank(-rules.act_to_act, refreshed_at, -rules.act_to_act))
        self.pseudos = [Pseudo() for _ in range(rules.pseudo_channels)]
        self.groups = [set() for _ in range(rules.bank_groups)]
        self.reads = Queue(rules.read_entries, rules.pseudo_channels)
        self.writes = Queue(rules.write_entries, rules.pseudo_channels)
        self.waiting = []
        self.columns, self.activations = Horizon(), Horizon()
        self.seen, self.last_read, self.turned_at = -1, 0, 0
        self.row_hits = 0
        self.history = []

    def serve(self, number, row, is_write, now):
        """Return the tick at which a burst that comes at tick `now` is done."""
        if now != self.seen:
            self.seen = now
            self.write_until(now)
        if is_write:
            return self.wait(number, row, max(now, self.writes.arrive()))
        return self.read(
            number, row, max(now, self.reads.arrive(), self.turned_at - self.rules.act_to_read)
        )

    def read(self, number, row, arrival):
        rules, bank, pseudo = self.rules, self.banks[number], self.pseudo_of(number)
        leaves = self.open(number, row, arrival)
        ready = max(bank.opened_at + rules.act_to_read, arrival, pseudo.read_ready)
        tick = self.column(number, ready, is_write=False)
        bank.pre_ready = max(bank.pre_ready, tick + rules.read_to_pre)
        pseudo.has_read = True
        self.last_read = max(self.last_read, tick)
        self.reads.leave(min(tick, leaves))
        return tick + rules.read_delay

    def wait(self, number, row, arrival):
        """A write is done when it has found room."""
        rules = self.rules
        self.waiting.append(Write(number, row, arrival))
        if len(self.waiting) > rules.high_writes:
            self.turn_to_writes(arrival)
            written = []
            while len(self.waiting) >= rules.low_writes:
                written.append(self.write())
            self.turn_to_reads(written)
        return arrival

    def write_until(self, now):
        """Write in the time before `now` in which nothing is read; None: all that waits."""
        idle_from, written = max(self.last_read, self.turned_at), []
        while self.waiting:
            if now is not None and max(self.waiting[0].arrival, idle_from) >= now:
                break
            if not written:
                self.turn_to_writes(idle_from)
            written.append(self.write())
            idle_from = max(idle_from, written[-1].left)
        if written:
            self.turn_to_reads(written)

    def write(self):
        rules, burst = self.rules, self.waiting.pop(0)
        bank, pseudo = self.banks[burst.bank], self.pseudo_of(burst.bank)
        leaves = self.open(burst.bank, burst.row, burst.arrival)
        ready = max(bank.opened_at + rules.act_to_write, burst.arrival, pseudo.write_ready)
        tick = self.column(burst.bank, ready, is_write=True)
        bank.pre_ready = max(bank.pre_ready, tick + rules.write_to_pre)
        if pseudo.first_write is None or tick < pseudo.first_write:
            pseudo.first_write = tick
        burst.left = min(tick, leaves)
        self.writes.leave(burst.left)
        return burst

    def open(self, number, row, arrival):
        """Return the tick from which the burst no longer holds its place, open row permitting."""
        rules, bank = self.rules, self.banks[number]
        is_refreshed = arrival >= bank.refreshed_at
        is_closed = is_refreshed or bank.row is None
        if rules.is_closed_page and (bank.row != row or arrival > bank.last_column):
            is_closed = True
        if bank.row == row and not is_closed:
            self.row_hits += 1
            return math.inf
        ready = max(bank.opened_at + rules.act_to_act, bank.pre_ready + rules.pre_to_act, arrival)
        if not is_closed:
            ready = max(ready, arrival + rules.pre_to_act)
        if ready >= bank.refreshed_at:
            ready = max(bank.refreshed_at, bank.pre_ready, arrival)
        tick = self.activation(number, ready)
        while bank.refreshed_at <= tick:
            bank.refreshed_at += rules.interval
        bank.row, bank.opened_at, bank.pre_ready = row, tick, tick + rules.act_to_pre
        return tick

    def activation(self, number, ready):
        rules, bank, taken = self.rules, self.banks[number], self.pseudo_of(number).activations
        if rules.bank_stop and ready >= bank.refreshed_at:
            since = (ready - bank.refreshed_at) % rules.interval
            if since < rules.bank_stop:
                ready += rules.bank_stop - since
        wanted = ready * rules.activation_factor // 2**FACTOR_BITS
        slot = self.activations.first_free(wanted, taken)
        taken.add(slot)
        tick = ready + (slot - wanted) * rules.activation
        self.history.append(Placed(number, slot, tick))
        return tick

    def column(self, number, ready, is_write):
        pins, reach = self.pseudo_of(number).pins, self.rules.group_slots
        group = self.groups[number >> self.rules.group_bits]
        slot = self.columns.first_free(ready // SLOT_TICKS, pins, group)
        pins.add(slot)
        group.update(range(max(self.columns.first, slot - reach + 1), slot + reach))
        tick = self.banks[number].last_column = max(ready, slot * SLOT_TICKS)
        self.history.append(Placed(number, slot, tick, is_write))
        return tick

    def turn_to_writes(self, tick):
        """Writes begin after the reads that are on the pins without a long pause."""
        for pseudo in self.pseudos:
            pseudo.first_write = None
            if pseudo.has_read:
                last = self.last_before_pause(pseudo, (tick + self.rules.act_to_read) // SLOT_TICKS)
                ready = last * SLOT_TICKS + self.rules.read_to_write
                pseudo.write_ready = max(pseudo.write_ready, ready)
                pseudo.has_read = False

    def turn_to_reads(self, written):
        """Reads go on after the writes that are on the pins without a long pause."""
        for pseudo in self.pseudos:
            if pseudo.first_write is not None:
                last = self.last_before_pause(pseudo, pseudo.first_write // SLOT_TICKS)
                pseudo.last_write = last * SLOT_TICKS
                ready = pseudo.last_write + self.rules.write_to_read
                pseudo.read_ready = max(pseudo.read_ready, ready)
        for burst in written:
            if burst.left <= self.pseudo_of(burst.bank).last_write:
                self.turned_at = max(self.turned_at, burst.left)

    def last_before_pause(self, pseudo, slot):
        """Return the slot before the first `turn_slots` free ones from `slot` on."""
        slot = max(slot, self.columns.first)
        while not pseudo.pins.isdisjoint(range(slot, slot + self.rules.turn_slots)):
            slot += 1
        return slot - 1

    def pseudo_of(self, number):
        return self.pseudos[number >> self.rules.pseudo_bits]
