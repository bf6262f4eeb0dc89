"""How long waves of work items take, for each tiling by itself: compiled code.

All cores begin at once, and the memory serves one after the other. So the last core is behind
the first one by what all ask for at the start. It is followed from step to step; what the memory
does in a step is for all cores. Steps and waves like those before are counted, not followed.
See docs/decisions/0042-products-are-estimated-wave-by-wave.md.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels.estimate.choice import DOUBT
from accelsim.kernels.linear.estimate.channels import crowding
from accelsim.kernels.linear.estimate.facts import (
    BESIDE,
    FEWEST,
    LATENCY,
    LEFT,
    MERGED_ELEMENTS,
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
from accelsim.runtime.jit import jit, jit_inner

CYCLES, LOADED, STEPS, BEST_STAGES, BEST_SPLITS, BEST_SWIZZLE = range(6)
NUM_FOUND = 6
"""Rows of what is found: cycles, bytes that are loaded, steps of all items, and what was chosen."""

NUM_TIMES = _FIRST_SLOT = 2
"""Times of the last core: when slots of the accumulator are free; from here on those of operands,
then when transfers end."""
_SUM_BYTES = 4
_TINY = 1e-9
_FOLLOWED = 16
"""Steps of an item that are followed; all others take as long as the second half of them."""
_FEW_STEPS = 8
"""Of an item, where fewer slots may be better: the last core has its first step the sooner."""


@jit
def estimate(tilings, splits, facts, layout, found, room):
    """Find for each tiling the best slots, ranges of k and order of tiles, and its time with them.

    One that is clearly not the fastest has a longer time than those near it, or an infinite one.
    tilings: [NUM_FIELDS, tilings]. splits: numbers of ranges that are tried, first 1, then 0 for as
    many as there are cores, then ever more. found: [NUM_FOUND, tilings]. room: for times, and for
    what the layout needs.
    """
    best = np.inf
    for i in range(tilings.shape[1]):
        found[CYCLES, i] = np.inf
        along_k = facts.k / tilings[K, i]
        steps = np.ceil(along_k)
        tiles = np.ceil(facts.m / tilings[M, i]) * np.ceil(facts.n / tilings[N, i])
        load = (tilings[LEFT, i] + tilings[RIGHT, i]) / facts.load
        busy = tiles * along_k * max(tilings[PRODUCT, i], load) / facts.cores
        # However k is cut.
        if facts.launch + facts.hit + busy > best * DOUBT:
            continue
        most = min(tilings[STAGES, i], max(steps, tilings[FEWEST, i]))
        most *= min(tilings[SUM_SLOTS, i], 1.0)
        asked = tilings[SPLITS, i]
        most_ranges = max(1.0, min(steps, 2 * facts.cores / tiles))
        for place in range(len(splits) if tiles < facts.cores and asked == 0 else 1):
            if splits[place] > most_ranges:
                break
            ranges = asked
            if asked == 0:
                ranges = _even_ranges(splits[place], steps, tiles, facts.cores)
            beside = tilings[RANGED if ranges > 1 else BESIDE, i]
            stages = min(most, np.floor((facts.scratchpad_bytes - beside) / tilings[SLOT, i]))
            fewest = tilings[FEWEST, i]
            if steps > _FEW_STEPS:
                fewest = max(fewest, stages)
            if stages >= fewest and ranges > 0:
                tried = _Tried(i, ranges, stages, fewest, best * DOUBT)
                _estimate(tried, tilings, facts, layout, found, room)
                best = min(best, found[CYCLES, i])


@jit_inner
def _even_ranges(wanted, steps, tiles, cores):
    """Ranges of equal length, fewer than wanted if one would be empty; 0: not to be tried.

    More than two waves of work items would only add sums to merge.
    """
    ranges = min(wanted if wanted > 0 else np.floor(cores / tiles), steps)
    even = np.ceil(steps / np.ceil(steps / ranges))
    is_new = wanted == 1 or (even > 1 and tiles < cores and even * tiles <= 2 * cores)
    asked = even if wanted == 0 else wanted
    return even if is_new and asked == even else 0.0


class _Core(NamedTuple):
    """What a core does; cycles."""

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
    loaded: float
    """In the whole run."""
    served: float
    """Cycles that the memory needs at least for the whole run."""


class _Supply(NamedTuple):
    """What the memory gives in a step; cycles."""

    served: float
    """To all cores."""
    alone: float
    """To one."""
    latency: float
    lead: float
    """By which the first core asks before the last one."""
    last: float
    """Of what the last core asks for that no other one has asked for."""


class _Times(NamedTuple):
    """Of the last core, but for those of the memory."""

    asked: float
    """When it asked for its last step."""
    port: float
    """When the port of its load queue, its slowest unit and the memory are free."""
    busy: float
    memory: float
    moved: float
    """When its sums have been moved."""
    number: float
    """Of steps so far."""


class _Tried(NamedTuple):
    """The number of a tiling, and choices for it."""

    number: int
    ranges: float
    stages: float
    """The most slots of the operands, and the fewest."""
    fewest: float
    limit: float
    """The time from which on a tiling is of no interest."""


@jit_inner
def _estimate(tried, tilings, facts, layout, found, room):
    """Note the time of a tiling if it is within the limit, and the best one so far.

    Bounds from below come first: the busiest unit, then what the memory serves.
    """
    i = tried.number
    ranges = tried.ranges
    along_m = np.ceil(facts.m / tilings[M, i])
    along_n = np.ceil(facts.n / tilings[N, i])
    along_k = facts.k / tilings[K, i]
    steps = np.ceil(np.ceil(along_k) / ranges)
    item_steps = min(along_k, steps)
    items = along_m * along_n * ranges
    cores = min(facts.cores, items)
    load = (tilings[LEFT, i] + tilings[RIGHT, i]) / facts.load
    fixed = facts.launch + _merge_cycles(i, ranges, tilings, facts)
    core = _core(i, ranges, load, tilings, facts, layout)
    most_steps = np.ceil(items / cores) * item_steps
    busy = max(facts.miss + most_steps * core.product, facts.hit + most_steps * load)
    last = core.latency + core.move + core.out_bytes / facts.store + facts.hit
    least = fixed + busy + last
    if least > tried.limit:
        return
    wave = _wave(tried, along_m, along_n, cores, steps, tilings, facts)
    moved = _moved(i, items, item_steps, wave, tilings, facts)
    least = max(least, fixed + facts.miss + moved.served + facts.hit)
    apart = 0.0
    if facts.matrices > 1:
        apart = _apart_cycles(i, core, tilings, facts)
    limit = tried.limit
    stages = tried.stages
    while stages >= tried.fewest and least <= limit:
        wave = Wave(cores, wave.ranges, wave.band, wave.rows, wave.cols, steps, stages)
        time = fixed + _followed(item_steps, items, wave, core, moved, 1.0, facts, room)
        if layout.channels > 1 and time <= limit:
            uneven = crowding(layout, wave, tilings, i, facts, room)
            time = fixed + _followed(item_steps, items, wave, core, moved, uneven, facts, room)
        cycles = max(least, time) + apart
        if cycles < found[CYCLES, i]:
            found[CYCLES, i] = cycles
            found[LOADED, i] = moved.loaded
            found[STEPS, i] = items * steps
            found[BEST_STAGES, i] = stages
            found[BEST_SPLITS, i] = ranges
            found[BEST_SWIZZLE, i] = wave.band
            limit = min(limit, cycles * DOUBT)
        stages -= 1


@jit_inner
def _wave(tried, along_m, along_n, cores, steps, tilings, facts):
    """The work items that are under way at the same time."""
    i = tried.number
    band = tilings[SWIZZLE, i]
    if facts.matrices > 1:
        band = along_m / facts.matrices
    elif band == 0:
        square = facts.cores / tried.ranges * tilings[N, i] / tilings[M, i]
        band = max(1.0, np.rint(np.sqrt(square)))
    at_once = max(1.0, np.floor(cores / tried.ranges))
    of_band = min(band, along_m, at_once)
    cols = min(np.ceil(at_once / of_band), along_n)
    # Where bands are short, there are several at once.
    rows = min(max(of_band, np.ceil(at_once / cols)), along_m)
    return Wave(cores, min(tried.ranges, cores), band, rows, cols, steps, tried.stages)


@jit_inner
def _merge_cycles(i, ranges, tilings, facts):
    """The time of the second phase, which adds the sums of all ranges of k.

    An L2 still holds them. Of a work item the first three ranges arrive together; later ones come
    two at a time, as the parts before have been added.
    """
    if ranges == 1:
        return 0.0
    rows = min(tilings[M, i], np.ceil(MERGED_ELEMENTS / tilings[N, i]))
    elements = rows * tilings[N, i]
    items = np.ceil(facts.m / rows) * np.ceil(facts.n / tilings[N, i])
    load = elements * _SUM_BYTES / facts.load
    add = elements * facts.add
    later = max(0.0, np.ceil((ranges - 3) / 2))
    item = facts.hit + min(ranges, 3.0) * load + later * (facts.hit + load + add) + 2 * add
    moved = ranges * facts.m * facts.n * _SUM_BYTES
    served = facts.hit + moved / (facts.l2 if facts.l2 > 0 else facts.hbm)
    stored = elements * facts.out_bytes / facts.store + facts.hit
    return facts.launch_merge + max(np.ceil(items / facts.cores) * item, served) + stored


@jit_inner
def _moved(i, items, item_steps, wave, tilings, facts):
    """What moves. Rows of a band come again for every wave of columns, and B for every band, unless
    an L2 keeps them until then."""
    along_m = np.ceil(facts.m / tilings[M, i])
    along_n = np.ceil(facts.n / tilings[N, i])
    along_k = facts.k / tilings[K, i]
    # Tiles at the edges end with the operand; these are mean ones.
    left = tilings[LEFT, i] * facts.m / (along_m * tilings[M, i])
    right = tilings[RIGHT, i] * facts.n / (along_n * tilings[N, i])
    all_left = left * along_m * along_k
    all_right = right * along_n * along_k
    loaded = all_left * along_n + all_right * along_m
    stored = facts.m * facts.filled * facts.n * facts.out_bytes
    asked = loaded / items / item_steps * wave.cores
    if facts.l2 == 0:
        served = (loaded + stored) / facts.hbm
        return _Moved(asked, asked, asked, left + right, loaded, served)
    part = min(wave.band / along_m, 1.0)
    columns = wave.cols / along_n
    if columns < 1 and part * all_left + columns * all_right > facts.kept_bytes:
        all_left *= np.ceil(along_n / wave.cols)
    leaves = part * (all_left + stored) + all_right > facts.kept_bytes
    if facts.matrices > 1:
        all_right *= facts.matrices
    elif part < 1 and leaves:
        all_right *= np.ceil(1 / part)
    fetched = (all_left + all_right) / item_steps
    matrices = min(facts.matrices, max(1.0, wave.rows / wave.band))
    first = min(wave.ranges * (wave.rows * left + matrices * wave.cols * right), fetched)
    later = (fetched - first) / max(items / wave.cores - 1, _TINY)
    served = max((all_left + all_right + stored) / facts.hbm, loaded / facts.l2)
    return _Moved(asked, first, later, right, loaded, served)


@jit_inner
def _apart_cycles(i, core, tilings, facts):
    """How much longer matrices take one after the other than all together.

    With few rows a matrix keeps cores waiting for the memory, with many rows the memory waits for
    the cores. Work items of both kinds are at work at once where a matrix has fewer than there are
    cores.
    """
    along_n = np.ceil(facts.n / tilings[N, i])
    along_k = facts.k / tilings[K, i]
    element_bytes = tilings[RIGHT, i] / (tilings[N, i] * tilings[K, i])
    right = tilings[RIGHT, i] * facts.n / (along_n * tilings[N, i])
    all_busy = 0.0
    all_served = 0.0
    in_turn = 0.0
    alone = 0.0
    for rows in facts.rows:
        blocks = np.ceil(rows / tilings[M, i])
        left = rows / blocks * tilings[K, i] * element_bytes
        loads = blocks * along_n * along_k * (left + right)
        fetched = loads
        if facts.l2 > 0:
            fetched = (rows + facts.n) * facts.k * element_bytes
        served = (fetched + rows * facts.n * facts.out_bytes) / facts.hbm
        load = (left + tilings[RIGHT, i]) / facts.load
        busy = blocks * along_n * along_k * max(core.product, load) / facts.cores
        if facts.l2 > 0:
            busy = max(busy, loads / facts.l2)
        all_busy += busy
        all_served += served
        in_turn += max(busy, served)
        alone += min(1.0, blocks * along_n / facts.cores)
    return alone / facts.matrices * (in_turn - max(all_busy, all_served))


@jit_inner
def _core(i, ranges, load, tilings, facts, layout):
    """What a core does."""
    outputs = tilings[M, i] * facts.filled * tilings[N, i]
    # Its loads lie on some of the channels.
    on_channel = (load * facts.load + layout.channels * layout.piece) / facts.hbm
    return _Core(
        int(tilings[SUM_SLOTS, i]),
        tilings[PRODUCT, i],
        tilings[LATENCY, i],
        load,
        outputs * _SUM_BYTES / facts.accumulator,
        outputs * (_SUM_BYTES if ranges > 1 else facts.out_bytes),
        on_channel,
    )


@jit_inner
def _followed(item_steps, items, wave, core, moved, uneven, facts, room):
    """The time of all waves where the HBM takes `uneven` times as long as at its rate.

    item_steps: the last one counts as the part that is there. room: for when slots of the last core
    are free, first those of the accumulator, and when its transfers end.
    """
    known = _FIRST_SLOT + int(wave.stages + facts.in_flight)
    for j in range(known):
        room[j] = 0.0
    full = np.floor(items / wave.cores)
    rest = items / wave.cores - full
    shared = moved.asked / facts.l2 if facts.l2 > 0 else 0.0
    times = _Times(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    lead = 0.0
    beyond = 0.0
    end = 0.0
    stored = 0.0
    # The first wave, one of those like it, and what is left.
    for kind in range(3):
        part = rest if kind == 2 else 1.0
        count = 1.0 if kind == 0 else full - 1
        count = np.ceil(rest) if kind == 2 else count
        fetched = (moved.first if kind == 0 else moved.later) * uneven / facts.hbm
        if count > 0:
            end = max(end, times.moved + beyond)
            served = max(fetched, shared) * part
            alone = max(min(fetched, core.on_channel), shared / wave.cores)
            if kind == 0:
                lead = max(0.0, served - alone) * min(wave.stages, wave.steps, facts.in_flight)
            # Cores that are done first take what is left.
            sooner = lead * (1 - part)
            for j in range(known):
                room[j] -= sooner
            latency = facts.miss if fetched > 0 else facts.hit
            last = moved.last * uneven / facts.hbm
            supply = _Supply(served, alone, latency, lead * part, last)
            sums = kind % core.sum_slots
            before = times.busy - sooner
            times = _Times(
                times.asked - sooner,
                times.port - sooner,
                max(before, room[sums]),
                times.memory,
                times.moved - sooner,
                times.number,
            )
            times, period = _steps(times, item_steps, wave, core, supply, facts, room)
            beyond += max(0.0, item_steps - _FOLLOWED) * period * count
            beyond += (count - 1) * (times.busy - before)
            done = max(times.moved, times.busy + core.latency) + core.move
            room[sums] = done
            # Results leave while the next items come in.
            stored = part * wave.cores * core.out_bytes / facts.results
            asked = times.asked
            if not facts.overlaps:
                asked = done + core.out_bytes / facts.store + facts.hit
            times = _Times(asked, times.port, times.busy, times.memory + stored, done, times.number)
    end = max(end, times.moved + beyond)
    return end + max(stored, core.out_bytes / facts.store) + facts.hit


@jit_inner
def _steps(times, item_steps, wave, core, supply, facts, room):
    """Follow the steps of an item; return the times, and that of each step that is left out."""
    asked = times.asked
    port = times.port
    busy = times.busy
    memory = times.memory
    number = int(times.number)
    stages = int(wave.stages)
    in_flight = int(facts.in_flight)
    begun = min(stages, int(wave.steps), in_flight)
    shown = min(int(wave.steps), _FOLLOWED)
    half = shown // 2
    middle = busy
    first_transfer = _FIRST_SLOT + stages
    slot = _FIRST_SLOT
    transfer = first_transfer + number % in_flight
    for step in range(shown):
        asked = max(asked, room[slot], room[transfer])
        memory = max(memory, asked - supply.lead) + supply.served
        memory = max(memory, asked + supply.alone)
        arrival = memory
        if number < begun:
            # Each core asks for all of its first steps before the next one does.
            arrival = supply.served * begun - supply.last * (begun - 1 - step)
            memory = supply.served * (step + 1)
        here = min(1.0, item_steps - step)
        port = max(port, asked) + here * core.load
        arrival = max(arrival + supply.latency, port + facts.hit)
        room[transfer] = arrival
        busy = max(busy, arrival) + here * core.product
        room[slot] = busy + core.latency
        number += 1
        slot = slot + 1 if slot + 1 < first_transfer else _FIRST_SLOT
        transfer = transfer + 1 if transfer + 1 < first_transfer + in_flight else first_transfer
        if step < half:
            middle = busy
    return (
        _Times(asked, port, busy, memory, times.moved, float(number)),
        (busy - middle) / (shown - half),
    )
