"""State of channels whose bursts are placed one by one: records, and calendars of slots.

All times are ticks of `accelsim.engine.memory.hbm.bursts.rules`; slot 0 begins at tick 0.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.memory.hbm.bursts.rules import Rules, rules_of
from accelsim.engine.memory.hbm.bursts.slots import NUM_WORDS
from accelsim.engine.memory.hbm.state import CLOSED, NUM_KINDS, Records, record, records
from accelsim.runtime.jit import borrow, jit_inline

BANK = record(
    "row",  # opened last, or CLOSED
    "opened_at",
    "refreshed_at",  # its first refresh after that
    "pre_ready",
    "last_column",
)
PSEUDO = record(
    "read_ready",
    "write_ready",
    "has_read",  # since it turned to writes
    "first_write",  # since then
    "last_write",  # after which reads went on
)
CHANNEL = record(
    "seen",  # tick of the last transfer
    "first_activation",  # word at which the calendar of activations begins
    "first_column",  # and those of the pins and of the bank groups
    "last_read",
    "turned_at",  # tick from which reads go again after the last writes
    "activates",
    "read_bursts",
    "write_bursts",
    "row_hits",
)
QUEUE = record(
    "arrived",
    "placed",
    "left",
    "left_slot",  # in the calendar of departures, of the last one counted
    "room_at",  # tick at which there was room for the burst that arrived last
)
WAITING = record("bank", "row", "arrival", "left")
Words = npt.NDArray[np.int64]


class Plan(NamedTuple):
    """Parameters and state; levels below a channel are numbered through all channels."""

    rules: Rules
    channels: Records
    banks: Records
    pseudos: Records
    pins: Words
    """[pseudo-channel, word], calendar of bursts."""
    groups: Words
    """[bank group, word], calendar of the slots in which a group cannot move another burst."""
    activations: Words
    """[pseudo-channel, word], calendar whose slots are activations apart."""
    queues: Records
    """[channel, is_write]."""
    departures: Words
    """[channel, is_write, word], calendar of bursts that leave the queue; as many slots in a time
    as there are on all pins of the channel."""
    waiting: Records
    """[channel, entry], ring of writes that wait."""


def new_plan(channels: int, parameters: Mapping[str, int]) -> Plan:
    """Return idle channels; parameters: as `parameters_of` gives them."""
    rules = rules_of(parameters)
    pseudos = channels * rules.pseudo_channels
    states = records(channels, CHANNEL)
    states.seen = -1
    return Plan(
        rules=rules,
        channels=states,
        banks=_banks(pseudos, rules),
        pseudos=records(pseudos, PSEUDO),
        pins=_calendars(pseudos),
        groups=_calendars(channels * rules.bank_groups),
        activations=_calendars(pseudos),
        queues=records((channels, NUM_KINDS), QUEUE),
        departures=_calendars(channels, NUM_KINDS),
        waiting=records((channels, rules.write_entries), WAITING),
    )


def _banks(pseudos: int, rules: Rules) -> Records:
    places = 1 << rules.pseudo_bits
    banks = records(pseudos * places, BANK)
    number = np.arange(banks.size) % places
    banks.row = CLOSED
    banks.opened_at = banks.pre_ready = -rules.act_to_act
    banks.refreshed_at = rules.interval
    if rules.bank_stop:
        banks.refreshed_at = rules.interval * (number + 1) // rules.banks
    return banks


def _calendars(*shape: int) -> Words:
    return np.zeros((*shape, NUM_WORDS), np.int64)


@jit_inline
def borrowed_plan(plan):
    """Return the same state as borrowed views."""
    return Plan(
        plan.rules,
        borrow(plan.channels),
        borrow(plan.banks),
        borrow(plan.pseudos),
        borrow(plan.pins),
        borrow(plan.groups),
        borrow(plan.activations),
        borrow(plan.queues),
        borrow(plan.departures),
        borrow(plan.waiting),
    )


@jit_inline
def working_tick(plan, tick):
    """Return a tick of real time in the time that stops for refreshes of all banks."""
    period = plan.rules.interval + plan.rules.stop
    whole = tick // period
    return whole * plan.rules.interval + min(tick - whole * period, plan.rules.interval)


@jit_inline
def real_tick(plan, tick):
    """Return the tick of real time at a tick of the time that stops for refreshes."""
    return tick + tick // plan.rules.interval * plan.rules.stop
