"""The loop of attention over shifted keys, and the steps that its kernels share.

`k` is the `Layout` of the frame. `at` is a tile of query rows and `j` a key tile of its KV head;
`number` is a key tile counted over all KV heads.
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash import online_softmax as online
from accelsim.kernels.attention.folding import mask_keys


class Steps(NamedTuple):
    """What a kernel does in a way of its own: compiled functions."""

    begin_shifting: Any
    """(p, k): prepare a work item that makes K'."""
    shift_keys: Any
    """(p, turn, number, k): make K' of a key tile and store it."""
    begin_rows: Any
    """(p, at, k): load a tile of query rows and reset what runs along the keys."""
    multiply_keys: Any
    """(p, j, at, k): S' of key tile j."""
    update_weights: Any
    """(p, j, at, k): weights of key tile j, and the factors that merge it."""


class Loops(NamedTuple):
    """What the frame records: compiled functions of (p, k)."""

    attend: Any
    make_shifted_keys: Any


def loops_of(steps: Steps) -> Loops:
    """Return the loops of a kernel with steps of its own.

    They are compiled for these steps. Given as arguments, steps would be found in no compiled code
    on disk, because Numba knows them by their places in memory.
    """

    @al.jit
    def attend(p, k):
        """Make K' if it is due, then all query tiles of all heads."""
        make_shifted_keys(p, k)
        tiles_q, phase = -(-k.q_len // k.tile_q), min(k.shift_items, 1)
        for item in range(tiles_q * k.heads):
            # Tiles that see the most keys come first.
            first = (tiles_q - 1 - item // k.heads) * k.tile_q
            al.begin_item(p, phase)
            query_tile(p, online.query_rows(item, item % k.heads, first, k), k)

    @al.jit
    def make_shifted_keys(p, k):
        """Phase 0, if there is one: K' of all key tiles of all KV heads."""
        for item in range(k.shift_items):
            al.begin_item(p, 0)
            steps.begin_shifting(p, k)
            for number in range(item, k.key_tiles, k.shift_items):
                steps.shift_keys(p, number // k.shift_items, number, k)

    @al.jit_inner
    def query_tile(p, at, k):
        """One tile of query rows against all the keys it sees."""
        tiles_k = online.seen_tiles(at, k)
        steps.begin_rows(p, at, k)
        steps.multiply_keys(p, 0, at, k)
        for j in range(tiles_k):
            if j + 1 < tiles_k:
                steps.multiply_keys(p, j + 1, at, k)
            steps.update_weights(p, j, at, k)
            _merge_tile(p, j, at, k)
        online.finish_rows(p, at, k)

    return Loops(attend, make_shifted_keys)


@al.jit_inner
def column(buffer, turn, at):
    """One number for each row of a tile of query rows."""
    return al.tile(buffer, turn, at.rows, 1)


@al.jit_inner
def number_of(j, at, k):
    """Number of key tile j among those of all KV heads."""
    return at.kv_row // k.kv_len * k.tiles_k + j


@al.jit_inner
def place_of(number, k):
    """First row of a key tile in K, and its keys."""
    head, j = number // k.tiles_k, number % k.tiles_k
    return head * k.kv_len + j * k.tile_k, min(k.tile_k, k.kv_len - j * k.tile_k)


@al.jit_inner
def begin_rows(p, at, k):
    """Load a tile of query rows and reset what runs along the keys."""
    al.load(p, al.tile(k.queries, at.item, at.rows, k.dim), k.hbm.q, at.q_row, 0)
    online.reset_rows(p, at.rows, -np.inf, k)
    if k.causal:
        al.fill(p, column(k.lowest, 0, at), k.lowest_max)


@al.jit_inner
def multiply_shifted(p, j, keys, at, k):
    """S' = Q K'^T of key tile j, of which `keys` rows have been loaded or made."""
    queries = al.tile(k.queries, at.item, at.rows, k.dim)
    acc = al.tile(k.scores_acc, j, at.rows, keys)
    al.matmul_transposed(p, acc, queries, al.tile(k.shifted_keys, j, keys, k.dim), False)
    al.move(p, al.tile(k.scores, j, at.rows, keys), acc)


@al.jit_inner
def local_softmax(p, j, at, k):
    """Weights of key tile j in its own frame: maximum, exponentials and their sum."""
    rows, cols = at.rows, online.keys_of(j, at, k)
    scores, x = al.tile(k.scores, j, rows, cols), al.tile(k.x, j, rows, cols)
    tile_max, is_masked = column(k.tile_max, 0, at), False
    if k.causal:
        is_masked = mask_keys(p, al.computed_in(scores, x.fmt), j * k.tile_k, at, k)
    al.row_max(p, tile_max, scores)
    if is_masked:
        al.maximum(p, tile_max, tile_max, column(k.lowest, 0, at))
    al.subtract_column(p, x, scores, tile_max)
    al.exp(p, x, x)
    al.row_sum(p, column(k.tile_sum, 0, at), x)
    if k.weights.fmt != x.fmt:
        al.convert(p, al.tile(k.weights, j, rows, cols), x)
    if k.wide_max.fmt != tile_max.fmt:
        al.convert(p, column(k.wide_max, 0, at), tile_max)


@al.jit_inner
def merge_factors(p, at, k):
    """Turn the exponents in wide_keep and wide_enter into the factors of the vector path."""
    for narrow, wide in ((k.keep, k.wide_keep), (k.enter, k.wide_enter)):
        factor = column(wide, 0, at)
        al.exp(p, factor, factor)
        if narrow.fmt != wide.fmt:
            al.convert(p, column(narrow, 0, at), factor)


@al.jit_inner
def _merge_tile(p, j, at, k):
    """Add key tile j to the running sum and output: keep times the old, enter times the new."""
    keep, enter = column(k.keep, 0, at), column(k.enter, 0, at)
    total, tile_sum = column(k.row_sum, 0, at), column(k.tile_sum, 0, at)
    output, product = al.tile(k.output, 0, at.rows, k.dim), al.tile(k.product, j, at.rows, k.dim)
    al.multiply(p, total, total, keep)
    al.multiply(p, tile_sum, tile_sum, enter)
    al.add(p, total, total, tile_sum)
    online.load_values(p, j, j, at, k)
    online.weigh_values(p, j, j, at, k)
    al.multiply_column(p, product, product, enter)
    al.multiply_column(p, output, output, keep)
    al.add(p, output, output, product)
