"""Sectors of a line, as the bits of a number."""

import numpy as np

from accelsim.runtime.jit import jit_inline, jit_inner


@jit_inline
def sectors_of(first, stop, state):
    """Return the sectors that bytes first..stop of a line touch, as bits."""
    if stop - first == state.line_bytes:
        return state.whole_line
    size = state.sector_bytes
    begin, end = first // size, (stop + size - 1) // size
    return ((1 << end) - 1) & ~((1 << begin) - 1)


@jit_inline
def first_gap(sectors, state):
    """Return the bytes first..stop of the line that the lowest run of these sectors takes."""
    if sectors == state.whole_line:
        return np.int64(0), state.line_bytes
    begin = np.int64(0)
    while not (sectors >> begin) & 1:
        begin += 1
    end = begin + 1
    while (sectors >> end) & 1:
        end += 1
    return begin * state.sector_bytes, end * state.sector_bytes


@jit_inner
def count(sectors):
    """Return how many sectors these bits are."""
    number = 0
    while sectors:
        sectors &= sectors - 1
        number += 1
    return number


@jit_inner
def bytes_hit(sectors, first, stop, state):
    """Return how many of the bytes first..stop of a line lie in these sectors."""
    size = state.sector_bytes
    num_bytes = count(sectors) * size
    if (sectors >> (first // size)) & 1:
        num_bytes -= first % size
    if (sectors >> ((stop - 1) // size)) & 1:
        num_bytes -= -stop % size
    return num_bytes
