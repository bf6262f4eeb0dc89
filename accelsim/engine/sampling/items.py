"""How many ops the items of a program have, and which of them are scheduled."""

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from accelsim.program.long import AnyProgram, LongProgram, Segments
from accelsim.program.program import Program

_GRID = 512
"""Items of a phase that are recorded for their ops, at even distances."""
_MOST_RECORDED = 4096
"""Items of a phase that are recorded for their ops at most."""
_CLOSE = 0.002
"""Share of the largest item by which one may differ from what its neighbours say."""
_PIECE_OPS = 1 << 20


def num_ops_of(program: AnyProgram) -> npt.NDArray[np.float64]:
    """Return how many ops every item has.

    Of a program that is not held, some items are recorded, and the others are taken to lie on
    straight lines between them. Between two neighbours the item in the middle is recorded too, as
    long as it does not lie on the line.
    """
    if isinstance(program, Program):
        return np.diff(program.item_start).astype(np.float64)
    found = np.zeros(len(program.item_phase))
    for first, after in ranges_of(program.item_phase):
        found[first:after] = _num_ops_within(program, first, after)
    return found


def ranges_of(phases: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the first item of each phase, and the one after its last; phases come in order."""
    cuts = np.flatnonzero(np.diff(phases)) + 1
    ends = [0, *cuts.tolist(), len(phases)]
    return list(itertools.pairwise(ends))


def play(
    program: AnyProgram, take: Callable[[Program], None], piece_ops: int, wanted: Segments
) -> None:
    """Hand segments of items to `take`, each in one or more pieces; raises as `LongProgram.play`"""
    if isinstance(program, LongProgram):
        program.play(take, piece_ops, wanted=wanted)
        return
    for first, after in wanted:
        take(program.part(first, after))


def _num_ops_within(program: LongProgram, first: int, after: int) -> npt.NDArray[np.float64]:
    """Return the ops of the items of a phase."""
    grid = np.unique(np.linspace(first, after - 1, _GRID).astype(np.int64))
    known, ops = grid, _recorded(program, grid)
    while len(known) < _MOST_RECORDED:
        middles = (known[:-1] + known[1:]) // 2
        is_bent = np.abs(np.diff(ops)) > _CLOSE * ops.max()
        new = middles[is_bent & (middles > known[:-1])]
        if not len(new):
            break
        found = _recorded(program, new)
        known, ops = np.append(known, new), np.append(ops, found)
        order = np.argsort(known)
        known, ops = known[order], ops[order]
    return np.interp(np.arange(first, after), known, ops)


def _recorded(program: LongProgram, items: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the ops of some items."""
    lengths: list[npt.NDArray[np.int64]] = []
    program.play(
        lambda piece: lengths.append(np.diff(piece.item_start)),
        _PIECE_OPS,
        wanted=[(item, item + 1) for item in items.tolist()],
    )
    return np.concatenate(lengths).astype(np.float64)
