"""Gathers of rows measured on an NVIDIA H200 SXM, against a banked HBM3 behind the machine's L2.

A kernel sums rows of a table of 8 GiB: it reads 4-byte row numbers and the rows, and writes four
bytes a row. One stack of the machine's memory is simulated on a part of the rows, all known to its
controllers at once, and stands for all stacks; row numbers and sums are streams. The memory moves
64 bytes at least.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat, PositiveInt

from accelsim.engine.memory.door import new_memory, request, traffic_of
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.program.ops import WORDS, Op
from accelsim.program.program import Program
from accelsim.program.transfer import Transfer
from accelsim.validation.reference import Reference, Row

ACCESS_BYTES = 64
"""Two sectors, what the L2 fetches by default (CUDA runtime, cudaLimitMaxL2FetchGranularity)."""
STACKS = 6
"""Of the board (NVIDIA H200 data sheet)."""
_STACK = {
    "kind": "banked",
    "standard": "hbm3",
    "stacks": 1,
    "mapping": [
        *("row", "bank", "rank", "bank_group:1", "channel", "pseudo_channel"),
        *("column", "bank_group:1", "column:2"),
    ],
    "hashed": ["bank", "channel", "pseudo_channel"],
    "controller": {"window": 128, "write_window": 64},
    "latency": 0.0,
}
"""Assumption: addresses and queues as those of `ascend-910b-banked`; the real ones are not public.
One latency for the whole sample would say nothing."""
_WORD_BYTES = 4
"""Of a row number, and of a sum."""
_SAMPLE_BYTES = 2**22
"""Bytes of rows that are simulated: 128 KiB for each of the 32 pseudo-channels of a stack."""
_STREAM_ROW_BYTES = 1024
_SEED = 0


class GatherRow(Row):
    """One gather."""

    row_bytes: PositiveInt
    kept: float = Field(gt=0, le=1)
    """Share of the rows of the span that are read."""
    order: Literal["sorted", "random"]
    rows: PositiveInt
    """Rows that are read."""
    time_us: PositiveFloat


class Gathering(NamedTuple):
    """A run of the kernel."""

    useful_bytes: int
    """Bytes of the rows."""
    moved_bytes: float
    """What the memory moves: whole accesses, row numbers and sums."""
    time_s: float


def gathering(row: GatherRow, machine: MachineSpec) -> Gathering:
    """Return the run of what a row measured."""
    stream_bytes_per_s, _ = _gather(machine, _STREAM_ROW_BYTES, 1.0, None)
    span_rows = max(1, round(row.rows / row.kept / STACKS)) if row.order == "random" else None
    gathered_bytes_per_s, accessed = _gather(machine, row.row_bytes, row.kept, span_rows)
    useful_bytes = row.rows * row.row_bytes
    streamed_bytes = 2 * row.rows * _WORD_BYTES
    time_s = useful_bytes / gathered_bytes_per_s + streamed_bytes / stream_bytes_per_s
    return Gathering(
        useful_bytes, accessed * useful_bytes + streamed_bytes, time_s + machine.launch
    )


def useful_bytes_per_s(row: GatherRow, machine: MachineSpec) -> float:
    """Return the bytes of rows that a second of the kernel brings."""
    run = gathering(row, machine)
    return run.useful_bytes / run.time_s


def _gather(
    machine: MachineSpec, row_bytes: int, kept: float, span_rows: int | None
) -> tuple[float, float]:
    """Return the useful rate of all stacks, in bytes per second, and bytes accessed a useful one.

    span_rows: rows of a stack from which they are drawn; None: they come in order.
    """
    stack = _one_stack(machine)
    count = max(1, _SAMPLE_BYTES // row_bytes)
    generator = np.random.default_rng(_SEED)
    if span_rows is None:
        rows = np.flatnonzero(generator.random(round(count / kept)) < kept)
    else:
        rows = generator.choice(span_rows, min(count, span_rows), replace=False)
    cycles, accessed_bytes = _simulate(stack, rows, row_bytes)
    useful_bytes = len(rows) * row_bytes
    rate = STACKS * useful_bytes * machine.clock / cycles
    return min(rate, machine.hbm.bandwidth), accessed_bytes / useful_bytes


def _one_stack(machine: MachineSpec) -> MachineSpec:
    """Return the machine with one banked stack behind its share of the L2.

    The L2 fetches accesses of the memory. HBM3 at 6.4 Gb/s a pin has 819 GB/s a stack, the HBM3E
    of the board 800.
    """
    hbm = BankedHbmSpec.model_validate(_STACK)
    l2 = machine.l2
    if l2:
        sets = max(1, l2.sets // STACKS)
        share = {
            "capacity": sets * l2.ways * l2.line,
            "bandwidth": l2.bandwidth / STACKS,
            "sector": ACCESS_BYTES,
        }
        l2 = l2.model_copy(update=share)
    return machine.model_copy(update={"hbm": hbm, "l2": l2})


def _simulate(machine: MachineSpec, rows: npt.NDArray[np.int64], row_bytes: int) -> tuple[int, int]:
    """Return the cycles of a gather and the bytes that the memory moves for it."""
    op = np.zeros((1, WORDS), np.int64)
    op[0, :] = Op.GATHER, 0, 0, 0, len(rows), row_bytes, 0
    program = Program("gather", op, np.array([0, 1]), np.zeros(1, np.int64), (), (), rows)
    gather = Transfer(0, len(rows), row_bytes, row_bytes, 0, is_write=False)
    memory = new_memory(machine, program)
    cycles = int(request(memory, 0, gather))
    return cycles, traffic_of(memory, program.totals.requested).hbm_read_bytes


def label_of(row: GatherRow) -> str:
    """Return the gather in a few words."""
    return f"{row.row_bytes} B, {row.kept:g} kept"


REFERENCE = Reference(
    name="h200-gather",
    summary="useful bandwidth of gathered rows measured on an NVIDIA H200 SXM",
    row=GatherRow,
    file="h200-gather.csv",
    quantity="bandwidth_bytes_per_s",
    kind_of=lambda row: row.order,
    label_of=label_of,
    value_of=lambda row: row.rows * row.row_bytes / (row.time_us * 1e-6),
    predict=useful_bytes_per_s,
    machine="h200-sxm",
)
