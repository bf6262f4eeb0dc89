"""Tensors that go past a cache: each of their sectors is asked for once.

A sector that nobody asked for before is not in the cache, whatever the cache holds. So its look-up
is known, and what is left of it is the line that makes room. That matters only in sets in which
another line is asked for again, or is dirty: these are *watched*, and in them everything happens as
without this file. Weights of a decode step, and its keys and values, are such tensors: nearly all
that it reads. See docs/decisions/0067-sectors-asked-for-once.md.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.memory.sets import BLOCK_LINES, set_of
from accelsim.hardware.l2 import L2Spec
from accelsim.program.ops import (
    FIELD_MASK,
    FIRST_MEMORY_UNIT,
    HEAD,
    TENSOR_MASK,
    TENSOR_SHIFT,
    A,
    B,
    C,
    D,
    Op,
)
from accelsim.program.program import Program, Words
from accelsim.runtime.jit import borrow, jit, jit_inline, jit_inner

_GATHER, _STORE = Op.GATHER.value, Op.STORE.value
_READ, _AGAIN, _WRITTEN = 1, 2, 4
"""What is told of a tensor: it is read, some sector of it again, it is written."""
_WORD_BITS = 64
_MOST_BYTES = 1 << 36
"""Bytes from the first tensor to the last up to which sectors are told apart."""


class Lone(NamedTuple):
    """Which tensors go past the cache, and where they leave a trace."""

    tensors: npt.NDArray[np.bool_]
    """[tensor]."""
    watched: npt.NDArray[np.int64]
    """Watched sets before each set, the sets repeated so that a block of lines does not wrap."""


def nothing_alone(num_tensors: int) -> Lone:
    """Return that all tensors are looked up."""
    return Lone(np.zeros(max(num_tensors, 1), np.bool_), np.zeros(0, np.int64))


def lone_in(program: Program, l2: L2Spec | None) -> Lone:
    """Return which tensors of a program go past a cache."""
    if l2 is None:
        return nothing_alone(0)
    key = "lone", l2.line, l2.sector, l2.sets, l2.writes
    return program.find(key, lambda: _lone_in(program, l2))


def _lone_in(program: Program, l2: L2Spec) -> Lone:
    none = nothing_alone(len(program.tensors))
    begins = np.array([each.address for each in program.tensors], np.int64)
    ends = np.array([each.address + each.size_bytes for each in program.tensors], np.int64)
    if not len(begins) or (begins % l2.line).any() or (begins[1:] < ends[:-1]).any():
        return none
    span_bytes = int(ends[-1] - begins[0])
    if span_bytes > _MOST_BYTES:
        return none
    told = np.zeros(len(begins), np.int64)
    told[program.totals.read_bytes > ends - begins] = _READ | _AGAIN
    touched = np.zeros(span_bytes // l2.sector // _WORD_BITS + 2, np.uint64)
    if not _tell(program.ops, program.units, begins, ends, l2.sector, touched, told):
        return none
    alone = told == _READ
    if l2.writes == "through":
        alone |= told == _WRITTEN
    watched = _sets_of(begins, ends, ~alone & (told != 0), l2)
    return none if watched is None or not alone.any() else Lone(alone, watched)


def _sets_of(
    begins: Words, ends: Words, chosen: npt.NDArray[np.bool_], l2: L2Spec
) -> npt.NDArray[np.int64] | None:
    """Return `Lone.watched` for the lines of chosen tensors; None for most of the sets."""
    first, after = begins[chosen] // l2.line, -(-ends[chosen] // l2.line)
    if 2 * int((after - first).sum()) > l2.sets:
        return None
    is_watched = np.zeros(l2.sets, np.int64)
    for begin, end in zip(first.tolist(), after.tolist(), strict=True):
        is_watched[set_of.py_func(np.arange(begin, end), l2.sets)] = 1
    repeated = np.resize(is_watched, l2.sets + BLOCK_LINES)
    return np.append(0, np.cumsum(repeated))


@jit
def _tell(ops, units, begins, ends, sector_bytes, touched, told):
    """Tell of every tensor how it is used; return False where that cannot be told."""
    origin = begins[0]
    for i in range(len(ops)):
        if units[i] < FIRST_MEMORY_UNIT:
            continue
        op, rows, row_bytes, step = ops[i, HEAD] & FIELD_MASK, ops[i, B], ops[i, C], ops[i, D]
        tensor = (ops[i, HEAD] >> TENSOR_SHIFT) & TENSOR_MASK
        if op == _GATHER or tensor >= begins.size or step < 0 or rows < 1 or row_bytes < 1:
            return False
        if step == row_bytes:
            rows, row_bytes = np.int64(1), rows * row_bytes
        address = ops[i, A]
        if address < begins[tensor] or address + (rows - 1) * step + row_bytes > ends[tensor]:
            return False
        if op == _STORE:
            told[tensor] |= _WRITTEN
            continue
        told[tensor] |= _READ
        for row in range(rows):
            if told[tensor] & (_AGAIN | _WRITTEN):
                break
            begin = address + row * step - origin
            first, last = begin // sector_bytes, (begin + row_bytes - 1) // sector_bytes
            if _touch(touched, first, last):
                told[tensor] |= _AGAIN
    return True


@jit_inner
def _touch(touched, first, last):
    """Note sectors first..last; return whether one of them was noted before."""
    before = np.uint64(0)
    word, end = first // _WORD_BITS, last // _WORD_BITS
    ones = np.uint64(0xFFFFFFFFFFFFFFFF)
    mask = ones << np.uint64(first - word * _WORD_BITS)
    while word <= end:
        if word == end:
            mask &= ones >> np.uint64(_WORD_BITS - 1 - (last - end * _WORD_BITS))
        before |= touched[word] & mask
        touched[word] |= mask
        mask = ones
        word += 1
    return before != np.uint64(0)


@jit_inner
def borrowed_lone(lone):
    """Return the same as borrowed views."""
    return Lone(borrow(lone.tensors), borrow(lone.watched))


@jit_inline
def are_watched(lone, line, num_sets):
    """Return whether any line of the aligned block of lines around one is of a watched set."""
    first = (line - line % BLOCK_LINES) % num_sets
    return lone.watched[first + BLOCK_LINES] > lone.watched[first]


@jit_inline
def is_watched(lone, own):
    """Return whether a set is watched."""
    return lone.watched[own + 1] > lone.watched[own]
