"""When what transfers fetched into a cache has arrived: a ring of the recent ones."""

import numpy as np

from accelsim.runtime.jit import jit_inline, jit_inner

RING = 1 << 16
"""Transfers whose end is remembered; what an older one fetched has long arrived."""


@jit_inner
def begin_transfer(cache, time_cycles):
    """Count a transfer; `end_transfer` tells when what it fetches has arrived."""
    state, arrivals = cache.state[0], cache.arrivals
    state.num_settled = max(state.num_settled, state.num_transfers + 1 - RING)
    while (
        state.num_settled < state.num_transfers
        and arrivals[(state.num_settled + 1) % RING] <= time_cycles
    ):
        state.num_settled += 1
    state.num_transfers += 1
    state.num_pieces = 0
    arrivals[state.num_transfers % RING] = 0


@jit_inner
def end_transfer(cache, arrival):
    """Tell when the last fetched byte of the transfer is there."""
    cache.arrivals[cache.state[0].num_transfers % RING] = arrival


@jit_inline
def arrival_of(fetched_by, state, arrivals):
    """Return the cycle in which what was fetched into a way last is there, 0 if it is by now."""
    return np.int64(0) if fetched_by <= state.num_settled else arrivals[fetched_by % RING]
