"""Parameters and state of banked channels, as arrays of records of 64-bit integers.

All times are ticks: the half clocks of the DRAM (`DramSpec`). Every `*_ready` is the first tick at
which a command may issue as far as that level of the device knows; the latest of the levels counts.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.runtime.jit import borrow, jit_inline

Records = npt.NDArray[Any]


def record(*names: str) -> np.dtype[Any]:
    """Return the type of records of 64-bit integers with attributes, without the compiler too."""
    return np.dtype((np.record, np.dtype([(name, np.int64) for name in names], align=True)))


def records(shape: int | tuple[int, ...], kind: np.dtype[Any]) -> Any:
    """Return zeroed records with their fields as attributes."""
    return np.zeros(shape, kind).view(np.recarray)


TIMING = record(
    # Constraints between commands, counted from first tick to first tick.
    "act_to_read",
    "act_to_write",
    "act_to_pre",
    "act_to_act",
    "act_to_act_s",
    "act_to_act_l",
    "four_acts",
    "pre_to_act",
    "pre_to_pre",
    "read_to_pre",
    "write_to_pre",
    "column_s",
    "column_l",
    "column_r",
    "read_to_write",
    "write_to_read_s",
    "write_to_read_l",
    "read_delay",  # from a read to the end of its data
    "write_delay",
    "pre_to_refresh",
    "act_to_refresh",
    "refresh_to_act",
    "refresh_interval",
    # Ticks that a command occupies its bus.
    "act_bus",
    "pre_bus",
    "column_bus",
    "clock",  # ticks between the edges on which activations and columns may begin
    # Shape of one channel.
    "pseudo_channels",
    "ranks",
    "rank_places",  # in the numbers of banks, a power of two; the last may not be there
    "bank_groups",
    "banks",
    # Policy of the controller.
    "is_per_bank_refresh",
    "is_closed_page",
    "max_hits",  # hits after which a row may be closed although more are waiting; 0: at any time
    "read_entries",
    "write_entries",
    "high_writes",  # more waiting writes than this are drained
    "low_writes",  # to less than this
)

BANK = record(
    "group",
    "rank",
    "pseudo",
    "row",  # open row or CLOSED
    "act_ready",
    "pre_ready",
    "read_ready",
    "write_ready",
    "hits",  # columns since the row was opened
    "waiting",  # opened for a burst that has not been issued
    "place",  # among the offers of its channel, or NONE
)

GROUP = record("act_ready", "read_ready", "write_ready")
RANK = record("read_ready", "write_ready")
PSEUDO = record(
    "act_ready", "pre_ready", "read_ready", "write_ready", "oldest_act", "refreshed_bank"
)

CHANNEL = record(
    "now",  # tick of the last step of the controller
    "row_bus_free",
    "column_bus_free",
    "refresh_due",
    "is_writing",
    "reads",  # bursts in the read queue
    "writes",
    "opened_reads",  # bursts for which a row has been opened
    "opened_writes",
    "column_wake",  # no column can issue before
    "row_wake",  # no row command can issue before
    "busy_banks",  # with offers
    "columns",  # among the offers
    "rows",
    "arrived",  # entries so far
    "done",  # end of the last data of the burst issued last
    "first_run",  # of the transfer being served
    "last_run",
    "activates",
    "read_bursts",
    "write_bursts",
    "row_hits",
)

LIST = record("first", "last")
ENTRY = record(
    "bank",
    "row",
    "left",
    "is_write",
    "age",  # smaller is older
    "wake",  # no command for it can issue before this tick; of an opened one
    "before",
    "after",
)
OFFER = record(
    "bank",
    "hit",  # oldest entry for the open row, or NONE
    "column_at",  # tick before which it cannot issue
    "miss",  # oldest entry that needs another row, if that may be opened or the open one closed
    "row_at",
)
RUN = record("bank", "row", "bursts", "is_write", "next")

CLOSED = -1
NONE = -1
NEVER = 1 << 62
OPENED, FREE, NUM_LISTS = range(3)
"""Lists of entries of a channel: bursts whose row was opened for them, and entries not in use."""
NUM_KINDS = 2
"""Reads and writes, which wait apart."""


class Dram(NamedTuple):
    """The state of all channels; levels below a channel are numbered through all channels."""

    timing: Records
    """[1]."""
    banks: Records
    groups: Records
    """Bank groups."""
    ranks: Records
    pseudos: Records
    """Pseudo-channels."""
    acts: Records
    """int64 [pseudo-channel, 4], ticks at which the last four activations leave the window."""
    channels: Records
    lists: Records
    """[channel, list]."""
    entries: Records
    """[channel, entry], bursts that the controller of a channel sees."""
    waiting: Records
    """[bank, is_write], list of entries in the order of arrival."""
    newest: npt.NDArray[np.int64]
    """[channel, is_write], the entry that came last, or NONE where it has gone."""
    offers: Records
    """[channel, place], what banks with bursts of the kind being served could do next; the first
    `busy_banks`, in no order."""
    runs: Records
    """[run], bursts of the transfer being served that follow each other in one row."""


@jit_inline
def borrowed_dram(dram):
    """Return the same state as borrowed views."""
    return Dram(
        borrow(dram.timing),
        borrow(dram.banks),
        borrow(dram.groups),
        borrow(dram.ranks),
        borrow(dram.pseudos),
        borrow(dram.acts),
        borrow(dram.channels),
        borrow(dram.lists),
        borrow(dram.entries),
        borrow(dram.waiting),
        borrow(dram.newest),
        borrow(dram.offers),
        borrow(dram.runs),
    )
