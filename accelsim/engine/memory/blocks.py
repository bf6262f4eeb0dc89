"""Blocks of lines that a cache has been asked for together, and still has.

Tiles are read again and again. While all lines of one are there and were looked up last with it,
asking for it again changes nothing but when they were used last: the share of its lines is used
again (`accelsim.engine.memory.sets`).

Rows of a tile may begin and end within lines. Then the first lines of all rows are a block, so are
the last ones, and the lines between are one. So two tiles beside each other have the block of the
lines that both touch in common, as have the steps of a matrix product whose depth is less than a
line. See docs/decisions/0076-columns-of-lines.md.
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.engine.memory.arrivals import arrival_of
from accelsim.engine.memory.hbm.state import record, records
from accelsim.engine.memory.sectors import sectors_of
from accelsim.engine.memory.sets import MOST_PLACES, ROW_PLACES, is_whole, use_share
from accelsim.runtime.jit import jit_inline, jit_inner

NUM_BLOCKS = 1 << 16
"""Places for blocks; one that needs the place of another one takes it."""
_PARTS = 3
_LEFT, _INNER, _RIGHT = range(_PARTS)
_NOT_THERE = np.int64(-1)
"""As an arrival."""

_BLOCK = record(
    "first_line",
    "lines",  # of a row
    "rows",
    "step_bytes",
    "column",  # of its first line within the rows of the transfer that looked it up line by line
    "share",  # number of the share of its lines
    "serial",  # of that share
    "num_uses",  # of lines in a look-up
    "wanted",  # sectors of every line that are there, as bits
)


class Columns(NamedTuple):
    """The lines that a transfer touches, by row and column."""

    first_line: np.int64
    lines: np.int64
    """Of a row."""
    rows: np.int64
    step_bytes: np.int64
    """From row to row; 0 of a single one."""
    is_grid: bool
    """Whether all rows touch the same columns, and none a line of another one. Then line `col` of
    row `row` has place `row * ROW_PLACES + col` in its share, whatever other columns there are."""
    left: bool
    """Whether the first line of each row is a block of its own."""
    right: bool


def new_blocks() -> Any:
    """Return places for blocks, none of which is taken."""
    return records(NUM_BLOCKS, _BLOCK)


@jit_inner
def columns_of(transfer, line_bytes):
    """Return the columns of a transfer."""
    first = transfer.address // line_bytes
    begin, end = transfer.address - first * line_bytes, transfer.address + transfer.row_bytes
    last = (end - 1) // line_bytes
    lines, is_cut = last + 1 - first, end != (last + 1) * line_bytes
    step = transfer.step_bytes if transfer.rows > 1 else np.int64(0)
    is_apart = step % line_bytes == 0 and (transfer.rows == 1 or step >= lines * line_bytes)
    is_grid = is_apart and 0 < lines <= ROW_PLACES and transfer.rows <= MOST_PLACES // ROW_PLACES
    left = is_grid and (begin > 0 or (lines == 1 and is_cut))
    right = is_grid and lines > 1 and is_cut
    return Columns(first, lines, transfer.rows, step, is_grid, left, right)


@jit_inline
def use_blocks(cache, transfer, columns):
    """Look all that a transfer reads up at once, if it is there, or of each block on the way with
    one transfer.

    Returns when it arrives, as `read_run` does; negative if lines must be looked up one by one.
    """
    state, sets, arrival = cache.state[0], cache.sets, np.int64(0)
    for part in range(_PARTS):
        first, lines = _lines_of(columns, part)
        if lines > 0:
            own = _arrival_of_block(cache, first, lines, columns, transfer, part)
            arrival = max(arrival, own) if min(arrival, own) >= 0 else _NOT_THERE
    if arrival < 0:
        return arrival
    uses, num_uses = sets.state[0], columns.rows * ROW_PLACES
    for part in range(_PARTS):
        first, lines = _lines_of(columns, part)
        if lines > 0:
            block = _place_of(cache.blocks, first)
            use_share(sets, block.share, first - columns.first_line - block.column)
            if not columns.is_grid:
                num_uses = block.num_uses
    uses.num_uses += num_uses
    num_bytes = transfer.rows * transfer.row_bytes
    state.read_bytes += num_bytes
    state.hit_bytes += num_bytes
    return arrival


@jit_inner
def note_blocks(cache, transfer, columns):
    """Note that all lines of a transfer are there now, those of a share for each block."""
    uses, shares = cache.sets.state[0], cache.sets.shares
    for part in range(_PARTS):
        first, lines = _lines_of(columns, part)
        if lines == 0:
            continue
        number = uses.inner
        if part != _INNER:
            number = uses.left if part == _LEFT else uses.right
        share, block = shares[number], _place_of(cache.blocks, first)
        # Of lines that were there before it is known what others fetched.
        is_known = not share.has_new and _is_block(block, first, lines, columns)
        known = block.wanted if is_known else 0
        block.wanted = known | max(_wanted_of(transfer, columns, part, cache.state[0]), 0)
        block.first_line, block.lines = first, lines
        block.rows, block.step_bytes = columns.rows, columns.step_bytes
        block.column, block.num_uses = first - columns.first_line, uses.num_uses - uses.begun_at
        # Another serial number if the lines did not fit one share; then it is never whole.
        block.share, block.serial = number, uses.inner_serial if part == _INNER else share.serial


@jit_inner
def _lines_of(columns, part):
    """Return the first line of a block of a transfer, and how many lines of a row it has."""
    if part == _LEFT:
        return columns.first_line, np.int64(columns.left)
    if part == _RIGHT:
        return columns.first_line + columns.lines - 1, np.int64(columns.right)
    return columns.first_line + columns.left, columns.lines - columns.left - columns.right


@jit_inline
def _arrival_of_block(cache, first, lines, columns, transfer, part):
    """Return when a block arrives, 0 if it is there; negative if it must be looked up by lines."""
    state, shares = cache.state[0], cache.sets.shares
    block = _place_of(cache.blocks, first)
    if not _is_block(block, first, lines, columns) or not is_whole(
        shares, block.share, block.serial
    ):
        block.wanted = 0
    if block.wanted == 0 or _wanted_of(transfer, columns, part, state) & ~block.wanted:
        return _NOT_THERE
    share = shares[block.share]
    if share.first_fetch < share.last_fetch > state.num_settled:
        return _NOT_THERE
    return arrival_of(share.last_fetch, state, cache.arrivals)


@jit_inner
def _place_of(blocks, first_line):
    """Return the place of the block that begins at a line; others may have the same one."""
    # Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4), in 63 bits.
    folded = (first_line ^ (first_line >> 31)) & 0x7FFFFFFF
    return blocks[((folded * 0x9E3779B1) >> 15) & (NUM_BLOCKS - 1)]


@jit_inner
def _is_block(block, first, lines, columns):
    return (
        block.first_line == first
        and block.lines == lines
        and block.rows == columns.rows
        and block.step_bytes == columns.step_bytes
    )


@jit_inner
def _wanted_of(transfer, columns, part, state):
    """Return the sectors that a transfer wants of every line of a block, as bits; more than there
    are where lines differ."""
    begin = transfer.address - columns.first_line * state.line_bytes
    if part == _LEFT:
        return sectors_of(begin, min(begin + transfer.row_bytes, state.line_bytes), state)
    if part == _RIGHT:
        end = begin + transfer.row_bytes - (columns.lines - 1) * state.line_bytes
        return sectors_of(np.int64(0), end, state)
    num_bytes = transfer.row_bytes
    if columns.step_bytes == transfer.row_bytes:
        num_bytes *= columns.rows
    is_run = columns.rows == 1 or columns.step_bytes == transfer.row_bytes
    is_aligned = is_run or columns.step_bytes % state.line_bytes == 0
    if columns.is_grid or (is_aligned and begin == 0 and num_bytes % state.line_bytes == 0):
        return state.whole_line
    return np.int64(-1)
