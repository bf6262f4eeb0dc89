"""Bounds on the time of candidates, which say whose items are followed: compiled code."""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash.cuts import (
    cut_of,
    mean_keys,
    seen_of,
)
from accelsim.kernels.attention.flash.known import (
    BYTES,
    CYCLES,
    IS_DONE,
    LAST_KEYS,
    LAST_STEP,
    LEAST,
    LONE,
    LONE_OF_SECOND,
    MASK,
    NUM_ITEMS,
    NUM_STEPS,
    PERIOD,
    SECOND_TILE,
    STEP,
    WORK,
)
from accelsim.kernels.attention.flash.shares import (
    of_both,
)

_MOST_COUNTED = 64
"""Blocks of a head whose key tiles are counted one by one."""


@al.jit_inner
def write_bound(run, parts, candidates, known, i):
    """Find a bound on the time of a candidate, which loads so many bytes.

    A core works through its items step by step, behind the loads of the first one.
    """
    num, rates = candidates.shape[1], run.rates
    items, loaded, steps, work, longest = 0, 0.0, 0.0, 0.0, 0.0
    for part in range(len(parts)):
        cut = cut_of(run, parts[part], candidates, i)
        items += cut.heads * cut.num_blocks
        for last in range(2):
            column = (2 * part + last) * num + i
            blocks = (cut.whole, cut.num_blocks) if last else (0, cut.whole)
            if blocks[0] == blocks[1]:
                continue
            _write_steps(run, cut, known, column)
            own = _work_of_blocks(run, cut, known, column, blocks)
            whole = own.longest
            if len(parts) == 1 and not run.causal:
                whole *= np.ceil(cut.heads * (blocks[1] - blocks[0]) / rates.cores)
            work += cut.heads * own.cycles
            longest = max(longest, whole)
            of_key = (known[WORK.key_bytes, column] + known[WORK.value_bytes, column]) / cut.size
            queries = (blocks[1] - blocks[0]) * of_both(known, WORK.query_bytes, column)
            loaded += cut.heads * (queries + own.keys * of_key)
            steps += cut.heads * np.ceil(own.keys / cut.size)
    known[NUM_ITEMS, i], known[IS_DONE, i] = items, 0.0
    moved = loaded + run.output_bytes
    least = max(moved * rates.l2, run.compulsory_bytes * rates.sustained)
    if not rates.has_l2:
        least = moved * rates.sustained
    least += rates.miss_cycles + _rest(run, known, i)
    least = max(least, _ends(run, known, i) + max(work / rates.cores, longest))
    known[BYTES, i], known[NUM_STEPS, i] = loaded, steps
    known[LEAST, i] = known[CYCLES, i] = rates.launch_cycles + least


@al.jit_inner
def _ends(run, known, i):
    """The least time before the first softmax of a core and after its last op."""
    rates = run.rates
    first_bytes = known[WORK.query_bytes, i] + known[WORK.key_bytes, i]
    scores = known[WORK.scores, i] + known[WORK.scores_move, i] + run.step_latency_cycles
    arrival = max(rates.miss_cycles, rates.hit_cycles + first_bytes * rates.port)
    return arrival + scores + rates.hit_cycles


@al.jit_inner
def _rest(run, known, i):
    """The least time from when the last values have arrived to when their item has ended."""
    product = known[WORK.weighted + LAST_KEYS, i] + known[WORK.weighted_move, i]
    output = known[WORK.merge, i] + known[WORK.finish, i]
    return product + run.step_latency_cycles + output


class Blocks(NamedTuple):
    """What some blocks of a head take at least."""

    cycles: float
    """Of all, one after the other."""
    longest: float
    keys: float
    """That they meet, in whole tiles."""


@al.jit_inner
def _work_of_blocks(run, cut, known, column, blocks):
    """What blocks from one to before another one take, which have the costs of a column."""
    step, saved = known[STEP, column], known[STEP, column] - known[LAST_STEP, column]
    ends = known[WORK.begin, column] + known[WORK.finish, column]
    longest, count = ends + cut.tiles * step - saved, blocks[1] - blocks[0]
    if not run.causal:
        return Blocks(count * longest, longest, float(count * cut.kv_len))
    if count > _MOST_COUNTED:
        seen = cut.kv_len - (cut.q_len - min(cut.tile_q, cut.q_len)) / 2
        least = ends + seen / cut.size * step - saved
        return Blocks(count * least, longest - cut.tiles * step / 2, count * mean_keys(run, cut))
    work = longest = keys = 0.0
    for block in range(blocks[0], blocks[1]):
        seen = seen_of(run, cut, block)
        own = ends + seen.tiles * step - (seen.tiles == cut.tiles) * saved
        lone = known[LONE if seen.is_first else LONE_OF_SECOND, column]
        own += known[MASK, column] * seen.masked - seen.fewer * max(0.0, step - lone)
        work, longest, keys = work + own, max(longest, own), keys + seen.keys
    return Blocks(work, longest, keys)


@al.jit_inner
def _step(run, cut, known, column, last):
    """The least time of a key tile on its units: of a whole one, or of the last one."""
    softmax, weighted = known[WORK.softmax + last, column], known[WORK.weighted + last, column]
    rescale, merge = known[WORK.rescale, column], known[WORK.merge, column]
    if cut.query_tiles == 1:
        # The output waits for the weighted values.
        product = weighted + known[WORK.weighted_move, column] + run.step_latency_cycles
        return softmax + merge + max(rescale, product)
    second = last + SECOND_TILE
    vector = softmax + rescale + merge + known[WORK.softmax + second, column]
    vector += known[WORK.rescale + SECOND_TILE, column] + known[WORK.merge + SECOND_TILE, column]
    matrix = weighted + known[WORK.scores + last, column]
    matrix += known[WORK.weighted + second, column] + known[WORK.scores + second, column]
    return max(vector, matrix)


@al.jit_inner
def _write_steps(run, cut, known, column):
    """The least times of steps."""
    loads = known[WORK.key_bytes, column] + known[WORK.value_bytes, column]
    known[STEP, column] = _step(run, cut, known, column, 0)
    known[LAST_STEP, column] = _step(run, cut, known, column, LAST_KEYS)
    known[PERIOD, column] = max(known[STEP, column], loads * run.rates.port)
    known[MASK, column] = of_both(known, WORK.mask, column)
    for tile in range(2):
        second = tile * SECOND_TILE
        vector = known[WORK.softmax + second, column] + known[WORK.rescale + second, column]
        vector += known[WORK.merge + second, column]
        chain = known[WORK.softmax + second, column] + known[WORK.weighted + second, column]
        chain += known[WORK.scores + second, column] + known[WORK.scores_move + second, column]
        known[LONE + tile, column] = max(vector, chain + run.step_latency_cycles)
