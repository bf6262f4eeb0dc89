"""A controller written to be read: every tick is visited and every burst is an entry of its own.

It shares the rules of the device (`memory.hbm.commands.timing`) with the real one, and nothing
of its queues. Run it with NUMBA_DISABLE_JIT, for the rules are compiled into their callers.
"""

from dataclasses import dataclass

from accelsim.engine.memory.hbm.commands import timing
from accelsim.engine.memory.hbm.state import CLOSED


@dataclass
class Burst:
    bank: int
    row: int
    is_write: bool
    is_opened: bool = False


class Controller:
    """One channel that takes bursts in order and serves them all."""

    def __init__(self, dram, bursts):
        self.dram, self.channel, self.t = dram, dram.channels[0], dram.timing[0]
        self.stream = list(bursts)
        self.queues = {False: [], True: []}
        self.opened = []
        self.is_writing = False
        self.now = self.last = 0

    def seconds(self):
        """Serve until all reads have returned and all writes were accepted; return the tick."""
        self.admit()
        while True:
            if not (self.stream or self.queues[False] or any(not b.is_write for b in self.opened)):
                return max(self.last, self.now)
            if self.now >= self.channel.refresh_due and not self.opened:
                self.now = timing.refresh(self.dram, 0, self.now)
            self.turn()
            self.issue_column()
            if self.now < self.channel.refresh_due:
                self.issue_row()
            self.admit()
            self.now += 1

    def admit(self):
        rooms = {False: self.t.read_entries, True: self.t.write_entries}
        while self.stream:
            burst = self.stream[0]
            if len(self.queues[burst.is_write]) >= rooms[burst.is_write]:
                return
            self.queues[burst.is_write].append(self.stream.pop(0))

    def turn(self):
        reads, writes = len(self.queues[False]), len(self.queues[True])
        if self.is_writing:
            self.is_writing = not (reads > 0 and writes < self.t.low_writes)
        else:
            self.is_writing = writes > self.t.high_writes or (reads == 0 and writes > 0)

    def issue_column(self):
        queue = [] if self.now >= self.channel.refresh_due else self.queues[self.is_writing]
        for burst in self.opened + queue:
            bank = self.dram.banks[burst.bank]
            if bank.row != burst.row:
                continue
            rule = timing.write_ready if burst.is_write else timing.read_ready
            ready = max(rule(self.dram, bank), self.channel.column_bus_free)
            if timing.rounded_up(ready, self.t.clock) <= self.now:
                act = timing.write if burst.is_write else timing.read
                act(self.dram, self.channel, bank, self.now)
                self.last = max(self.last, self.channel.done)
                (self.opened if burst.is_opened else queue).remove(burst)
                return

    def issue_row(self):
        queue = self.queues[self.is_writing]
        for place, burst in enumerate(queue):
            bank = self.dram.banks[burst.bank]
            if bank.row == burst.row:
                continue
            if bank.row == CLOSED:
                ready = max(timing.act_ready(self.dram, bank), self.channel.row_bus_free)
                if timing.rounded_up(ready, self.t.clock) <= self.now:
                    timing.activate(self.dram, self.channel, bank, burst.row, self.now)
                    burst.is_opened = True
                    self.opened.append(queue.pop(place))
                    return
            elif self.may_close(bank, burst, queue, place):
                ready = max(timing.pre_ready(self.dram, bank), self.channel.row_bus_free)
                if ready <= self.now:
                    timing.precharge(self.dram, self.channel, bank, self.now)
                    return

    def may_close(self, bank, burst, queue, place):
        if any(other.bank == burst.bank for other in self.opened):
            return False
        if self.t.max_hits == 0:
            return True
        others = [other for other in queue if other.bank == burst.bank]
        if others[0].row != burst.row:
            return False
        hits = [other for other in others if other.row == bank.row]
        return not hits or bank.hits >= self.t.max_hits
