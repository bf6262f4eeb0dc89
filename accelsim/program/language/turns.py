"""Loops whose turns are alike: a long program records only the first of them.

See docs/decisions/0054-loops-that-repeat.md.
"""

from accelsim.program.ops import (
    FIELD_MASK,
    HEAD,
    HEADER_WORDS,
    ITEM_CAPACITY,
    ITEM_LEFT_OUT,
    ITEM_LOOP,
    ITEM_PERIOD,
    ITEM_WORDS,
    MOST_PERIODS,
    NUM_ITEMS,
    NUM_RECORDED,
    WORDS,
    A,
    Op,
)
from accelsim.program.recording import Recorder
from accelsim.runtime.jit import jit_inner

__all__ = ["next_turn"]

_LAST_TRANSFER = max(Op.LOAD, Op.GATHER, Op.STORE).value


@jit_inner
def next_turn(p: Recorder, turn: int, first: int, end: int, in_period: int) -> int:
    """Return the turn of a loop that comes after `turn`, mostly turn + 1.

    The caller promises that turns `first` to `end` - 1 of the loop record the same ops, but for
    slots that are used in turn, again after `in_period` turns, and addresses that advance evenly.
    `first` is 1 or more. An item has one such loop. A recorder that leaves turns out goes to a
    later turn once it has seen some periods, if these really were alike.
    """
    following = turn + 1
    if p[MOST_PERIODS] != 0:
        following = _after_those_left_out(p, following, first, end, in_period)
    return following


@jit_inner
def _after_those_left_out(p: Recorder, following: int, first: int, end: int, in_period: int) -> int:
    at = HEADER_WORDS + (p[NUM_ITEMS] - 1) * ITEM_WORDS
    if following == first:
        p[at + ITEM_LOOP] = p[NUM_RECORDED]
    left_out = (end - following) // in_period
    if following != first + p[MOST_PERIODS] * in_period or left_out < 1:
        return following
    period = (p[NUM_RECORDED] - p[at + ITEM_LOOP]) // p[MOST_PERIODS]
    if not _has_repeated(p, p[at + ITEM_LOOP], period):
        return following
    p[at + ITEM_PERIOD] = period
    p[at + ITEM_LEFT_OUT] = left_out
    return following + left_out * in_period


@jit_inner
def _has_repeated(p: Recorder, loop: int, period: int) -> bool:
    """Return whether the ops since number `loop` are the same, but for addresses, each period."""
    ops = HEADER_WORDS + p[ITEM_CAPACITY] * ITEM_WORDS
    if ops + p[NUM_RECORDED] * WORDS > p.size:
        return False
    step = period * WORDS
    for op in range(ops + (loop + period) * WORDS, ops + p[NUM_RECORDED] * WORDS, WORDS):
        is_transfer = p[op + HEAD] & FIELD_MASK <= _LAST_TRANSFER
        for word in range(WORDS):
            if p[op + word] != p[op - step + word] and not (word == A and is_transfer):
                return False
    return True
