"""The idle state of channels whose controllers choose every command."""

from collections.abc import Mapping

import numpy as np

from accelsim.engine.memory.hbm.state import (
    BANK,
    CHANNEL,
    CLOSED,
    ENTRY,
    FREE,
    GROUP,
    LIST,
    NONE,
    NUM_KINDS,
    NUM_LISTS,
    OFFER,
    PSEUDO,
    RANK,
    RUN,
    TIMING,
    Dram,
    Records,
    records,
)


def new_dram(channels: int, parameters: Mapping[str, int], capacity_runs: int) -> Dram:
    """Return idle channels; parameters: as `parameters_of` gives them."""
    timing = records(1, TIMING)
    for name, value in parameters.items():
        timing[name] = value
    pseudos = channels * parameters["pseudo_channels"]
    ranks = pseudos * parameters["rank_places"]
    groups = ranks * parameters["bank_groups"]
    states = records(channels, CHANNEL)
    states.refresh_due = parameters["refresh_interval"]
    states.first_run = states.last_run = NONE
    banks = _banks(parameters, groups)
    lists, entries = _lists(
        channels,
        parameters["read_entries"] + parameters["write_entries"] + banks.size // channels,
    )
    waiting = records((banks.size, NUM_KINDS), LIST)
    waiting.first = waiting.last = NONE
    return Dram(
        timing=timing,
        banks=banks,
        groups=records(groups, GROUP),
        ranks=records(ranks, RANK),
        pseudos=records(pseudos, PSEUDO),
        acts=np.zeros((pseudos, 4), np.int64),
        channels=states,
        lists=lists,
        entries=entries,
        waiting=waiting,
        newest=np.full((channels, NUM_KINDS), NONE, np.int64),
        offers=records((channels, banks.size // channels), OFFER),
        runs=records(capacity_runs, RUN),
    )


def _banks(parameters: Mapping[str, int], groups: int) -> Records:
    banks = records(groups * parameters["banks"], BANK)
    number = np.arange(banks.size)
    banks.group = number // parameters["banks"]
    banks.rank = banks.group // parameters["bank_groups"]
    banks.pseudo = banks["rank"] // parameters["rank_places"]
    banks.row = CLOSED
    banks.place = NONE
    return banks


def _lists(channels: int, capacity: int) -> tuple[Records, Records]:
    """Return lists of channels without bursts, and entries that are all free."""
    entries = records((channels, capacity), ENTRY)
    entries.before = np.arange(capacity) - 1
    entries.after = np.arange(capacity) + 1
    entries.after[:, -1] = NONE
    lists = records((channels, NUM_LISTS), LIST)
    lists.first = lists.last = NONE
    lists.first[:, FREE], lists.last[:, FREE] = 0, capacity - 1
    return lists, entries
