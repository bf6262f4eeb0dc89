"""What compiled code knows of a product, of a machine and of each tiling."""

from typing import Any, NamedTuple

M, N, K, STAGES, FEWEST, SPLITS, SWIZZLE, SUM_SLOTS, PRODUCT, LATENCY = range(10)
LEFT, RIGHT, SLOT, BESIDE, RANGED = range(10, 15)
NUM_FIELDS = 15
"""Rows of what is known of a tiling: sizes; the most and the fewest slots of the operands that are
tried; ranges of k, tile rows that are walked together, and slots of the accumulator, 0 where they
are chosen; cycles of the product of a step, and from its end until others see the sums; bytes of a
load of each operand; bytes on chip of a slot of both operands, and of all beside them with one
range and with several."""

MERGED_ELEMENTS = 4096
"""Elements of C in a work item of the second phase, unless its row is longer (assumption)."""


class Facts(NamedTuple):
    """Numbers of a product and of a machine; times in cycles, rates in bytes a cycle."""

    m: float
    n: float
    k: float
    matrices: float
    """That B is: each is multiplied with rows of its own."""
    rows: Any
    """Of each matrix."""
    filled: float
    """Share of the rows of tiles that are there; all take their time to multiply."""
    out_bytes: float
    """Of an element of C."""
    cores: float
    overlaps: bool
    """Whether an item is claimed before the one before has ended."""
    in_flight: float
    """Steps whose loads fit the load queue."""
    load: float
    store: float
    results: float
    """Of stores of all cores, in the memory that takes them."""
    accumulator: float
    add: float
    """Cycles of an element of FP32, where many are added."""
    scratchpad_bytes: float
    hbm: float
    l2: float
    """0: there is none."""
    kept_bytes: float
    """What an L2 keeps until it is used again."""
    hit: float
    miss: float
    launch: float
    launch_merge: float
    """Of a second phase."""


class Wave(NamedTuple):
    """What cores work on at the same time."""

    cores: float
    ranges: float
    """Of k."""
    band: float
    """Tile rows that are walked together, column by column."""
    rows: float
    """Tile rows and columns."""
    cols: float
    steps: float
    """Of an item."""
    stages: float
    """Slots of the operands."""
