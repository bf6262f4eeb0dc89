"""Blocks of lines that a cache has been asked for together, and still has.

Tiles are read again and again. While all lines of one are there and were looked up last with it,
asking for it again changes nothing but when they were used last: the share of its lines is used
again (`accelsim.engine.memory.sets`).

Rows that are parts of the same lines are of one block, as the steps of a matrix product are whose
depth is less than a line.
"""

from typing import Any

from accelsim.engine.memory.hbm.state import record, records
from accelsim.runtime.jit import jit_inner

NUM_BLOCKS = 1 << 16
"""Places for blocks; one that needs the place of another one takes it."""

_BLOCK = record(
    "first_line",
    "lines",  # of a row
    "rows",
    "step_bytes",
    "share",  # number of the share of its lines
    "serial",  # of that share
    "num_placed",  # lines that came to it
    "num_uses",  # of lines in a look-up
    "wanted",  # sectors of every line that are there, as bits; of a row of several lines its bytes
    "first_fetch",  # transfers that lines were on their way with at the full look-up: the first
    "last_fetch",  # and the last of them
)


def new_blocks() -> Any:
    """Return places for blocks, none of which is taken."""
    return records(NUM_BLOCKS, _BLOCK)


@jit_inner
def block_at(blocks, first_line):
    """Return the place of the block that begins at a line; others may have the same one."""
    # Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4), in 63 bits.
    folded = (first_line ^ (first_line >> 31)) & 0x7FFFFFFF
    return blocks[((folded * 0x9E3779B1) >> 15) & (NUM_BLOCKS - 1)]


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
def begin_block(block, first_line, lines, transfer):
    """Take a place for the lines of a transfer."""
    block.first_line, block.lines = first_line, lines
    block.rows, block.step_bytes = transfer.rows, transfer.step_bytes
