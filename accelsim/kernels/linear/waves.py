"""How long waves of work items take, for each tiling by itself: compiled code.

All cores begin at once, and the memory serves one after the other. So the first core is ahead of
the last one by what all ask for at the start. Both are followed from step to step; in between them
the memory works for all others. Steps and waves that are like those before are not followed.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels.linear.channels import crowding
from accelsim.kernels.linear.facts import (
    BESIDE,
    FEWEST,
    LATENCY,
    LEFT,
    PRODUCT,
    RANGED,
    RIGHT,
    SLOT,
    SPLITS,
    STAGES,
    SUM_SLOTS,
    SWIZZLE,
    K,
    M,
    N,
    Wave,
)
from accelsim.runtime.jit import borrow, jit, jit_inner

CYCLES, LOADED, STEPS, BEST_STAGES, BEST_SPLITS, BEST_SWIZZLE, BEST_SUM_SLOTS = range(7)
NUM_FOUND = 7
"""Rows of what is found."""
ROOM = 2 + 5
"""Rows of room: times of the last core, what is known of a tiling on the way, and of channels."""

_REQUESTED, _PORT, _BUSY, _READY, _MOVED, _SUMS = range(6)
_SLOTS = _SUMS + 2
NUM_TIMES = _SLOTS
"""Times of a core: of its last request; when the port of its load queue and its slowest unit are
free; when the sums of its item have room, and when they have been moved; from _SUMS on when each
slot of the accumulator is free; then of each slot of the operands, and when transfers end."""
_LOADED, _STEPS, _SWIZZLE = range(3)
"""What is known of a tiling on the way."""
_SUM_BYTES = 4
_TINY = 1e-9
_FOLLOWED = 16
"""Steps of an item that are followed; all others take as long as the second half of them."""
_FEW_STEPS = 8
"""Of an item, where the number of slots matters beside that of the steps, for each item begins
again with the first slot."""
_NEAR = 1.005
"""Estimates that differ by less are not told apart, so all of them are found in full."""


@jit
def estimate(tilings, splits, facts, layout, found, room):
    """Find for each tiling the best slots, ranges of k and order of tiles, and its time with them.

    One that cannot be the fastest has a bound from below. tilings: [NUM_FIELDS, tilings]. splits:
    numbers of ranges that are tried, first 1, then 0 for as many as there are cores. found:
    [NUM_FOUND, tilings]. room: [ROOM, numbers].
    """
    tilings = borrow(tilings)
    room = borrow(room)
    best = np.inf
    for i in range(tilings.shape[1]):
        found[CYCLES, i] = np.inf
        steps = np.ceil(facts.k / tilings[K, i])
        tiles = np.ceil(facts.m / tilings[M, i]) * np.ceil(facts.n / tilings[N, i])
        most = min(tilings[STAGES, i], max(steps, tilings[FEWEST, i]))
        sums_bytes = _SUM_BYTES * tilings[M, i] * tilings[N, i]
        if tilings[SUM_SLOTS, i] == 0:
            tilings[SUM_SLOTS, i] = min(2.0, np.floor(facts.accumulator_bytes / sums_bytes))
        found[BEST_SUM_SLOTS, i] = tilings[SUM_SLOTS, i]
        if tilings[SUM_SLOTS, i] == 0:
            continue
        asked = tilings[SPLITS, i]
        for place in range(len(splits) if tiles < facts.cores and asked == 0 else 1):
            ranges = asked
            if asked == 0:
                ranges = _even_ranges(splits[place], steps, tiles, facts.cores)
            beside = tilings[RANGED if ranges > 1 else BESIDE, i]
            stages = min(most, np.floor((facts.scratchpad_bytes - beside) / tilings[SLOT, i]))
            fewest = tilings[FEWEST, i]
            if steps > _FEW_STEPS:
                fewest = max(fewest, stages)
            while stages >= fewest and ranges > 0:
                cycles = _cycles(i, stages, ranges, best * _NEAR, tilings, facts, layout, room)
                if cycles < found[CYCLES, i]:
                    found[CYCLES, i] = cycles
                    found[LOADED, i] = room[1, _LOADED]
                    found[STEPS, i] = room[1, _STEPS]
                    found[BEST_STAGES, i] = stages
                    found[BEST_SPLITS, i] = ranges
                    found[BEST_SWIZZLE, i] = room[1, _SWIZZLE]
                    best = min(best, cycles)
                stages -= 1


@jit_inner
def _even_ranges(wanted, steps, tiles, cores):
    """Ranges of equal length, fewer than wanted if one would be empty; 0: not to be tried.

    More than two waves of work items would only add sums to merge.
    """
    ranges = min(wanted if wanted > 0 else np.floor(cores / tiles), steps)
    even = np.ceil(steps / np.ceil(steps / ranges))
    is_new = wanted == 1 or (even > 1 and tiles < cores and even * tiles <= 2 * cores)
    return even if is_new and (wanted == 0 or even == wanted) else 0.0


class _Core(NamedTuple):
    """What one core does; cycles."""

    sum_slots: int
    product: float
    latency: float
    load: float
    """Of a step, through the port of the queue."""
    move: float
    """Of the sums of an item, from when the last product has passed."""
    out_bytes: float
    on_channel: float
    """Of its loads on the busiest of their channels."""


class _Moved(NamedTuple):
    """Bytes of a step of all cores."""

    asked: float
    first: float
    """That come from the HBM in the first wave."""
    later: float
    """The same in all others."""
    last: float
    """What the last core asks for that no other one has asked for."""


@jit_inner
def _cycles(i, stages, ranges, limit, tilings, facts, layout, room):
    """The time of one tiling, or a bound beyond the limit."""
    tile_m = tilings[M, i]
    tile_n = tilings[N, i]
    left_bytes = tilings[LEFT, i]
    right_bytes = tilings[RIGHT, i]
    along_m = np.ceil(facts.m / tile_m)
    along_n = np.ceil(facts.n / tile_n)
    along_k = facts.k / tilings[K, i]
    steps = np.ceil(np.ceil(along_k) / ranges)
    steps_of_item = min(along_k, steps)
    items = along_m * along_n * ranges
    cores = min(facts.cores, items)
    load = (left_bytes + right_bytes) / facts.load
    fixed = facts.launch + _merge_cycles(ranges, cores, facts)
    least = np.ceil(items / cores) * steps_of_item * max(tilings[PRODUCT, i], load)
    least += fixed + facts.miss + facts.hit
    if least > limit:
        return least
    at_once = max(1.0, np.floor(cores / ranges))
    band = tilings[SWIZZLE, i]
    if band == 0:
        band = max(1.0, np.rint(np.sqrt(facts.cores / ranges * tile_n / tile_m)))
    room[1, _SWIZZLE] = band
    band = min(band, along_m)
    rows = min(band, at_once)
    cols = min(np.ceil(at_once / rows), along_n)
    # Tiles at the edges end with the operand; these are mean ones.
    left = left_bytes * facts.m / (along_m * tile_m)
    right = right_bytes * facts.n / (along_n * tile_n)
    left_once = left * along_m * along_k
    right_once = right * along_n * along_k
    loaded = left_once * along_n + right_once * along_m
    room[1, _LOADED] = loaded
    room[1, _STEPS] = items * steps
    wave = Wave(cores, min(ranges, cores), rows, cols, steps, stages)
    first = loaded / items / steps_of_item * cores
    moved = _Moved(first, first, first, left + right)
    stored = facts.m * facts.n * facts.out_bytes
    fetched = loaded
    rate = facts.hbm
    if facts.l2 > 0:
        part = band / along_m
        if cols < along_n and part * left_once + cols / along_n * right_once > facts.kept_bytes:
            left_once *= np.ceil(along_n / cols)
        too_much = part * (left_once + stored) + right_once > facts.kept_bytes
        if part < 1 and (facts.is_grouped or too_much):
            right_once *= np.ceil(along_m / band)
        fetched = left_once + right_once
        rate = facts.l2
        first = min(wave.ranges * (rows * left + cols * right), fetched / steps_of_item)
        later = max(0.0, fetched / steps_of_item - first) / max(items / cores - 1, _TINY)
        moved = _Moved(moved.asked, first, later, right)
    served = max((fetched + stored) / facts.hbm, loaded / rate)
    least = max(least, fixed + facts.miss + facts.hit + served)
    if least > limit:
        return least
    out_bytes = tile_m * tile_n * (_SUM_BYTES if ranges > 1 else facts.out_bytes)
    core = _Core(
        int(tilings[SUM_SLOTS, i]),
        tilings[PRODUCT, i],
        tilings[LATENCY, i],
        load,
        tile_m * tile_n * _SUM_BYTES / facts.accumulator,
        out_bytes,
        (left_bytes + right_bytes + layout.channels * layout.piece) / facts.hbm,
    )
    cycles = _followed(steps_of_item, items, wave, core, moved, 1.0, facts, room[0]) + fixed
    if layout.channels > 1 and cycles < limit:
        uneven = crowding(layout, wave, tilings, i, facts, room)
        cycles = _followed(steps_of_item, items, wave, core, moved, uneven, facts, room[0]) + fixed
    return max(cycles, least)


@jit_inner
def _merge_cycles(ranges, cores, facts):
    """The time to launch the second phase and add the sums of all ranges of k.

    The first three ranges arrive together, then two at a time.
    """
    arrivals = np.ceil((ranges - 1) / 2) - 1
    rate = min(facts.l2 if facts.l2 > 0 else facts.hbm, cores * facts.load)
    moved = 2 * ranges * facts.m * facts.n * _SUM_BYTES / rate
    latency = facts.launch_merge + 2 * facts.miss + arrivals * facts.hit
    return latency + moved if ranges > 1 else 0.0


@jit_inner
def _followed(steps, items, wave, core, moved, uneven, facts, times):
    """The time of all waves where the HBM takes `uneven` times as long as at its rate.

    steps: of an item, the last one as the part that is there. times: of the last core.
    """
    has_l2 = facts.l2 > 0
    hbm = facts.hbm / uneven
    in_flight = int(facts.in_flight)
    stages = int(wave.stages)
    known = _SLOTS + stages + in_flight
    for j in range(known):
        times[j] = 0.0
    begun = min(stages, min(int(wave.steps), in_flight))
    shown = min(int(wave.steps), _FOLLOWED)
    half = shown // 2
    full = np.floor(items / wave.cores)
    rest = items - full * wave.cores
    shared = moved.asked / facts.l2 if has_l2 else 0.0
    lead = 0.0
    number = 0
    free = 0.0
    end = 0.0
    beyond = 0.0
    stored = 0.0
    # The first wave, one of those like it, and what is left.
    for kind in range(3):
        count = 1.0
        part = 1.0
        fetched = moved.first
        if kind > 0:
            count = full - 1
            fetched = moved.later
        if kind > 1:
            count = min(rest, 1.0)
            part = rest / wave.cores
        if count > 0:
            # Cores that are done first take what is left.
            end = max(end, times[_MOVED] + beyond)
            for j in range(known):
                times[j] -= lead * (1 - part)
            sums = _SUMS + kind % core.sum_slots
            times[_READY] = times[sums]
            before = times[_BUSY]
            middle = before
            served = max(fetched / hbm, shared) * part
            alone = max(min(fetched / hbm, core.on_channel), shared / wave.cores)
            if kind == 0:
                lead = max(0.0, served - alone) * begun
            latency = facts.miss if fetched > 0 else facts.hit
            for step in range(shown):
                slot = _SLOTS + step % stages
                transfer = _SLOTS + stages + number % in_flight
                asked = max(max(times[_REQUESTED], times[slot]), times[transfer])
                free = max(max(free, asked - lead * part) + served, asked + alone)
                arrival = free
                if number < begun:
                    # Each core asks for all of its first steps before the next one does.
                    arrival = served * begun - moved.last / hbm * (begun - 1 - step)
                    free = served * (step + 1)
                here = min(1.0, steps - step)
                port = max(times[_PORT], asked) + here * core.load
                arrival = max(arrival + latency, port + facts.hit)
                busy = max(max(times[_BUSY], times[_READY]), arrival) + here * core.product
                times[_REQUESTED] = asked
                times[_PORT] = port
                times[transfer] = arrival
                times[_BUSY] = busy
                times[slot] = busy + core.latency
                number += 1
                if step == half - 1:
                    middle = busy
            beyond += max(0.0, steps - shown) * (times[_BUSY] - middle) / (shown - half) * count
            beyond += (count - 1) * (times[_BUSY] - before)
            done = max(times[_MOVED], times[_BUSY] + core.latency) + core.move
            times[_MOVED] = done
            times[sums] = done
            # Results leave while the next items come in.
            stored = part * wave.cores * core.out_bytes / facts.results
            free += stored
            if not facts.overlaps:
                times[_REQUESTED] = done + core.out_bytes / facts.store + facts.hit
    end = max(end, times[_MOVED] + beyond)
    return end + max(stored, core.out_bytes / facts.store) + facts.hit
