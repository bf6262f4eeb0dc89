"""Blocks of lines that a cache has been asked for together, and still has.

Tiles are read again and again. While all lines of one are there, asking for it again changes
nothing but when each line was used last, and that by the same amount. So a block keeps that amount
for its lines: `shift` is to be added to what is kept of every line that was looked up with the
block last. A block is whole until one of its lines is evicted, or looked up with anything else.

Rows that are parts of the same lines are of one block, as the steps of a matrix product are whose
depth is less than a line.
"""

from typing import Any

import numpy as np

from accelsim.runtime.jit import jit_inner

NUM_BLOCKS = 1 << 16
"""Places for blocks; one that needs the place of another one takes it."""
NO_BLOCK = 0
_MASK = NUM_BLOCKS - 1
_NEVER = 1 << 62

_FIELDS = (
    "number",  # of the block that has this place now; new for each full look-up
    "first_line",
    "lines",  # of a row
    "rows",
    "step_bytes",
    "is_whole",
    "wanted",  # sectors of every line that are there, as bits; of a row of several lines its bytes
    "first_access",  # number of the first access to a line in the full look-up
    "num_accesses",  # of a look-up
    "shift",  # of the accesses, from the full look-up to the last one
    "first_fetch",  # transfers that lines were on their way with at the full look-up: the first
    "last_fetch",  # and the last of them
)
_BLOCK = np.dtype((np.record, np.dtype([(name, np.int64) for name in _FIELDS], align=True)))


def new_blocks() -> Any:
    """Return places for blocks, none of which is taken."""
    blocks = np.zeros(NUM_BLOCKS, _BLOCK).view(np.recarray)
    blocks.number = np.arange(NUM_BLOCKS)
    return blocks


@jit_inner
def block_at(blocks, first_line):
    """Return the place of the block that begins at a line; others may have the same one."""
    # Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4), in 63 bits.
    folded = (first_line ^ (first_line >> 31)) & 0x7FFFFFFF
    return blocks[((folded * 0x9E3779B1) >> 15) & _MASK]


@jit_inner
def is_block(block, first_line, lines, transfer):
    """Whether a block has just the lines of a transfer, in as many rows."""
    return (
        block.first_line == first_line
        and block.lines == lines
        and block.rows == transfer.rows
        and block.step_bytes == transfer.step_bytes
    )


@jit_inner
def begin_block(block, first_line, lines, transfer, num_accesses):
    """Take a place for the lines of a transfer, before they are looked up one by one."""
    is_same = block.is_whole and is_block(block, first_line, lines, transfer)
    block.wanted = block.wanted if is_same else 0
    block.number += NUM_BLOCKS
    block.first_line, block.lines = first_line, lines
    block.rows, block.step_bytes = transfer.rows, transfer.step_bytes
    block.is_whole, block.first_access, block.shift = 1, num_accesses, 0
    block.first_fetch, block.last_fetch = _NEVER, 0


@jit_inner
def shift_of(blocks, number):
    """Return what to add to the last use of a line that was looked up with a block."""
    block = blocks[number & _MASK]
    return block.shift if block.number == number else np.int64(0)


@jit_inner
def break_block(blocks, number):
    """Note that a line of a block is there no more, or belongs to another look-up."""
    block = blocks[number & _MASK]
    if block.number == number:
        block.is_whole = 0
