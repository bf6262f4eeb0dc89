"""Sets of lines in the order of their use, and which line makes room for another one.

Lines that one transfer looked up last are of one *share*. A share knows when its look-up began, and
each line its place in it, so all lines of a share are used again by one assignment. A share also
counts its lines: as long as it lost none, all that was looked up is there.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.memory.hbm.state import Records, record, records
from accelsim.engine.memory.prefetch import prefetch
from accelsim.runtime.jit import borrow, jit_inline, jit_inner

EMPTY = 0
"""What nobody has written yet: so memory that is never looked at is never touched."""
LINE, HOME = range(2)
"""Words of a way: its line, counted from 1, or EMPTY; and from the top the number of its share, its
place there, counted from 1, and flags of whoever looks it up."""
_WAY_BITS, FLAG_BITS, _PLACE_BITS = 7, 4, 24
_FLAG_SHIFT = _WAY_BITS
_FLAG_MASK = (1 << FLAG_BITS) - 1
_PLACE_SHIFT = _FLAG_SHIFT + FLAG_BITS
_SHARE_SHIFT = _PLACE_SHIFT + _PLACE_BITS
_IN_SHARE = (1 << _SHARE_SHIFT) - 1
_WAY_MASK = (1 << _WAY_BITS) - 1
MOST_PLACES = (1 << _PLACE_BITS) - 1
"""Uses of lines in a share."""
ROW_PLACES = 64
"""Places from row to row of a transfer, so that the place of a line does not depend on what else
its row has."""
BLOCK_LINES = 128
"""Lines of an aligned block, which `set_of` mixes: they fill as many sets, one after the other."""
NO_LINE = -1
"""Number of no line."""
_NEVER = (1 << 63) - 1
_OPEN = 1 << 40
"""Lines that a share is said to have while its lines are looked up, so that it is not given up."""
_FEW = 16
"""One in so many ways: where more were filled, all are emptied as fast."""
_CACHE_LINE_WORDS = 8
"""Words that the processor which runs this fetches together."""

_STATE = record(
    "num_sets",
    "num_uses",  # of lines
    "begun_at",  # uses before the look-up of the transfer
    "share",  # number of the share of the line that is looked up
    "left",  # number of the share of the first lines of rows, where it is another one
    "right",  # and of the last lines
    "inner",  # and of all others
    "left_line",  # first line of the row, if its share is another one
    "right_line",  # and last line
    "inner_serial",  # of the first share of other lines, where they do not fit one
    "serial",  # of the last share; tells each from others that had its number before
    "num_shares",  # numbers ever given
    "num_free",  # numbers given up
)
_SHARE = record(
    "lines",  # that are of it
    "num_placed",  # lines that came to it
    "has_new",  # whether any of them was not there before
    "serial",
    "fetched_by",  # transfer that looked its lines up
    "first_fetch",  # transfers that lines were on their way with at the look-up: the first
    "last_fetch",  # and the last of them
)


Ways = npt.NDArray[np.int64]


class Sets(NamedTuple):
    """Parameters and state. A share lives as long as it has lines, so there are enough numbers."""

    state: Records
    """One record of sizes and counts."""
    ways: npt.NDArray[np.int64]
    """[set, LINE or HOME, way]."""
    begun_at: npt.NDArray[np.int64]
    """[share], uses before its lines were looked up last, shifted like a place."""
    shares: Records
    """[share]."""
    free: npt.NDArray[np.int64]
    """Numbers of shares that have no lines any more; the last one is taken next."""


def new_sets(num_sets: int, num_ways: int) -> Sets:
    """Return sets without lines."""
    state = records(1, _STATE)
    state.num_sets = num_sets
    # One for each line, that of the EMPTY ways, and those whose lines are looked up.
    numbers = num_sets * num_ways + 4
    shares = records(numbers, _SHARE)
    shares[0].lines = _NEVER
    return Sets(
        state=state,
        ways=np.zeros((num_sets, 2, num_ways), np.int64),
        begun_at=np.zeros(numbers, np.int64),
        shares=shares,
        free=np.zeros(numbers, np.int64),
    )


def last_uses(sets: Sets) -> npt.NDArray[np.int64]:
    """Return when every way was used last, counted in uses of lines; 0 if never [set, way]."""
    homes = sets.ways[:, HOME]
    used_at: npt.NDArray[np.int64] = sets.begun_at[homes >> _SHARE_SHIFT] + (homes & _IN_SHARE)
    return used_at >> _PLACE_SHIFT


def empty_ways(sets: Sets, filled: Ways) -> None:
    """Let sets be without lines again; filled: set times ways plus way of every line.

    Only serial numbers of shares go on.
    """
    state, num_ways = sets.state[0], sets.ways.shape[2]
    if len(filled) * _FEW > sets.ways.shape[0] * num_ways:
        sets.ways[...] = EMPTY
    else:
        own, way = np.divmod(filled, num_ways)
        sets.ways[own, LINE, way] = sets.ways[own, HOME, way] = EMPTY
    used, serial = int(state.num_shares) + 1, int(state.serial)
    for numbers in (
        sets.begun_at,
        sets.free,
        sets.shares.view(np.int64).reshape(len(sets.free), -1),
    ):
        numbers[:used] = 0
    sets.shares[0].lines = _NEVER
    num_sets = int(state.num_sets)
    sets.state.view(np.int64)[...] = 0
    state.num_sets, state.serial = num_sets, serial


def lines_at(sets: Sets, own: Ways, way: Ways) -> Ways:
    """Return the lines of these ways of sets, counted from 1."""
    lines: Ways = sets.ways[own, LINE, way]
    return lines


def flags_at(sets: Sets, own: Ways, way: Ways) -> Ways:
    """Return what `use_way` was told of these ways of sets."""
    return (sets.ways[own, HOME, way] >> _FLAG_SHIFT) & _FLAG_MASK


@jit_inline
def borrowed_sets(sets):
    """Return the same sets, their state as borrowed views."""
    return Sets(
        borrow(sets.state),
        borrow(sets.ways),
        borrow(sets.begun_at),
        borrow(sets.shares),
        borrow(sets.free),
    )


@jit_inner
def set_of(line, num_sets):
    """Return the set of a line: the lines of a block are mixed by the number of the block.

    So runs of lines fill the sets evenly, and no power-of-two stride stays on a few of them.
    """
    return (line ^ ((line >> 7) & 127) ^ ((line >> 14) & 127)) % num_sets


@jit_inline
def fetch_set(sets, line):
    """Let the processor that runs this fetch the set of a line that will be looked up soon."""
    own = sets.ways[set_of(line, sets.state[0].num_sets)]
    words = own.shape[0] * own.shape[1]
    for word in range(0, words, _CACHE_LINE_WORDS):
        prefetch(own, word)


@jit_inline
def begin_shares(sets, transfer, has_left, has_right):
    """Let the lines that are used from now on be of new shares; transfer: its number.

    Those that are the first or the last of their rows may be of shares of their own.
    """
    state = sets.state[0]
    state.begun_at = state.num_uses
    state.left_line = state.right_line = NO_LINE
    if has_left:
        state.left = _new_share(state, sets.begun_at, sets.shares, sets.free, transfer)
    if has_right:
        state.right = _new_share(state, sets.begun_at, sets.shares, sets.free, transfer)
    state.inner = _new_share(state, sets.begun_at, sets.shares, sets.free, transfer)
    state.share, state.inner_serial = state.inner, state.serial


@jit_inner
def begin_row(state, row, left_line, right_line):
    """Let the lines that are used from now on be of a row, whose places are its own; NO_LINE:
    it has no lines of other shares there."""
    state.num_uses = state.begun_at + row * ROW_PLACES
    state.left_line, state.right_line = left_line, right_line


@jit_inner
def choose_share(state, line):
    """Let the line that is used next be of its share."""
    state.share = state.inner
    if line == state.left_line:
        state.share = state.left
    elif line == state.right_line:
        state.share = state.right


@jit_inline
def end_shares(sets, has_left, has_right):
    """End the shares whose lines were used."""
    state = sets.state[0]
    _end_share(state, state.inner, sets.shares, sets.free)
    if has_left:
        _end_share(state, state.left, sets.shares, sets.free)
    if has_right:
        _end_share(state, state.right, sets.shares, sets.free)


@jit_inner
def _new_share(state, begun_at, shares, free, transfer):
    if state.num_free > 0:
        state.num_free -= 1
        number = free[state.num_free]
    else:
        state.num_shares += 1
        number = state.num_shares
    state.serial += 1
    begun_at[number] = state.num_uses << _PLACE_SHIFT
    share = shares[number]
    share.lines, share.serial, share.fetched_by = _OPEN, state.serial, transfer
    share.num_placed = share.has_new = share.last_fetch = 0
    share.first_fetch = _NEVER
    return number


@jit_inner
def _end_share(state, number, shares, free):
    share = shares[number]
    share.lines += share.num_placed - _OPEN
    if share.lines == 0:
        free[state.num_free] = number
        state.num_free += 1


@jit_inner
def note_new(state, shares):
    """Note that the line that is used next is not there."""
    shares[state.share].has_new = 1


@jit_inner
def note_fetch(share, transfer):
    """Note that a line of a share that is looked up was on its way with a transfer."""
    share.first_fetch = min(share.first_fetch, transfer)
    share.last_fetch = max(share.last_fetch, transfer)


@jit_inner
def use_share(sets, number, places):
    """Use all lines of a share again, so many places later than they were looked up at."""
    sets.begun_at[number] = (sets.state[0].num_uses + places) << _PLACE_SHIFT


@jit_inner
def is_whole(shares, number, serial):
    """Whether a share still has all lines that came to it."""
    share = shares[number]
    return share.serial == serial and share.lines == share.num_placed


@jit_inline
def way_of(lines, line):
    """Return the way of a set that has a line, or a negative number; lines: [way]."""
    found = np.int64(-1)
    # To the end, without a branch: where a search would stop cannot be predicted.
    for way in range(len(lines)):
        found = np.int64(way) if lines[way] == line + 1 else found
    return found


@jit_inline
def oldest_way(homes, begun_at):
    """Return the way of a set that was used longest ago; homes: [way]."""
    first = np.int64(_NEVER)
    for way in range(len(homes)):
        used_at = begun_at[share_of(homes[way])] + (homes[way] & _IN_SHARE)
        first = min(first, used_at | way)
    return first & _WAY_MASK


@jit_inline
def flags_of(home):
    """Return what `use_way` was told of a way."""
    return (home >> _FLAG_SHIFT) & _FLAG_MASK


@jit_inline
def share_of(home):
    """Return the number of the share of a way, without a sign: a faster index."""
    return np.uint64(home) >> np.uint64(_SHARE_SHIFT)


@jit_inline
def use_way(sets, own, way, line, flags):
    """Use a line, which gets this way of its set if it did not have it."""
    state, lines, homes = sets.state[0], sets.ways[own, LINE], sets.ways[own, HOME]
    if state.num_uses - state.begun_at == MOST_PLACES:
        _go_on(state, sets.begun_at, sets.shares, sets.free)
    number = share_of(homes[way])
    is_new = np.int64(number) != state.share or lines[way] != line + 1
    sets.shares[state.share].num_placed += is_new
    share = sets.shares[number]
    share.lines -= is_new
    if share.lines == 0:
        sets.free[state.num_free] = number
        state.num_free += 1
    state.num_uses += 1
    lines[way] = line + 1
    place = state.num_uses - state.begun_at
    homes[way] = (state.share << _SHARE_SHIFT) | (place << _PLACE_SHIFT) | (flags << _FLAG_SHIFT)


@jit_inner
def _go_on(state, begun_at, shares, free):
    """Let the lines of a transfer that are still to come be of another share."""
    transfer = shares[state.inner].fetched_by
    _end_share(state, state.inner, shares, free)
    state.begun_at = state.num_uses
    state.inner = state.share = _new_share(state, begun_at, shares, free, transfer)
