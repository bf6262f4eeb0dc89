"""How candidates cut the query rows into blocks, and which keys a block sees: compiled code."""

from typing import NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash.known import (
    BATCH,
    FOLD,
    KV_LEN,
    Q_LEN,
    QUERY_TILES,
    TILE_K,
    TILE_Q,
)
from accelsim.kernels.estimate.rates import (
    Rates,
)


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
    near: float
    """By which factor estimates may be beyond the best one and are still asked for."""
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
    num_blocks: int
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
                rows = cut.rows - (cut.num_blocks - 1) * cut.block_rows if last else cut.block_rows
                first = min(cut.tile_q, rows)
                extents[0, column], extents[1, column] = cut.size, first
                extents[2, column] = rows - first
                extents[3, column] = cut.kv_len - (cut.tiles - 1) * cut.size


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
def seen_of(run, cut, block):
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
def mean_keys(run, cut):
    """Keys of the tiles that a block meets, in the mean."""
    seen = float(cut.kv_len)
    if run.causal:
        seen -= (cut.q_len - min(cut.block_rows, cut.q_len)) / 2
    return min(float(cut.kv_len), seen + cut.size / 2)
