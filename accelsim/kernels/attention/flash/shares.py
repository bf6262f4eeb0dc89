"""How cores share the memory at a block of query rows: compiled code."""

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash.cuts import (
    mean_keys,
)
from accelsim.kernels.attention.flash.known import (
    AHEAD,
    BY_OTHERS,
    LAST_SHARED,
    OF_WARM,
    OTHER_KEYS,
    SECOND_TILE,
    SHARED,
    WAIT,
    WORK,
)
from accelsim.kernels.estimate.rates import (
    queued_cycles,
    shared_cycles,
)
from accelsim.kernels.estimate.timeline import (
    BEGIN,
    LATE,
    LATENCY,
    PORT_BEGIN,
    PORT_LATENCY,
)

_shared_cycles, _queued_cycles = al.jit_inner(shared_cycles), al.jit_inner(queued_cycles)


@al.jit_inner
def write_shares(run, cut, known, column, items):
    """How cores share the memory at a block."""
    rates, active = run.rates, float(min(items, run.rates.cores))
    keys_bytes, values_bytes = known[WORK.key_bytes, column], known[WORK.value_bytes, column]
    queries_bytes = of_both(known, WORK.query_bytes, column)
    output_bytes = of_both(known, WORK.output_bytes, column)
    of_key = (keys_bytes + values_bytes) / cut.size
    all_bytes = queries_bytes + mean_keys(run, cut) * of_key
    # Keys that wait for a slot come before the second values, unless query tiles take turns.
    keys = min(2 * cut.size, cut.kv_len)
    values = keys if cut.query_tiles == 2 or cut.tiles <= 2 else cut.size
    first_bytes = queries_bytes + (keys * keys_bytes + values * values_bytes) / cut.size
    # Heads that run at the same time share what they have in common.
    shared = 1.0
    if rates.has_l2:
        shared = max(1.0, np.ceil(min(float(cut.heads), active) / cut.group)) / active
    others = active - 1
    waits = others * rates.sustained * (queries_bytes + shared * (first_bytes - queries_bytes))
    ahead = (keys_bytes + known[WORK.query_bytes, column]) * rates.port
    port_waits = max(0.0, others * rates.l2 * first_bytes - ahead) if rates.has_l2 else 0.0
    # While a channel serves the bytes in a row of others, this core's channel serves its own.
    known[LATENCY, column] = rates.miss_cycles + max(0.0, rates.piece_cycles - waits)
    known[PORT_LATENCY, column], known[LATE, column] = rates.hit_cycles, 0.0
    known[BEGIN, column], known[PORT_BEGIN, column] = waits, port_waits
    away = rates.miss_cycles - rates.hit_cycles
    known[WAIT, column] = max(0.0, waits - away, port_waits)
    known[OTHER_KEYS, column] = (queries_bytes + output_bytes) / of_key
    known[AHEAD, column] = (keys + values) / 2
    last = float((items - 1) % rates.cores + 1)
    step = _vector_cycles(known, column) + _matrix_cycles(known, column)
    outstanding, think = queries_bytes + 2 * cut.size * of_key, rates.miss_cycles + step / 2
    for warm in range(2):
        share = queries_bytes / all_bytes
        if not warm or not run.stays:
            share += shared * (1 - share)
        at, by_all = warm * OF_WARM, _shared_cycles(rates, active, share)
        by_last = _shared_cycles(rates, last, share)
        if rates.piece_cycles > 0 and not warm:
            by_all = max(by_all, _queued_cycles(rates, active * share, outstanding, think))
            by_last = max(by_last, _queued_cycles(rates, last * share, outstanding, think))
        known[SHARED + at, column] = of_key * by_all
        known[LAST_SHARED + at, column] = of_key * (by_last if items > rates.cores else by_all)
        known[BY_OTHERS + at, column] = max(0.0, 1 - max(1 / active, rates.port / by_all))


@al.jit_inner
def of_both(known, cost, column):
    """A cost of both query tiles."""
    return known[cost, column] + known[cost + SECOND_TILE, column]


@al.jit_inner
def _vector_cycles(known, column):
    """Of the vector unit, with a tile of keys."""
    found = of_both(known, WORK.softmax, column) + of_both(known, WORK.rescale, column)
    return found + of_both(known, WORK.merge, column)


@al.jit_inner
def _matrix_cycles(known, column):
    """Of the matrix unit, with a tile of keys."""
    return of_both(known, WORK.scores, column) + of_both(known, WORK.weighted, column)
