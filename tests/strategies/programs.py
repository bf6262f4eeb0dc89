"""Programs drawn at random, straight as words: any order of any ops on a few slots.

They need not make sense to a kernel: the engines take any program.
"""

from collections.abc import Sequence

from hypothesis import strategies as st

from accelsim.program.ops import VECTOR_OPS
from accelsim.program.program import Program
from tests import handmade

slots = st.integers(1, 5)
sizes = st.integers(1, 60)
addresses = st.integers(0, 600)
small = st.integers(1, 9)

loads = st.builds(handmade.load, slots, addresses, sizes, rows=st.integers(1, 3))
GATHERED_ROWS = (3, 0, 7, 7, 2, 9)
gathers = st.builds(
    handmade.gather, slots, addresses, sizes, rows=st.integers(1, 3), first=st.integers(0, 3)
)
stores = st.builds(handmade.store, slots, addresses, sizes, rows=st.integers(1, 3))
matmuls = st.builds(
    handmade.matmul, slots, slots, slots, small, small, small, accumulate=st.booleans()
)
int_matmuls = st.builds(
    handmade.int_matmul,
    slots,
    slots,
    slots,
    small,
    small,
    small,
    bits=st.sampled_from([(4, 4), (8, 4), (8, 8)]),
    shifts=st.integers(0, 3),
    order=st.integers(0, 5),
    accumulate=st.booleans(),
)
moves = st.builds(handmade.move, slots, slots, small, small, read_bytes=sizes, written_bytes=sizes)
vectors = st.builds(
    handmade.vector,
    slots,
    sizes,
    reads=st.lists(slots, max_size=3),
    op=st.sampled_from(list(VECTOR_OPS)),
    read_bytes=st.integers(0, 60),
    written_bytes=sizes,
)
compute_ops = matmuls | int_matmuls | moves | vectors
all_ops = loads | gathers | stores | compute_ops
phase_steps = st.sampled_from([0, 0, 0, 1, 2])


def _program(drawn: Sequence[tuple[list[handmade.Words], int]]) -> Program:
    """Make a program of (ops, phases that end before the item)."""
    phases, phase = [], 0
    for _, step in drawn:
        phase += step
        phases.append(phase)
    items = [ops for ops, _ in drawn]
    return handmade.program_of(items, phases, gathered_rows=GATHERED_ROWS)


def programs(
    ops: st.SearchStrategy[handmade.Words] = all_ops,
    *,
    min_ops: int = 0,
    max_ops: int = 7,
    max_items: int = 6,
) -> st.SearchStrategy[Program]:
    """Return a strategy of programs; items may be empty, phases may be skipped."""
    item = st.tuples(st.lists(ops, min_size=min_ops, max_size=max_ops), phase_steps)
    return st.lists(item, max_size=max_items).map(_program)
