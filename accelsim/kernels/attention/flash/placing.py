"""How long candidates of tiles take: compiled code.

The items of one core are followed op by op (`online_estimate`), then the items of all cores are
placed. What cores do to each other is in a few numbers of an item: how long it waits at the start,
when all ask at once; the bytes of all where the memory is the slowest; and whether its keys come
from the HBM or lie in an L2.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash.online_estimate import (
    BOTH,
    CLAIMS,
    END,
    FEW,
    FOURTH,
    LAST,
    LONGEST,
    NOTES,
    NUM_NOTES,
    NUM_ORDERS,
    NUM_WORK,
    OPENS,
    SECOND,
    WHOLE,
)
from accelsim.kernels.estimate.choice import ALIKE_ITEMS
from accelsim.kernels.estimate.placement import (
    COLD,
    IS_COLD,
    ITEMS,
    ORDER,
    WARM,
    ItemTimes,
    last_end,
)
from accelsim.kernels.estimate.rates import Rates, joined, queued_cycles, shared_cycles
from accelsim.kernels.estimate.timeline import (
    BEGIN,
    LATE,
    LATENCY,
    PORT_BEGIN,
    PORT_LATENCY,
    RATE,
    follow_order,
)
from accelsim.program.ops import Unit

_contended = al.jit_inner(joined)
_shared_cycles, _queued_cycles = al.jit_inner(shared_cycles), al.jit_inner(queued_cycles)
_LOAD, _STORE = Unit.LOAD.value, Unit.STORE.value
TILE_Q, TILE_K, FOLD, QUERY_TILES = range(4)
"""Rows of candidates."""
BATCH, Q_LEN, KV_LEN = range(3)
"""Columns of parts."""
_WORK = WHOLE[0]
_SECOND = NUM_WORK
_LAST = 2 * NUM_WORK
"""So many rows behind the costs of the first query tile and a whole tile of keys are those of the
second query tile, and those of the last tile of keys."""
_ALONE, _STEPS, _LAST_STEPS, _CLAIMS, _OPENS, _WAITS = range(len(ItemTimes._fields))
_FACTS = 4 * NUM_WORK
_WAIT, _OTHER_KEYS, _AHEAD, _MASK, _PERIOD, _LONE, _LONE_OF_SECOND = range(_FACTS, _FACTS + 7)
_STEP, _LAST_STEP = range(_FACTS + 7, _FACTS + 9)
_SHARED, _LAST_SHARED, _BY_OTHERS = range(_FACTS + 9, _FACTS + 12)
_OF_WARM = 3
"""Rows behind the costs, what else is known of a block: how long it waits at the start; keys that
make as many bytes as its queries and its output, and keys that it asks for at the start; cycles of
a masked tile, the least of any tile, and those of a tile that one of two query tiles meets alone.
Then the time of a key where cores share the memory, all of them or those of the last wave, and the
part of it in which a core waits for others; the same of items that find their keys in an L2."""
CYCLES, BYTES, STEPS, _LEAST, _IS_DONE, _NUM_ITEMS = range(_FACTS + 15, _FACTS + 21)
"""Rows of what is found of a candidate: its time, the bytes that are loaded, the tiles of keys that
all items meet, a bound on the time, whether it was looked at, and its items."""
_NOTED = _FACTS + 21
"""Notes of items whose keys come from the HBM, and of those that find them in an L2."""
ROOM = _NOTED + 2 * NUM_NOTES - _FACTS
_MOST_COUNTED = 64
"""Blocks of a head whose key tiles are counted one by one."""


class Run(NamedTuple):
    """What is the same for all candidates."""

    q_heads: int
    """Of a sequence."""
    group: int
    """Query heads that share a KV head."""
    causal: bool
    by_head: bool
    """Whether all blocks of a head come first, or the last blocks of all heads."""
    stays: bool
    """Whether K and V of all heads stay in an L2."""
    compulsory_bytes: float
    output_bytes: float
    step_latency_cycles: float
    """Of the units in a step that waits for each of them."""
    rates: Rates


class Cut(NamedTuple):
    """The query rows of equal sequences, as a candidate cuts them."""

    heads: int
    """Heads that are gone through: those of a group count as one where they are folded."""
    group: int
    """Heads that share a KV head."""
    rows: int
    """Query rows of each."""
    tile_q: int
    query_tiles: int
    block_rows: int
    count: int
    """Blocks of a head."""
    whole: int
    """Those with as many rows as fit; the last one may have fewer."""
    size: int
    """Keys of a tile."""
    tiles: int
    """Key tiles of a head; the last one may be shorter."""
    q_len: int
    kv_len: int


@al.jit_inner
def cut_of(run, part, candidates, i):
    """How candidate i cuts equal sequences."""
    heads, group, rows = run.q_heads * part[BATCH], run.group, part[Q_LEN]
    if candidates[FOLD, i]:
        heads, group, rows = heads // group, 1, rows * group
    tile_q, query_tiles = candidates[TILE_Q, i], candidates[QUERY_TILES, i]
    block_rows, size = min(tile_q * query_tiles, rows), min(candidates[TILE_K, i], part[KV_LEN])
    count, tiles, whole = -(-rows // block_rows), -(-part[KV_LEN] // size), rows // block_rows
    return Cut(
        heads,
        group,
        rows,
        tile_q,
        query_tiles,
        block_rows,
        count,
        whole,
        size,
        tiles,
        part[Q_LEN],
        part[KV_LEN],
    )


@al.jit
def write_extents(run, parts, candidates, extents):
    """Write the extents of costs from that of keys on, [extents, columns].

    A part has a column for the blocks of each candidate, then one for the last blocks, which may
    have fewer rows.
    """
    num = candidates.shape[1]
    for part in range(len(parts)):
        for i in range(num):
            cut = cut_of(run, parts[part], candidates, i)
            for last in range(2):
                column = (2 * part + last) * num + i
                rows = cut.rows - (cut.count - 1) * cut.block_rows if last else cut.block_rows
                first = min(cut.tile_q, rows)
                extents[0, column], extents[1, column] = cut.size, first
                extents[2, column] = rows - first
                extents[3, column] = cut.kv_len - (cut.tiles - 1) * cut.size


@al.jit
def estimate(run, parts, candidates, rows, begins, units, known, room, runs):
    """Find the time of all candidates, or a bound on it where that is not the lowest.

    parts: equal sequences, [parts, 3]. rows, begins: the orders of items, see `orders_of_items`.
    known: costs, and room for what is found, [rows as above, columns]. room, runs: for what follows
    candidates, and places their items.
    """
    num, best = candidates.shape[1], np.inf
    for i in range(num):
        _write_bound(run, parts, candidates, known, i)
    while True:
        i = _next(known, num)
        # A bound on one of several parts says nothing of all.
        if i < 0 or (known[_LEAST, i] > ALIKE_ITEMS * best and len(parts) == 1):
            break
        known[_IS_DONE, i] = 1
        for part in range(len(parts)):
            cut = cut_of(run, parts[part], candidates, i)
            for last in range(cut.whole == 0, 1 + (cut.count > cut.whole)):
                column = (2 * part + last) * num + i
                _write_shares(run, cut, known, column, known[_NUM_ITEMS, i])
                _follow(run, cut, rows, begins, units, known, column, room, runs)
        end = _placed(run, parts, candidates, known, i, room)
        known[CYCLES, i] = max(known[_LEAST, i], run.rates.launch_cycles + end)
        best = min(best, known[CYCLES, i])


@al.jit_inner
def _next(known, num):
    """The candidate with the lowest bound; -1: all are done."""
    found = -1
    for i in range(num):
        if known[_IS_DONE, i] == 0 and (found < 0 or known[_LEAST, i] < known[_LEAST, found]):
            found = i
    return found


@al.jit_inner
def _follow(run, cut, rows, begins, units, known, column, room, runs):
    """Follow the items of a column, first those whose keys come from the HBM.

    Items of some whole tiles are followed once: warm, where an L2 keeps what they load.
    """
    rates, overlaps = run.rates, run.rates.items_in_flight > 1
    first = (cut.query_tiles - 1) * NUM_ORDERS
    for warm in range(1 + run.stays):
        place = _NOTED + NUM_NOTES * warm
        notes = known[place : place + NUM_NOTES]
        units[RATE, _LOAD] = units[RATE, _STORE] = rates.l2 if warm else rates.hbm
        if warm:
            known[LATENCY, column] = rates.hit_cycles
            known[BEGIN, column] = known[PORT_BEGIN, column] = 0.0
            known[LATE, column] = rates.miss_cycles - rates.hit_cycles
        whole = 1
        if run.causal and warm == run.stays:
            whole = max(1, min(cut.tiles - 1, FEW))
        for steps in range(whole + 1):
            order = first + (steps if steps < whole else FEW + min(cut.tiles, LONGEST) - 1)
            bounds = begins[order], begins[order + 1]
            follow_order(rows, bounds, units, overlaps, known, column, notes, room[0], runs)


@al.jit_inner
def _write_bound(run, parts, candidates, known, i):
    """Find a bound on the time of a candidate, which loads so many bytes.

    A core works through its items step by step, behind the loads of the first one.
    """
    num, rates = candidates.shape[1], run.rates
    items, loaded, steps, work, longest = 0, 0.0, 0.0, 0.0, 0.0
    for part in range(len(parts)):
        cut = cut_of(run, parts[part], candidates, i)
        items += cut.heads * cut.count
        for last in range(2):
            column = (2 * part + last) * num + i
            blocks = (cut.whole, cut.count) if last else (0, cut.whole)
            if blocks[0] == blocks[1]:
                continue
            _write_steps(run, cut, known, column)
            own = _work_of_blocks(run, cut, known, column, blocks)
            whole = own.longest
            if len(parts) == 1 and not run.causal:
                whole *= np.ceil(cut.heads * (blocks[1] - blocks[0]) / rates.cores)
            work += cut.heads * own.cycles
            longest = max(longest, whole)
            of_key = (known[_WORK.key_bytes, column] + known[_WORK.value_bytes, column]) / cut.size
            queries = (blocks[1] - blocks[0]) * _of_both(known, _WORK.query_bytes, column)
            loaded += cut.heads * (queries + own.keys * of_key)
            steps += cut.heads * np.ceil(own.keys / cut.size)
    known[_NUM_ITEMS, i], known[_IS_DONE, i] = items, 0.0
    moved = loaded + run.output_bytes
    least = max(moved * rates.l2, run.compulsory_bytes * rates.sustained)
    if not rates.has_l2:
        least = moved * rates.sustained
    least = max(rates.miss_cycles + least, _ends(run, known, i) + max(work / rates.cores, longest))
    known[BYTES, i], known[STEPS, i] = loaded, steps
    known[_LEAST, i] = known[CYCLES, i] = rates.launch_cycles + least


@al.jit_inner
def _ends(run, known, i):
    """The least time before the first softmax of a core and after its last op."""
    rates = run.rates
    first_bytes = known[_WORK.query_bytes, i] + known[_WORK.key_bytes, i]
    scores = known[_WORK.scores, i] + known[_WORK.scores_move, i] + run.step_latency_cycles
    arrival = max(rates.miss_cycles, rates.hit_cycles + first_bytes * rates.port)
    return arrival + scores + rates.hit_cycles


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
    step, saved = known[_STEP, column], known[_STEP, column] - known[_LAST_STEP, column]
    ends = known[_WORK.begin, column] + known[_WORK.finish, column]
    longest, count = ends + cut.tiles * step - saved, blocks[1] - blocks[0]
    if not run.causal:
        return Blocks(count * longest, longest, float(count * cut.kv_len))
    if count > _MOST_COUNTED:
        seen = cut.kv_len - (cut.q_len - min(cut.tile_q, cut.q_len)) / 2
        least = ends + seen / cut.size * step - saved
        return Blocks(count * least, longest - cut.tiles * step / 2, count * _mean_keys(run, cut))
    work = longest = keys = 0.0
    for block in range(blocks[0], blocks[1]):
        seen = _seen(run, cut, block)
        own = ends + seen.tiles * step - (seen.tiles == cut.tiles) * saved
        lone = known[_LONE if seen.is_first else _LONE_OF_SECOND, column]
        own += known[_MASK, column] * seen.masked - seen.fewer * max(0.0, step - lone)
        work, longest, keys = work + own, max(longest, own), keys + seen.keys
    return Blocks(work, longest, keys)


@al.jit_inner
def _step(run, cut, known, column, last):
    """The least time of a key tile on vector and matrix unit: of a whole one, or of the last one."""
    softmax, weighted = known[_WORK.softmax + last, column], known[_WORK.weighted + last, column]
    rescale, merge = known[_WORK.rescale, column], known[_WORK.merge, column]
    if cut.query_tiles == 1:
        # The output waits for the weighted values.
        product = weighted + known[_WORK.weighted_move, column] + run.step_latency_cycles
        return softmax + merge + max(rescale, product)
    second = last + _SECOND
    vector = softmax + rescale + merge + known[_WORK.softmax + second, column]
    vector += known[_WORK.rescale + _SECOND, column] + known[_WORK.merge + _SECOND, column]
    matrix = weighted + known[_WORK.scores + last, column]
    matrix += known[_WORK.weighted + second, column] + known[_WORK.scores + second, column]
    return max(vector, matrix)


@al.jit_inner
def _mean_keys(run, cut):
    """Keys of the tiles that a block meets, in the mean."""
    seen = float(cut.kv_len)
    if run.causal:
        seen -= (cut.q_len - min(cut.block_rows, cut.q_len)) / 2
    return min(float(cut.kv_len), seen + cut.size / 2)


@al.jit_inner
def _of_both(known, cost, column):
    """A cost of both query tiles."""
    return known[cost, column] + known[cost + _SECOND, column]


@al.jit_inner
def _vector_cycles(known, column):
    """Of the vector unit, with a tile of keys."""
    found = _of_both(known, _WORK.softmax, column) + _of_both(known, _WORK.rescale, column)
    return found + _of_both(known, _WORK.merge, column)


@al.jit_inner
def _matrix_cycles(known, column):
    """Of the matrix unit, with a tile of keys."""
    return _of_both(known, _WORK.scores, column) + _of_both(known, _WORK.weighted, column)


@al.jit_inner
def _write_shares(run, cut, known, column, items):
    """How cores share the memory at a block."""
    rates, active = run.rates, float(min(items, run.rates.cores))
    keys_bytes, values_bytes = known[_WORK.key_bytes, column], known[_WORK.value_bytes, column]
    queries_bytes = _of_both(known, _WORK.query_bytes, column)
    output_bytes = _of_both(known, _WORK.output_bytes, column)
    of_key = (keys_bytes + values_bytes) / cut.size
    all_bytes = queries_bytes + _mean_keys(run, cut) * of_key
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
    ahead = (keys_bytes + known[_WORK.query_bytes, column]) * rates.port
    port_waits = max(0.0, others * rates.l2 * first_bytes - ahead) if rates.has_l2 else 0.0
    # While a channel serves the bytes in a row of others, this core's channel serves its own.
    known[LATENCY, column] = rates.miss_cycles + max(0.0, rates.piece_cycles - waits)
    known[PORT_LATENCY, column], known[LATE, column] = rates.hit_cycles, 0.0
    known[BEGIN, column], known[PORT_BEGIN, column] = waits, port_waits
    away = rates.miss_cycles - rates.hit_cycles
    known[_WAIT, column] = max(0.0, waits - away, port_waits)
    known[_OTHER_KEYS, column] = (queries_bytes + output_bytes) / of_key
    known[_AHEAD, column] = (keys + values) / 2
    last = float((items - 1) % rates.cores + 1)
    step = _vector_cycles(known, column) + _matrix_cycles(known, column)
    outstanding, think = queries_bytes + 2 * cut.size * of_key, rates.miss_cycles + step / 2
    for warm in range(2):
        share = queries_bytes / all_bytes
        if not warm or not run.stays:
            share += shared * (1 - share)
        at, by_all = warm * _OF_WARM, _shared_cycles(rates, active, share)
        by_last = _shared_cycles(rates, last, share)
        if rates.piece_cycles > 0 and not warm:
            by_all = max(by_all, _queued_cycles(rates, active * share, outstanding, think))
            by_last = max(by_last, _queued_cycles(rates, last * share, outstanding, think))
        known[_SHARED + at, column] = of_key * by_all
        known[_LAST_SHARED + at, column] = of_key * (by_last if items > rates.cores else by_all)
        known[_BY_OTHERS + at, column] = max(0.0, 1 - max(1 / active, rates.port / by_all))


@al.jit_inner
def _write_steps(run, cut, known, column):
    """The least times of steps."""
    loads = known[_WORK.key_bytes, column] + known[_WORK.value_bytes, column]
    known[_STEP, column] = _step(run, cut, known, column, 0)
    known[_LAST_STEP, column] = _step(run, cut, known, column, _LAST)
    known[_PERIOD, column] = max(known[_STEP, column], loads * run.rates.port)
    known[_MASK, column] = _of_both(known, _WORK.mask, column)
    for tile in range(2):
        second = tile * _SECOND
        vector = known[_WORK.softmax + second, column] + known[_WORK.rescale + second, column]
        vector += known[_WORK.merge + second, column]
        chain = known[_WORK.softmax + second, column] + known[_WORK.weighted + second, column]
        chain += known[_WORK.scores + second, column] + known[_WORK.scores_move + second, column]
        known[_LONE + tile, column] = max(vector, chain + run.step_latency_cycles)


@al.jit_inner
def _placed(run, parts, candidates, known, i, times):
    """When the last item of a candidate has ended."""
    num, kinds = candidates.shape[1], 0
    for part in range(len(parts)):
        cut = cut_of(run, parts[part], candidates, i)
        # Blocks at the same place in their heads are alike; without a mask all are.
        period = cut.q_len // cut.block_rows if run.causal else 1
        if run.causal and period * cut.block_rows != cut.q_len:
            period = cut.count
        for block in range(cut.count):
            is_last = block == cut.whole
            if block < period or is_last:
                column = (2 * part + is_last) * num + i
                seen = _seen(run, cut, block)
                for warm in range(2):
                    _write_times(run, cut, seen, known, column, warm, times, kinds)
            else:
                for row in range(ITEMS):
                    times[row, kinds] = times[row, kinds - period]
            times[ITEMS, kinds] = cut.heads
            times[IS_COLD, kinds] = run.stays and block == (0 if run.by_head else cut.count - 1)
            times[ORDER, kinds] = kinds
            kinds += 1
    if len(parts) > 1:
        _sort(times, kinds)
    elif not run.by_head:
        for kind in range(kinds):
            times[ORDER, kind] = kinds - 1 - kind
    return last_end(times, kinds, run.by_head and len(parts) == 1, run.rates.cores)


class Seen(NamedTuple):
    """What a block sees."""

    keys: float
    """Of the tiles that it meets."""
    tiles: int
    masked: float
    """Tiles that the diagonal crosses, each by the share of the rows that it hides keys of."""
    fewer: int
    """By how many tiles one of two query tiles sees less than the other."""
    is_first: bool
    """Whether it is the first one that sees more."""


@al.jit_inner
def _seen(run, cut, block):
    """What a block sees."""
    if not run.causal:
        return Seen(float(cut.kv_len), cut.tiles, 0.0, 0, True)
    begin = block * cut.block_rows
    rows, hidden = min(cut.block_rows, cut.rows - begin), cut.kv_len - cut.q_len
    first, masked, done = min(cut.tile_q, rows), 0.0, 0
    one = _tiles_seen(cut, begin, first)
    two = _tiles_seen(cut, begin + first, rows - first) if rows > first else one
    tiles = max(one, two)
    # Each head among the rows has its own diagonal.
    while done < rows:
        position = (begin + done) % cut.q_len
        own = min(rows - done, cut.q_len - position)
        masked += own / rows * max(0, tiles - (position + hidden + 1) // cut.size)
        done += own
    keys = float(min(cut.kv_len, tiles * cut.size))
    return Seen(keys, tiles, masked, abs(one - two), one > two)


@al.jit_inner
def _tiles_seen(cut, begin, rows):
    """Key tiles that some query rows see, as `online_softmax` counts them."""
    last = min(begin % cut.q_len + rows, cut.q_len)
    return -(-(last + cut.kv_len - cut.q_len) // cut.size)


@al.jit_inner
def _write_times(run, cut, seen, known, column, warm, times, kind):
    """Write the times of an item that sees so much."""
    noted = _NOTED + (NUM_NOTES if warm and run.stays else 0)
    few, place, later = LONGEST, noted + LAST, 0.0
    if seen.tiles < cut.tiles:
        if run.stays and not warm:
            later = known[place + END, column] - known[place + NUM_NOTES + END, column]
            noted += NUM_NOTES
        few, place = FEW, noted + NOTES * (min(seen.tiles, FEW) - 1)
    period = known[_PERIOD, column]
    if cut.tiles >= LONGEST:
        period = max(period, (known[noted + FOURTH, column] - known[noted + SECOND, column]) / 2)
    lone = known[_LONE if seen.is_first else _LONE_OF_SECOND, column]
    more = max(0, seen.tiles - few) * period - seen.fewer * max(0.0, period - lone)
    end, both = known[place + END, column], known[place + BOTH, column]
    hidden = min(max(0.0, 2 * end - both), end + more)
    waits = 0.0 if warm and run.stays else known[_WAIT, column]
    at = _OF_WARM * warm
    by_others, shared = known[_BY_OTHERS + at, column], known[_SHARED + at, column]
    steps, keys = end + more - hidden, seen.keys + known[_OTHER_KEYS, column]
    # One tile, behind what all ask for at the start, and the other loads at the fair share.
    slowed = known[noted + END, column] + max(0.0, seen.keys - known[_AHEAD, column]) * shared
    masks, first = known[_MASK, column] * seen.masked, WARM if warm else COLD
    last_shared = known[_LAST_SHARED + at, column]
    own_steps = last_steps = _contended(steps, keys * shared, by_others)
    if last_shared != shared:
        last_steps = _contended(steps, keys * last_shared, by_others)
    times[first + _ALONE, kind] = max(end + more + later, slowed) + masks
    times[first + _STEPS, kind], times[first + _LAST_STEPS, kind] = (
        own_steps + masks,
        last_steps + masks,
    )
    times[first + _CLAIMS, kind] = max(0.0, known[place + CLAIMS, column] + more + later)
    times[first + _OPENS, kind] = max(0.0, known[place + OPENS, column] + more + later)
    times[first + _WAITS, kind] = waits


@al.jit_inner
def _sort(times, kinds):
    """Put kinds that see more keys first (Shell, 1959)."""
    gap = kinds // 2
    while gap > 0:
        for last in range(gap, kinds):
            own, place = times[ORDER, last], last
            while place >= gap and _sees_more(times, own, times[ORDER, place - gap]):
                times[ORDER, place] = times[ORDER, place - gap]
                place -= gap
            times[ORDER, place] = own
        gap //= 2


@al.jit_inner
def _sees_more(times, kind, other):
    """Whether a kind comes before another one: items that see more take longer."""
    return times[WARM + _ALONE, int(kind)] > times[WARM + _ALONE, int(other)]
