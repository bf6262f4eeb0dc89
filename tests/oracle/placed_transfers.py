"""Transfers through the door of the memory, by the compiled placement and by the one of sets."""

from accelsim.engine.memory.door import new_memory, request
from accelsim.engine.memory.hbm.banked import counted
from accelsim.engine.memory.hbm.bursts.rules import rules_of
from accelsim.engine.memory.hbm.bursts.slots import NUM_WORDS
from accelsim.engine.memory.hbm.parameters import parameters_of
from accelsim.program.transfer import Transfer
from tests.handmade import machine_of, program_of
from tests.oracle.dram_addresses import place_of
from tests.oracle.dram_placement import WORD, Channel

RING = NUM_WORDS * WORD


def rules_of_hbm(hbm):
    """Return the rules of a banked memory."""
    policy = {
        "is_per_bank_refresh": int(hbm.refresh == "per_bank"),
        "is_closed_page": int(hbm.page == "closed"),
    }
    return rules_of(parameters_of(hbm.dram.shape, hbm.dram.timing, hbm.controller, policy))


def placed_by_both(hbm, transfers, clock_hz=1e9):
    """Serve transfers by both, find no difference, and return the channels of the one of sets.

    transfers: (cycles since the last one, address, rows, row_bytes, step_bytes, is_write).
    """
    machine = machine_of().model_copy(update={"clock": clock_hz, "hbm": hbm})
    memory, rules = new_memory(machine, program_of([])), rules_of_hbm(hbm)
    plan, ratio = memory.hbm.device.state, memory.hbm.device
    channels = [Channel(rules) for _ in range(hbm.channels)]
    time_cycles = 0
    for wait, address, rows, row_bytes, step, is_write in transfers:
        time_cycles += wait
        now = working_tick(rules, -(-time_cycles * ratio.ticks // ratio.cycles))
        done = now
        for row in range(rows):
            begin = address + row * step
            for channel, *burst in places_of(hbm, begin, begin + row_bytes):
                done = max(done, channels[channel].serve(*burst, is_write, now))
        real = real_tick(rules, done)
        served = request(
            memory, time_cycles, Transfer(address, rows, row_bytes, step, -1, is_write)
        )
        assert served == -(-real * ratio.cycles // ratio.ticks) + machine.hbm_latency_cycles
    assert_same_state(plan, channels)
    found = counted(memory.hbm.device)
    for number, channel in enumerate(channels):
        channel.write_until(None)
        assert counts_of(found[number]) == counts_of_sets(channel)
    assert_same_state(plan, channels)
    return channels


def working_tick(rules, tick):
    """Return the tick of the time that stops for refreshes of all banks."""
    whole, rest = divmod(tick, rules.interval + rules.stop)
    return whole * rules.interval + min(rest, rules.interval)


def real_tick(rules, tick):
    """Return the tick of real time."""
    return tick + tick // rules.interval * rules.stop


def places_of(hbm, begin, end):
    """Yield channel, bank and row of the bursts with bytes begin:end."""
    shape = hbm.dram.shape
    for burst in range(begin // shape.burst, (end - 1) // shape.burst + 1):
        yield place_of(burst, hbm.digits, shape)


def counts_of(record):
    names = ("activates", "row_hits", "read_bursts", "write_bursts")
    return {name: int(record[name]) for name in names}


def counts_of_sets(channel):
    kinds = [placed.is_write for placed in channel.history]
    return {
        "activates": kinds.count(None),
        "row_hits": channel.row_hits,
        "read_bursts": kinds.count(False),
        "write_bursts": kinds.count(True),
    }


def assert_same_state(plan, channels):
    """Compare banks, and what the calendars still know."""
    for number, channel in enumerate(channels):
        for place, bank in enumerate(channel.banks):
            found = plan.banks[number * len(channel.banks) + place]
            expected = {name: found[name] for name in found.dtype.names if bank.row is not None}
            assert expected == ({} if bank.row is None else vars(bank))
        activations, columns = channel.activations.first, channel.columns.first
        for place, pseudo in enumerate(channel.pseudos):
            index = number * len(channel.pseudos) + place
            assert_same_slots(plan.activations[index], pseudo.activations, activations)
            assert_same_slots(plan.pins[index], pseudo.pins, columns)
        for place, group in enumerate(channel.groups):
            found = slots_of(plan.groups[number * len(channel.groups) + place], columns)
            assert found == known(group, columns)
        for place, queue in enumerate((channel.reads, channel.writes)):
            begin = queue.left_slot // WORD * WORD
            assert slots_of(plan.departures[number, place], begin) == set(queue.departures)


def assert_same_slots(words, slots, first):
    """Compare a ring that begins at slot `first`, whose last word ends every search."""
    found = slots_of(words, first)
    assert found == known(slots, first)
    assert max(found, default=first) < first + RING - WORD


def known(slots, first):
    """Return the slots of a ring that begins at `first`."""
    return {slot for slot in slots if first <= slot < first + RING}


def slots_of(words, first):
    """Return the slots that are taken in a ring that begins at slot `first`, that of a word."""
    bits = [
        place * WORD + bit
        for place, word in enumerate(words.tolist())
        if word
        for bit in range(WORD)
        if word >> bit & 1
    ]
    return {first + (slot - first) % RING for slot in bits}
