"""What separates commands of the DRAM where bursts are placed one by one.

The unit of the calendars is the slot, the time of a burst on the pins of a pseudo-channel. Other
times are ticks of which a slot has `SLOT_TICKS`, so that one comes from the other by a shift.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from accelsim.engine.memory.hbm.parameters import ticks_per_clock
from accelsim.hardware.dram import DramTiming

SLOT_BITS = 6
SLOT_TICKS = 1 << SLOT_BITS
FACTOR_BITS = 24


class Rules(NamedTuple):
    """Ticks between commands, and what the controller does."""

    activation: int
    """Ticks from one activation of a pseudo-channel to the next."""
    activation_factor: int
    """Activations in 2^FACTOR_BITS ticks."""
    group_slots: int
    """Slots from one burst of a bank group to the next."""
    act_to_read: int
    act_to_write: int
    act_to_pre: int
    act_to_act: int
    pre_to_act: int
    read_to_pre: int
    write_to_pre: int
    read_to_write: int
    write_to_read: int
    turn_slots: int
    """Slots that the pins lose when they turn from reads to writes and back."""
    read_delay: int
    interval: int
    """From one refresh of a bank to the next, without the time that stops for all banks."""
    stop: int
    """Time of a refresh of all banks, in which nothing moves; 0 where banks take turns."""
    bank_stop: int
    """Time in which a bank that has been refreshed opens no row, where they take turns; else 0."""
    pseudo_channels: int
    bank_groups: int
    """Of a channel, over all places of ranks."""
    group_bits: int
    """Of a bank's number that tell it from others of its group; `pseudo_bits` likewise."""
    pseudo_bits: int
    banks: int
    """Of a pseudo-channel, the first of its numbers; beyond them none is there."""
    is_closed_page: int
    read_entries: int
    write_entries: int
    high_writes: int
    """More waiting writes than this are placed ..."""
    low_writes: int
    """... to less than this."""


def tick_seconds(parameters: Mapping[str, int], timing: DramTiming) -> float:
    """Return the length of a tick; parameters: as `parameters_of` gives them."""
    return _slot(parameters) * timing.t_ck / ticks_per_clock(timing) / SLOT_TICKS


def _slot(t: Mapping[str, int]) -> int:
    """Return the half clocks of a burst on the pins, or on the command bus if that is longer."""
    return max(t["column_s"], t["pseudo_channels"] * t["column_bus"])


def rules_of(parameters: Mapping[str, int]) -> Rules:
    """Return the rules; parameters: as `parameters_of` gives them."""
    t, slot = parameters, _slot(parameters)
    banks_of_pseudo = t["ranks"] * t["bank_groups"] * t["banks"]

    def ticks(half_clocks: int | Fraction) -> int:
        return round(Fraction(half_clocks) * SLOT_TICKS / slot)

    # At least a tick, for they divide times; bursts of more than 64 clocks need that.
    activation = max(
        1, ticks(max(Fraction(t["four_acts"], 4), Fraction(t["act_to_act_s"]), _row_commands(t)))
    )
    interval, stop, bank_stop = t["refresh_interval"], t["pre_to_refresh"] + t["refresh_to_act"], 0
    if t["is_per_bank_refresh"]:
        interval *= banks_of_pseudo
        stop, bank_stop = 0, t["refresh_to_act"]
    both_turns = t["read_to_write"] + t["write_to_read_s"]
    return Rules(
        activation=activation,
        activation_factor=(1 << FACTOR_BITS) // activation,
        group_slots=-(-t["column_l"] // slot),
        turn_slots=max(1, -(-both_turns // slot) - 2),
        act_to_read=ticks(t["act_to_read"]),
        act_to_write=ticks(t["act_to_write"]),
        act_to_pre=ticks(t["act_to_pre"]),
        act_to_act=ticks(t["act_to_act"]),
        pre_to_act=ticks(t["pre_to_act"]),
        read_to_pre=ticks(t["read_to_pre"]),
        write_to_pre=ticks(t["write_to_pre"]),
        read_to_write=ticks(t["read_to_write"]),
        write_to_read=ticks(t["write_to_read_s"]),
        read_delay=ticks(t["read_delay"]),
        interval=max(1, ticks(interval - stop)),
        stop=ticks(stop),
        bank_stop=ticks(bank_stop),
        pseudo_channels=t["pseudo_channels"],
        bank_groups=t["pseudo_channels"] * t["rank_places"] * t["bank_groups"],
        group_bits=t["banks"].bit_length() - 1,
        pseudo_bits=(t["rank_places"] * t["bank_groups"] * t["banks"]).bit_length() - 1,
        banks=banks_of_pseudo,
        is_closed_page=t["is_closed_page"],
        read_entries=t["read_entries"],
        write_entries=t["write_entries"],
        high_writes=t["high_writes"],
        low_writes=t["low_writes"],
    )


def _row_commands(t: Mapping[str, int]) -> Fraction:
    """Return the half clocks of the row command bus for a row in every pseudo-channel."""
    closing = 0 if t["is_closed_page"] else t["pre_bus"]
    return Fraction(t["pseudo_channels"] * (t["act_bus"] + closing))
